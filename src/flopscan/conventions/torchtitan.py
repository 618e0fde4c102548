"""torchtitan's FLOPs of a training step: 6 (N - E) + 6 L H (d_qk + d_v) T a token; of experts those that are chosen.

E are the token embeddings; an output head that shares their weights is left out with them. The parameters of a module
called `experts` count by `top_k` of `num_experts`; Mamba, linear attention and convolutions count by their parameters.
"""

from __future__ import annotations

from flopscan.conventions import _language
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, Trace


def _chosen(trace: Trace) -> tuple[int, int]:
    """How many experts a token takes, of how many: what a module of the model says."""
    for record in trace.records:
        call = trace.calls[record.call]
        if record.envelope and call.op.startswith("module::"):
            settings = dict(call["settings"])
            taken, experts = settings.get("top_k") or settings.get("num_experts_per_tok"), settings.get("num_experts")
            if isinstance(taken, int) and isinstance(experts, int):
                return taken, experts
    return 1, 1


def _whole(ledger: Ledger) -> list[int]:
    embeddings, (taken, experts) = _language.embeddings(ledger.trace), _chosen(ledger.trace)

    def left_out(path: str, call: Call | None, params: int) -> int:
        if "experts" in path.split("."):
            return params - params * taken // experts
        return embeddings(path, call, params)

    each = 6 * _language.tokens(ledger, "torchtitan")
    return _language.spread(ledger, per_parameter=each, but=left_out, per_pair=lambda keys, values: 6 * (keys + values))


CONVENTION = Convention(
    name="torchtitan",
    version="2026-09",
    unit="FLOP",
    summary="6 per active parameter that is no embedding and token, 6 per pair and width of keys and values: a step",
    source="pytorch/torchtitan 2026-09, torchtitan/models/utils.py, get_dense_ and get_moe_model_nparams_and_flops",
    whole=_whole,
)

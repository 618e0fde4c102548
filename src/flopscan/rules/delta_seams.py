"""Where the delta rules are called: flash-linear-attention's functions, and those of transformers' models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.trace import TensorSpec
from flopscan.rules import seam

_TENSORS = {"q": "query", "k": "key", "v": "value", "g": "decay"}
_KEPT = (
    "query", "key", "value", "decay", "beta", "initial_state", "scale", "use_qk_l2norm_in_kernel",
    "use_beta_sigmoid_in_kernel", "allow_neg_eigval", "chunk_size", "safe_gate", "disable_recompute",
)  # fmt: skip
_IN_KERNEL = ("use_gate_in_kernel", "A_log", "dt_bias", "lower_bound")


def _values_first(bound: Operands) -> bool:
    """Whether a state lies value by key; the flag had another name before."""
    return bool(bound.get("state_v_first") or bound.get("transpose_state_layout"))


def own(bound: Operands) -> Operands:
    """The operands of the definition: flags that are set, the decay's parameters where the kernel makes it of them.

    A state is given key by value, as the definition has it.
    """
    if bound.get("gk") is not None or bound.get("gv") is not None:
        raise ValueError("decays a key or a value beside g have no formula")
    named = {_TENSORS.get(name, name): value for name, value in bound.items()}
    kept = (*_KEPT, *_IN_KERNEL) if named.get("use_gate_in_kernel") else _KEPT
    operands = {name: value for name in kept if (value := named.get(name)) is not None and value is not False}
    if "initial_state" in operands and _values_first(bound):
        s, h, v, k = operands["initial_state"].shape
        operands["initial_state"] = TensorSpec((s, h, k, v), operands["initial_state"].dtype)
    return operands


def _state(bound: Operands, query: TensorSpec, value: TensorSpec) -> TensorSpec | None:
    """The last state in float32, one for each sequence, where it is asked for."""
    if not bound["output_final_state"]:
        return None
    packed = bound["cu_seqlens"]
    sequences = query.shape[0] if packed is None else packed.shape[0] - 1
    (h, v), k = value.shape[2:], query.shape[3]
    return TensorSpec((sequences, h, *((v, k) if _values_first(bound) else (k, v))), "float32")


def _results(like: str) -> Callable[[Operands], Outputs]:
    """The output, shaped as the value in the dtype of ``like``, and the last state or None."""

    def outputs(bound: Operands) -> Outputs:
        named: dict[str, Any] = {_TENSORS.get(name, name): value for name, value in bound.items()}
        query, value = named["query"], named["value"]
        out, last = TensorSpec(value.shape, named[like].dtype), _state(bound, query, value)
        if not named.get("return_intermediate_states"):
            return out, last
        if bound["cu_seqlens"] is not None:
            raise ValueError("how many chunks packed sequences have is not in their shapes")
        b, l, _, k = query.shape
        h, v = value.shape[2:]
        chunks = -(-l // bound["chunk_size"])
        rows = (v, k) if _values_first(bound) else (k, v)
        return out, last, TensorSpec((b, chunks, h, *rows), named["key"].dtype)

    return outputs


_FLAGS = "use_qk_l2norm_in_kernel=False"
_BETA = "use_beta_sigmoid_in_kernel=False, allow_neg_eigval=False"
_START = "scale=None, initial_state=None, output_final_state=False"
_PACKED = "cu_seqlens=None, cu_seqlens_cpu=None"
_GATE = "use_gate_in_kernel=False, A_log=None, dt_bias=None"
_KEYWORDS = "chunk_size=64, transpose_state_layout=False"
_FLA = (
    (
        "gated_delta_rule",
        ("chunk_gated_delta_rule", "chunk_gdn"),
        f"q, k, v, g, beta, {_START}, {_FLAGS}, {_BETA}, state_v_first=False, {_PACKED}, chunk_indices=None,"
        f" cp_context=None, {_GATE}, {_KEYWORDS}",
        True,
    ),
    (
        "gated_delta_rule",
        ("fused_recurrent_gated_delta_rule", "fused_recurrent_gdn"),
        f"q, k, v, g=None, gk=None, gv=None, beta=None, {_START}, {_FLAGS}, {_GATE}, {_BETA}, state_v_first=False,"
        " cu_seqlens=None, transpose_state_layout=False",
        False,
    ),
    (
        "kda",
        ("chunk_kda",),
        f"q, k, v, g, beta, {_START}, {_FLAGS}, use_gate_in_kernel=False, {_BETA}, safe_gate=False, lower_bound=None,"
        f" disable_recompute=False, return_intermediate_states=False, state_v_first=False, {_PACKED}, cp_context=None,"
        f" use_graph=False, max_num_seqs=None, A_log=None, dt_bias=None, {_KEYWORDS}",
        True,
    ),
    (
        "kda",
        ("fused_recurrent_kda",),
        f"q, k, v, g, beta, A_log=None, dt_bias=None, {_START}, {_FLAGS}, use_gate_in_kernel=False, {_BETA},"
        " lower_bound=None, state_v_first=False, cu_seqlens=None, transpose_state_layout=False",
        False,
    ),
)  # the last: whether it goes by chunks and has a gradient
for _rule, _names, _signature, _by_chunks in _FLA:
    for _module in ("fla.ops", f"fla.ops.{_rule}"):
        for _name in _names:
            seam(
                Seam(
                    f"{_module}:{_name}",
                    f"flopscan::{_rule}",
                    _signature,
                    _results("query" if _by_chunks else "value"),
                    backward=f"flopscan::{_rule}_backward" if _by_chunks else None,
                    operands=own,
                    version="0.6",
                )
            )

_TRANSFORMERS = (
    ("gated_delta_rule", "torch_chunk_gated_delta_rule", "chunk_size=64, initial_state=None, output_final_state=False"),
    ("gated_delta_rule", "torch_recurrent_gated_delta_rule", "initial_state=None, output_final_state=False"),
    ("kda", "chunk_kimi_delta_attention", "chunk_size=64, initial_state=None, output_final_state=False"),
    ("kda", "recurrent_kimi_delta_attention", "initial_state, output_final_state"),
)
for _rule, _name, _rest in _TRANSFORMERS:
    seam(
        Seam(
            f"transformers.models.*:{_name}",
            f"flopscan::{_rule}",
            f"query, key, value, g, beta, {_rest}, {_FLAGS}, cu_seqlens=None, **kwargs",
            _results("query"),
            backward=f"flopscan::{_rule}_backward",
            operands=own,
        )
    )

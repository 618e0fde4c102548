"""PaLM's model FLOPs of a training step: 6 N + 12 L H Q T a token, the full square of attention.

N is every parameter, L layers of H heads that are Q wide see T positions; here L, H, Q and T are those of each
attention in the trace. 12 is 2 products, 2 FLOPs and 3 passes.
"""

from __future__ import annotations

from flopscan.conventions import _language
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger


def _whole(ledger: Ledger) -> list[int]:
    each = 6 * _language.tokens(ledger, "palm")
    return _language.spread(ledger, per_parameter=each, but=lambda *_: 0, per_pair=lambda keys, _: 12 * keys)


CONVENTION = Convention(
    name="palm",
    version="arXiv 2204.02311",
    unit="FLOP",
    summary="6 per parameter and token, 12 per pair of positions and width of a head: a training step",
    source="Chowdhery et al., arXiv 2204.02311, appendix B",
    whole=_whole,
)

"""6ND: six for each parameter and token of a training step, embeddings included, attention's pairs left out.

Two of the six are the forward pass's multiply-add, four the two gradients' (Kaplan et al., 2020, section 2.1, where N
is without embeddings; Hoffmann et al., 2022, with them, as here). Every parameter counts, an idle expert's too.
"""

from __future__ import annotations

from flopscan.conventions import _language
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger


def _whole(ledger: Ledger) -> list[int]:
    each = 6 * _language.tokens(ledger, "6nd")
    return _language.spread(ledger, per_parameter=each, but=lambda *_: 0, per_pair=lambda *_: 0)


CONVENTION = Convention(
    name="6nd",
    version="arXiv 2001.08361",
    unit="FLOP",
    summary="6 per parameter and token: a training step of a language model, whatever part of it was captured",
    source="Kaplan et al., arXiv 2001.08361, section 2.1; Hoffmann et al., arXiv 2203.15556, appendix F",
    whole=_whole,
)

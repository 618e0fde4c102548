"""transformers' Trainer, total_flos of a step: 6 for each element of the main input and parameter but embeddings'.

The main input is what the model is called with first: tokens, but also the pixels of an image, each taken as a token.
An output head that shares the embedding's weights is left out with them; attention is left out.
"""

from __future__ import annotations

from flopscan.conventions import _language
from flopscan.core.convention import Convention
from flopscan.core.ledger import Ledger


def _whole(ledger: Ledger) -> list[int]:
    each = 6 * _language.first_operand(ledger, "hf-trainer").numel
    return _language.spread(ledger, per_parameter=each, but=_language.embeddings(ledger.trace), per_pair=lambda *_: 0)


CONVENTION = Convention(
    name="hf-trainer",
    version="5.23.0",
    unit="FLOP",
    summary="6 per parameter that is no embedding and element of the main input: a training step, as Trainer logs it",
    source="transformers 5.23, trainer.py, Trainer.floating_point_ops; modeling_utils.py, num_parameters",
    whole=_whole,
)

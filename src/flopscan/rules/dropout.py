"""Dropout where it is one operator. Drawing random numbers is not arithmetic of the model."""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, select
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import pointwise, rule


def _drop(call: Call) -> dict[str, Any]:
    return {"n": call["input"].numel, "dropping": call.get("train", True) and call["p"] > 0}


def _kept(input: Array) -> tuple[Array, None]:
    """Dropout at a rate of almost 0: no draw is below it. The draw is a plain number, its comparison is counted."""
    return input.map(lambda x: select(x >= 0.0, x * 1.0, 0.0)), None


@rule(
    "aten::native_dropout",
    sizes=_drop,
    reference=_kept,
    example=lambda m, n: {"input": TensorSpec((m, n), "float64"), "p": 1e-18, "train": True},
)
def native_dropout(n: Any, dropping: Any) -> Cost:
    """A draw compared with the rate and a scaling an element; in evaluation nothing."""
    return Cost(mul=n, cmp=n) if dropping else Cost()


@rule(
    "aten::_fused_dropout", "aten::_masked_scale",
    sizes=lambda call: {"n": call["self"].numel},
    source="the forms of native_dropout and native_dropout_backward on CUDA alone",
)  # fmt: skip
def fused_dropout(n: Any) -> Cost:
    """A selection, by a draw or by the stored mask, and a scaling an element."""
    return Cost(mul=n, cmp=n)


@pointwise("aten::native_dropout_backward", example=lambda m, n: {
    "grad_output": TensorSpec((m, n), "float64"), "mask": TensorSpec((m, n), "bool"), "scale": 1.25,
})  # fmt: skip
def native_dropout_backward(grad_output: Any, mask: Any, scale: Any) -> Any:
    """A scaling and a selection by the stored mask."""
    return select(mask, grad_output * scale, 0.0)

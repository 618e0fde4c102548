"""The few families that the chart has colours for, and what belongs to them."""

from __future__ import annotations

from collections.abc import Iterable

from flopscan.report.families import family
from flopscan.report.page.packing import measures
from flopscan.report.page.values import Line

OTHER = "other"
_GROUPS: dict[str, tuple[str, ...]] = {
    "convolution": ("convolution",),
    "products": ("linear", "matrix products", "bilinear layer", "einsum", "embedding", "recurrent layers"),
    "attention": ("attention products", "multi-head attention"),
    "scan": ("selective scan", "SSD", "delta rule"),
    "norm": ("layer norm", "RMS norm", "batch norm", "group norm", "instance norm"),
    "activation": ("activations", "softmax", "dropout"),
    "elementwise": ("elementwise", "reductions", "pooling", "interpolation", "FFT"),
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names}
LABELS = {
    "convolution": "convolution",
    "products": "linear, matrix products",
    "attention": "attention",
    "scan": "scan",
    "norm": "norm",
    "activation": "activation, softmax",
    "elementwise": "elementwise, reduction",
    OTHER: "other",
}


def group_of(name: str) -> str:
    """The colour family of an operator, function or class by its name in a trace."""
    return _GROUP_OF.get(family(name), OTHER)


def heaviest(operators: Iterable[tuple[str, Line]]) -> str:
    """The family of the operator with the most arithmetic, then the most bytes; `OTHER` for none."""
    weighed = [(measures(line)[-1], line.cost.read + line.cost.written, name) for name, line in operators if line.calls]
    return group_of(max(weighed, key=lambda w: w[:2])[2]) if weighed else OTHER

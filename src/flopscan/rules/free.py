"""Operators known to be free: neither arithmetic nor bytes. The reason stands beside each group."""

from __future__ import annotations

from flopscan.core.cost import ZERO
from flopscan.rules import rule


def _free(reason: str, *ops: str) -> None:
    rule(*ops, source=reason, moves=lambda call: (0, 0), complex=lambda cost: cost)(lambda: ZERO)


_free(
    "a view: only sizes, strides and an offset change",
    "aten::view", "aten::_unsafe_view", "aten::reshape", "aten::_reshape_alias", "aten::t", "aten::transpose",
    "aten::permute", "aten::expand", "aten::expand_as", "aten::squeeze", "aten::unsqueeze", "aten::select",
    "aten::slice", "aten::split", "aten::split_with_sizes", "aten::chunk", "aten::unbind", "aten::narrow",
    "aten::as_strided", "aten::alias", "aten::detach", "aten::diagonal", "aten::unfold", "aten::view_as_real",
    "aten::view_as_complex", "aten::_conj", "aten::_neg_view", "aten::real", "aten::imag", "aten::movedim",
    "aten::lift", "aten::lift_fresh", "aten::lift_fresh_copy",
)  # fmt: skip
_free(
    "memory is reserved, nothing is written",
    "aten::empty", "aten::empty_strided", "aten::empty_like", "aten::new_empty", "aten::new_empty_strided",
)  # fmt: skip
_free(
    "a value is handed to Python",
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal",
)  # fmt: skip

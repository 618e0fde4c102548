"""flopscan's formulas in the registry of torch's own FlopCounterMode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.utils import flop_counter

import flopscan.ops  # noqa: F401  (its operators are registered then)
from flopscan import conventions, rules
from flopscan.analysis import price_call
from flopscan.capture.engine import operator_of
from flopscan.capture.operators import call_of
from flopscan.core.convention import Convention
from flopscan.errors import UsageError, warn

CPU_ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"
PRODUCTS = (
    "aten::dot", "aten::vdot", "aten::mv", "aten::addmv", "aten::addbmm", "aten::_addmm_activation", "aten::_trilinear",
    "aten::_int_mm", "aten::_grouped_mm", "aten::_scaled_grouped_mm", "aten::_weight_int8pack_mm",
    "aten::_weight_int4pack_mm", "aten::mkldnn_convolution", "aten::miopen_convolution",
    "aten::cudnn_convolution_transpose", "aten::_conv_depthwise2d", "aten::conv_depthwise3d", "aten::_cdist_forward",
    CPU_ATTENTION, f"{CPU_ATTENTION}_backward", "aten::_scaled_dot_product_fused_attention_overrideable",
    "flopscan::selective_scan", "flopscan::selective_scan_backward", "flopscan::cross_selective_scan",
    "flopscan::cross_selective_scan_backward", "flopscan::selective_state_update", "flopscan::causal_conv1d",
    "flopscan::causal_conv1d_backward", "flopscan::causal_conv1d_update",
    "DaoAILab::_causal_conv1d_fwd_cpp", "DaoAILab::_causal_conv1d_update_cpp", "DaoAILab::_causal_conv1d_bwd_cpp",
)  # fmt: skip


class Installed:
    """Formulas in torch's registry, taken out by `uninstall` or at the end of a ``with``."""

    def __init__(self, formulas: Mapping[Any, Callable[..., int]]) -> None:
        self._formulas = dict(formulas)
        flop_counter.flop_registry.update(self._formulas)

    @property
    def names(self) -> list[str]:
        """The operators that have flopscan's formula now."""
        return sorted(packet._qualified_op_name for packet in self._formulas)

    def uninstall(self) -> None:
        """Take the formulas out again; those that somebody replaced stay."""
        for packet, formula in self._formulas.items():
            if flop_counter.flop_registry.get(packet) is formula:
                del flop_counter.flop_registry[packet]
        self._formulas = {}

    def __enter__(self) -> Installed:
        return self

    def __exit__(self, *error: Any) -> None:
        self.uninstall()


def install(*operators: str, convention: str = "flops") -> Installed:
    """Give torch's own FlopCounterMode flopscan's formulas for operators that it has none for.

    ``operators`` are names (``aten::gelu``); none means the products and scans among those that are there. A formula
    gives what the operator counts under ``convention``. Raises UsageError for a name that torch, or a rule, lacks.
    """
    chosen = conventions.get(convention)
    formulas = {}
    for name in operators or PRODUCTS:
        packet = _packet(name)
        if packet is None or rules.find(name) is None:
            if operators:
                raise UsageError(f"{name!r} is no operator of torch that flopscan has a rule for")
            continue
        if packet not in flop_counter.flop_registry:
            formulas[packet] = _formula(packet, chosen)
    return Installed(formulas)


def _packet(name: str) -> Any:
    space, _, plain = name.partition("::")
    return getattr(getattr(torch.ops, space), plain, None) if plain else None


def _formula(packet: Any, convention: Convention) -> Callable[..., int]:
    overloads = [getattr(packet, name) for name in packet.overloads()]

    def count(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        call = call_of(operator_of(_overload(overloads, args, kwargs)), args, kwargs, out_val, bare=False)
        found = price_call(call)
        if found.ideal is None:
            warn("FS303", f"a call of {call.op} is not counted: {found.note}")
            return 0
        return convention.of(call, found.ideal)

    count._get_raw = True  # type: ignore[attr-defined]
    return count


def _overload(overloads: list[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The overload that such operands are those of, the plain ones before those with ``out``."""

    def misfits(overload: Any) -> int:
        arguments = overload._schema.arguments
        names = {a.name for a in arguments}
        kinds = zip(arguments, args, strict=False)
        wrong = sum(("Tensor" in str(a.type)) != _has_tensor(value) for a, value in kinds if value is not None)
        return wrong + len(set(kwargs) - names) + max(0, len(args) - len(arguments)) + ("out" in names)

    return min(overloads, key=misfits)


def _has_tensor(value: Any) -> bool:
    values: Iterable[Any] = value if isinstance(value, (list, tuple)) else (value,)
    return any(isinstance(v, torch.Tensor) for v in values)

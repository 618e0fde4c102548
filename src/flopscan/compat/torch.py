"""torch's FlopCounterMode, counted by flopscan, and flopscan's formulas for torch's own.

``from flopscan.compat.torch import FlopCounterMode`` in the place of torch.utils.flop_counter: the numbers are those of
the torch that is installed, kernels of state-space models among them, which torch's own does not see. Where it names
the module of a gradient by hooks, and takes the whole of a backward pass for a module that returns what it was given,
a gradient here counts for the module that it is the gradient of.

``install()`` is the other way round: torch's own counter, with formulas for what it has none for.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import register_flop_formula

from flopscan import conventions, rules
from flopscan.analysis import price
from flopscan.capture.running import Counting
from flopscan.compat._ancestors import Modules
from flopscan.compat._dispatched import Operands, as_operand, dispatched
from flopscan.compat._torch_formulas import CPU_ATTENTION, Installed, install
from flopscan.conventions import dispatcher
from flopscan.conventions.torch import KERNELS
from flopscan.core.convention import Convention, Handle
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call
from flopscan.errors import UsageError

_ATTENTION = "flopscan::scaled_dot_product_attention"
_FUSED = {"cpu": CPU_ATTENTION, "cuda": "aten::_scaled_dot_product_flash_attention"}
_SUFFIXES = ("", "K", "M", "B", "T")
Counts = defaultdict[str, defaultdict[Any, int]]


class FlopCounterMode:
    """Counts what runs inside: ``with FlopCounterMode() as counter: model(x).sum().backward()``.

    ``custom_mapping`` gives formulas of shapes for operators (``torch.ops.aten.gelu``); ``display`` prints the table
    at the end, ``depth`` levels deep. ``mods`` is not needed, as in torch.
    """

    def __init__(
        self,
        mods: Any = None,
        depth: int | None = 2,
        display: bool = True,
        custom_mapping: Mapping[Any, Callable[..., int]] | None = None,
    ) -> None:
        if mods is not None:
            warnings.warn("mods is not needed: every module that is called is seen", stacklevel=2)
        self.depth = depth
        self.display = display
        self._custom = {_name(op): formula for op, formula in (custom_mapping or {}).items()}
        self._keys = {_name(op): op for op in custom_mapping or {}}
        self._counting: Counting | None = None
        self._device = "cpu"
        self._counted: tuple[int, Counts] | None = None
        self._running = False

    def __enter__(self) -> FlopCounterMode:
        if self._running:
            raise UsageError("this FlopCounterMode is already counting; make another one for a count inside of a count")
        counting = self._counting = Counting(seams=rules.seams())
        attention = counting.engine.attention

        def noted(*args: Any, **kwargs: Any) -> Any:
            query = args[0] if args else kwargs["query"]
            self._device = query.device.type
            return attention(*args, **kwargs)

        counting.engine.attention = noted  # type: ignore[method-assign]
        self._counted, self._running = None, True
        counting.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._counting is not None
        self._running = False
        self._counting.__exit__(*error)
        if self.display:
            print(self.get_table(self.depth))

    @property
    def flop_counts(self) -> Counts:
        """FLOPs by module name, ``Global`` for all, and by operator."""
        if self._counting is None:
            return defaultdict(lambda: defaultdict(int))
        trace = self._counting.trace
        seen = sum(record.count for record in trace.records)
        if self._counted is None or self._counted[0] != seen:
            self._counted = seen, self._counts(price(trace))
        return self._counted[1]

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """The same as plain dictionaries."""
        return {name: dict(counts) for name, counts in self.flop_counts.items()}

    def get_total_flops(self) -> int:
        """FLOPs of all that ran."""
        return sum(self.flop_counts["Global"].values())

    def get_table(self, depth: int | None = None) -> str:
        """FLOPs and shares of each module and operator, ``depth`` levels deep."""
        counts = self.flop_counts
        depth = self.depth if depth is None else depth
        whole = sum(counts["Global"].values())
        shown = [name for name in sorted(counts) if name != "Global" and (depth is None or name.count(".") < depth)]
        subsumed = any(sum(counts[name].values()) >= whole for name in shown)
        rows: list[tuple[str, str, str]] = []
        for name in shown if subsumed else ("Global", *shown):
            indent = " " * (name.count(".") + (not subsumed and name != "Global"))
            lines = [(name, sum(counts[name].values())), *((f" - {k}", v) for k, v in counts[name].items())]
            rows += [(indent + label, _short(count, whole), _share(count, whole)) for label, count in lines]
        return _aligned([("Module", "FLOP", "% Total"), *(rows or [("Global", "0", "0%")])])

    def _counts(self, ledger: Ledger) -> Counts:
        convention = self._convention()
        names = [_plain(path) for path in _shallowest(ledger)]
        modules = Modules(ledger, "caller", names)
        found: Counts = defaultdict(lambda: defaultdict(int))
        for record, count in zip(ledger.trace.records, convention.counts(ledger), strict=True):
            call = ledger.trace.calls[record.call]
            if count or (not record.envelope and call.op in convention.handles and call.op in self._keys):
                for name in {"Global", *modules.of(record)} - {""}:
                    found[name][self._key(call)] += count
        return found

    def _convention(self) -> Convention:
        """torch's counter as it is in the torch that is installed, with kernels and the user's formulas."""
        later = (
            self._device != "cpu"
            or torch.ops.aten._scaled_dot_product_flash_attention_for_cpu in flop_counter.flop_registry
        )
        convention = conventions.get("torch" if later else _before_2_15())
        own = {op: dispatcher.CONVENTION.handles[op] for op in KERNELS}  # a package's too, which torch does not see
        own |= {op: _asked(formula, dispatched) for op, formula in self._custom.items()}
        for packet, formula in flop_counter.flop_registry.items():  # what the user registered with torch
            op = getattr(packet, "_qualified_op_name", "")
            if op and op not in convention.handles and op not in own:
                own[op] = _asked(formula, dispatched, raw=True)
        fused = self._custom.get(_FUSED.get(self._device, ""))
        if fused is not None:
            plain, formula = convention.handles[_ATTENTION], _asked(fused, _attention_operands)
            own[_ATTENTION] = lambda call: formula(call) if _is_fused(call) else plain(call)
        return replace(convention, handles={**convention.handles, **own})

    def _key(self, call: Call) -> Any:
        """The operator as torch names it: the packet of its overloads, or its name where torch has none."""
        op = call.op
        if op.removesuffix("_backward") == _ATTENTION:
            gradient = op.endswith("_backward")
            fused = _FUSED.get(self._device, _FUSED["cuda"]) + ("_backward" if gradient else "")
            op = fused if gradient or _is_fused(call) else "aten::bmm"
        space, _, name = op.partition("::")
        return self._keys.get(op) or getattr(getattr(torch.ops, space), name, op)


def _is_fused(call: Call) -> bool:
    """Whether one kernel computes it: where the convention of a CPU before 2.15 counts nothing."""
    return not conventions.get(_before_2_15()).handles[_ATTENTION](call)


def _before_2_15() -> str:
    """The convention of the torch that is installed, without a formula for a CPU's attention."""
    found = conventions.of_version("torch", torch.__version__)
    return "torch-2.14" if found == "torch" else found


def _name(op: Any) -> str:
    name = getattr(op, "_qualified_op_name", None)
    if not isinstance(name, str):
        raise UsageError(f"a formula is for an operator such as torch.ops.aten.gelu, got {op!r}")
    return name


def _asked(formula: Callable[..., int], operands: Callable[[Call, bool], Operands], *, raw: bool = False) -> Handle:
    """A user's formula as a handle: asked with shapes, or with shape-only tensors where it is ``raw`` or marked so."""
    raw = raw or bool(getattr(formula, "_get_raw", False))

    def count(call: Call) -> int:
        args, kwargs, out = operands(call, raw)
        return int(formula(*args, **kwargs, **{"out_val" if raw else "out_shape": out}))

    return count


def _attention_operands(call: Call, raw: bool) -> Operands:
    operands = [as_operand(call[name], raw) for name in ("query", "key", "value")]
    out = call.out
    statistics = replace(out, shape=out.shape[:-1], strides=None)
    return operands, {}, (as_operand(out, raw), as_operand(statistics, raw))


def _shallowest(ledger: Ledger) -> list[str]:
    """For each module of the trace the shortest of its paths, by which torch knows it."""
    modules = ledger.trace.modules
    best: dict[int, str] = {}
    for index, module in enumerate(modules):
        first = module.same if module.same >= 0 else index
        if first not in best or module.path.count(".") < best[first].count("."):
            best[first] = module.path
    return [best[m.same if m.same >= 0 else i] for i, m in enumerate(modules)]


def _plain(path: str) -> str:
    """A path without the number that tells a second model of one class: torch adds them up."""
    return re.sub(r"^([^.]*?) #\d+(?=\.|$)", r"\1", path)


def _short(count: int, whole: int) -> str:
    index = max(0, min(len(_SUFFIXES) - 1, (len(str(whole)) - 2) // 3))
    return f"{count / 1000**index:.3f}{_SUFFIXES[index]}" if index else str(count)


def _share(count: int, whole: int) -> str:
    return f"{count / whole:.2%}" if whole else "0%"


def _aligned(rows: list[tuple[str, str, str]]) -> str:
    wide = [max(len(title) + 2, *(len(row[i]) for row in rows)) for i, title in enumerate(rows[0])]
    lines = [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}".rstrip() for a, b, c in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in wide), *lines[1:]])


__all__ = ["FlopCounterMode", "Installed", "install", "register_flop_formula"]

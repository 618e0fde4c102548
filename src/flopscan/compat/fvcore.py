"""fvcore's calls, counted by flopscan: ``from flopscan.compat.fvcore import FlopCountAnalysis`` and nothing else.

>>> from torch import nn, zeros
>>> FlopCountAnalysis(nn.Linear(10, 20), zeros(1, 10)).total()
200

fvcore need not be installed, and nothing is computed: a model of any size is counted on shapes. Numbers are those of
the convention ``fvcore``. With fvcore itself, `supported_ops` and `selective_scan_flop_jit` add the scans that it
does not know; they can be given to `FlopCountAnalysis` here as well.

What differs, as no torch.jit graph is made: operands of a handle are values with the methods of ``torch._C.Value``
that handles use (``type().sizes()``, ``isCompleteTensor()``, ``toIValue()``, ``node()``); what an autograd Function
computes inside is seen; `unsupported_ops` has no arithmetic on sizes and none on what is not used.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from flopscan import conventions
from flopscan.compat import _counting, _graph_nodes, _graph_values
from flopscan.compat._ancestors import Modules
from flopscan.compat._fvcore_tables import flop_count_str, flop_count_table, parameter_count, parameter_count_table
from flopscan.compat.jit_handles import selective_scan_flop_jit, supported_ops
from flopscan.compat.scan_signatures import CLASSES, OPERATOR
from flopscan.core.ledger import Ledger
from flopscan.errors import UsageError

Handle = Callable[[list[Any], list[Any]], Any]
_logger = logging.getLogger(__name__)

_HANDLED = {  # the kinds of node that fvcore counts by itself, and their names in `by_operator`
    **{f"aten::{name}": name for name in (
        "addmm", "bmm", "einsum", "matmul", "mm", "linear", "batch_norm", "group_norm", "layer_norm", "instance_norm",
        "upsample_nearest2d", "upsample_bilinear2d", "adaptive_avg_pool2d", "grid_sampler",
    )},
    "aten::_convolution": "conv",
}  # fmt: skip
_FREE = (
    "Int ScalarImplicit __and__ arange bitwise_not cat chunk clamp clamp_ constant_pad_nd contiguous copy_ detach"
    " dropout empty eq expand flatten floor floor_divide full full_like gather ge gt index index_put_ masked_fill max"
    " narrow new_empty new_full new_zeros nonzero ones permute relu relu_ remainder reshape roll select size slice"
    " split split_with_sizes squeeze stack t to transpose type_as unbind unsqueeze unsqueeze_ view zeros zeros_like"
    " empty_like _local_scalar_dense item"
)
_IGNORED = frozenset(f"aten::{name}" for name in _FREE.split())


@dataclass
class _Statistics:
    counts: dict[str, Counter[str]]
    unsupported: dict[str, Counter[str]]
    uncalled: set[str]


class FlopCountAnalysis:
    """The counts of ``model(*inputs)`` in total, by module and by operator; counted when they are first asked for.

    ``inputs`` is a tensor or a tuple of the model's arguments.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self._model = model
        self._inputs = inputs
        self._named: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
        first: dict[int, str] = {}
        self._canonical = {name: first.setdefault(id(m), name) for name, m in self._named.items()}
        self._handles: dict[str, Handle] = {}
        self._extra_ignored: set[str] = set()
        self._handled = dict(_HANDLED)
        self._ancestors = "owner"
        self._warns = {"unsupported": True, "uncalled": True}
        self._tracer = "no_tracer_warning"
        self._statistics: _Statistics | None = None

    def total(self, module_name: str = "") -> int:
        """The count of a module with all below it."""
        return sum(self.by_operator(module_name).values())

    def by_operator(self, module_name: str = "") -> Counter[str]:
        """The count of each operator of a module."""
        return self._analyze().counts[self.canonical_module_name(module_name)]

    def by_module_and_operator(self) -> dict[str, Counter[str]]:
        """The count of each operator of each module."""
        return self._analyze().counts

    def by_module(self) -> Counter[str]:
        """The count of each module with all below it."""
        return Counter({name: sum(counts.values()) for name, counts in self._analyze().counts.items()})

    def unsupported_ops(self, module_name: str = "") -> Counter[str]:
        """How often each operator without a handle was called in a module; raises RuntimeError before the count."""
        if self._statistics is None:
            raise RuntimeError("ask for a count, such as total(), before unsupported_ops()")
        return self._statistics.unsupported[self.canonical_module_name(module_name)]

    def uncalled_modules(self) -> set[str]:
        """The modules in which no operator was called."""
        return self._analyze().uncalled

    def set_op_handle(self, *args: Any, **kwargs: Handle | None) -> FlopCountAnalysis:
        """Count operators by handles of (inputs, outputs): pairs of name and handle, or names with handles.

        None for a handle ignores an operator that has none; as in fvcore, one that has a handle keeps it.
        """
        if len(args) % 2:
            raise TypeError(f"set_op_handle takes pairs of an operator's name and its handle, got {len(args)} values")
        for name, handle in {**dict(zip(args[::2], args[1::2], strict=True)), **kwargs}.items():
            if handle is None:
                self._extra_ignored.add(name)
            else:
                self._handles[name] = handle
        self._statistics = None
        return self

    def clear_op_handles(self) -> FlopCountAnalysis:
        """Forget all handles, fvcore's own included."""
        self._handles, self._handled, self._extra_ignored, self._statistics = {}, {}, set(), None
        return self

    def canonical_module_name(self, name: str) -> str:
        """The name that a module is listed under: the first of several."""
        if not isinstance(name, str):
            raise AssertionError(f"a module is asked for by its name, got {type(name).__name__}")
        if name not in self._canonical:
            raise KeyError(f"the model has no module {name!r}")
        return self._canonical[name]

    def copy(self, new_model: nn.Module | None = None, new_inputs: Any = None) -> FlopCountAnalysis:
        """The same analysis, with its handles and settings, of another model or of other inputs."""
        model = self._model if new_model is None else new_model
        made = FlopCountAnalysis(model, self._inputs if new_inputs is None else new_inputs)
        made._handles, made._handled = dict(self._handles), dict(self._handled)
        made._extra_ignored, made._warns, made._tracer = set(self._extra_ignored), dict(self._warns), self._tracer
        return made

    def ancestor_mode(self, mode: str) -> FlopCountAnalysis:
        """Whom an operator counts for: ``owner``, the modules that its module is part of; ``caller``, those running."""
        if mode not in ("owner", "caller"):
            raise ValueError(f"ancestor_mode is 'owner' or 'caller', got {mode!r}")
        self._ancestors = mode
        return self

    def tracer_warnings(self, mode: str) -> FlopCountAnalysis:
        """Accepted, without effect: nothing is traced by torch.jit."""
        if mode not in ("all", "no_tracer_warning", "none"):
            raise ValueError(f"tracer_warnings is 'all', 'no_tracer_warning' or 'none', got {mode!r}")
        self._tracer = mode
        return self

    def unsupported_ops_warnings(self, enabled: bool) -> FlopCountAnalysis:
        """Whether operators without a handle are logged."""
        self._warns["unsupported"] = enabled
        return self

    def uncalled_modules_warnings(self, enabled: bool) -> FlopCountAnalysis:
        """Whether modules that were not called are logged."""
        self._warns["uncalled"] = enabled
        return self

    def _analyze(self) -> _Statistics:
        if self._statistics is None:
            args = self._inputs if isinstance(self._inputs, tuple) else (self._inputs,)
            self._statistics = self._collect(_counting.ledger_of(self._model, args))
            self._log(self._statistics)
        return self._statistics

    def _collect(self, ledger: Ledger) -> _Statistics:
        """Every record's count, or the lack of one, for each module that it belongs to."""
        names = set(self._canonical.values())
        counts = {name: Counter[str]() for name in self._canonical if name in names}
        unsupported = {name: Counter[str]() for name in counts}
        modules, seen = Modules(ledger, self._ancestors), set[str]()
        own = conventions.get("fvcore").counts(ledger)
        records = zip(ledger.trace.records, own, _graph_nodes.parts(ledger.trace), strict=True)
        for record, count, part in records:
            if part is None:
                continue
            belongs = [name for name in modules.of(record) if name in counts]
            seen.update(belongs)
            handle = self._handle_of(part.kind)
            if handle is not None:
                found = self._ask(handle, part.kind, ledger, record.call, record.count) if part.whole else Counter()
            elif part.kind in self._handled:
                found = Counter({self._handled[part.kind]: count}) if count else Counter()
            else:
                found = Counter()
                if part.whole and part.kind not in _IGNORED and part.kind not in self._extra_ignored:
                    for name in belongs:
                        unsupported[name][part.kind] += record.count
            for name in belongs:
                counts[name] += found
        return _Statistics(counts, unsupported, names - seen)

    def _handle_of(self, kind: str) -> Handle | None:
        """The user's handle for a kind of node; a scan takes that of whatever class it is the scan of."""
        found = self._handles.get(kind)
        if found is None and kind == OPERATOR:
            known = (f"prim::PythonOp.{name}" for name in CLASSES)
            given = {self._handles[name] for name in known if name in self._handles}
            if len(given) > 1:
                raise UsageError(f"several handles for the classes of scans; give one, for {OPERATOR!r}")
            found = next(iter(given), None)
        return found

    def _ask(self, handle: Handle, kind: str, ledger: Ledger, call: int, times: int) -> Counter[str]:
        """What the user's handle says of one call, as often as it was made."""
        found = handle(*_graph_values.values_of(kind, ledger.trace.calls[call]))
        if not isinstance(found, dict):
            found = {kind.partition("::")[2]: found}
        for name, value in found.items():
            if not hasattr(value, "__add__") or isinstance(value, str):
                raise ValueError(f"the handle of {kind} gives {value!r} for {name}; expected a number")
        return Counter({name: value * times for name, value in found.items()})

    def _log(self, statistics: _Statistics) -> None:
        if self._warns["unsupported"]:
            for kind, times in statistics.unsupported[""].items():
                _logger.warning("no handle for the operator %s, which was called %d time(s)", kind, times)
        uncalled = sorted(name for name in statistics.uncalled if _has_forward(self._named[name]))
        if self._warns["uncalled"] and uncalled:
            _logger.warning(
                "no operator was called in these modules, which are not used, called by a method other than"
                " __call__, or do nothing: %s", ", ".join(uncalled),
            )  # fmt: skip


def _has_forward(module: nn.Module) -> bool:
    return not any(
        type(module).forward is cls.forward for cls in (nn.ModuleList, nn.ModuleDict, nn.Module, nn.Identity)
    )


def flop_count(
    model: nn.Module, inputs: tuple[Any, ...], supported_ops: dict[str, Handle | None] | None = None
) -> tuple[defaultdict[str, float], Counter[str]]:
    """The count of each operator in units of 10^9, and the operators without a handle with how often they came."""
    analysis = FlopCountAnalysis(model, inputs).set_op_handle(**(supported_ops or {}))
    counts = defaultdict(float, {name: count / 1e9 for name, count in analysis.by_operator().items()})
    return counts, analysis.unsupported_ops()


__all__ = [
    "FlopCountAnalysis",
    "flop_count",
    "flop_count_str",
    "flop_count_table",
    "parameter_count",
    "parameter_count_table",
    "selective_scan_flop_jit",
    "supported_ops",
]

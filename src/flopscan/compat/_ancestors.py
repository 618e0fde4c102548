"""Which modules an operator counts for: those that its module is part of, or those that were running."""

from __future__ import annotations

from collections.abc import Iterator

from flopscan.compat import _counting
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Record
from flopscan.errors import FlopscanError


class Modules:
    """For a record of a trace the names of the modules that it counts for; ``mode`` is ``owner`` or ``caller``.

    ``names`` are those of the modules, index by index; without them the first path of each.
    """

    def __init__(self, ledger: Ledger, mode: str, names: list[str] | None = None) -> None:
        trace = self._trace = ledger.trace
        self._names = _counting.canonical(ledger) if names is None else names
        self._mode = mode
        self._known: dict[tuple[int, int], list[str]] = {}
        self._callers: dict[tuple[int, int], set[int]] = {}  # by frame, as (its call, the frame around it)
        for record in trace.records:
            if self._is_module(record.call):
                self._callers.setdefault((record.call, record.inside), set()).add(record.module)

    def of(self, record: Record) -> list[str]:
        """The names, each once."""
        key = record.module, -1 if self._mode == "owner" else record.inside
        if key not in self._known:
            owners = _counting.above(self._names[record.module])
            self._known[key] = list(dict.fromkeys(owners if self._mode == "owner" else self._running(record)))
        return self._known[key]

    def _running(self, record: Record) -> Iterator[str]:
        """The module of ``record``, its caller, the caller of that."""
        module, frames = record.module, list(self._around(record.inside))
        if record.phase != "forward":  # a gradient is computed outside of every module: it counts for where it is from
            yield from self._called_above(module)
        yield self._names[module]
        for frame in frames[1:]:  # the first is the module itself
            module = self._one_of(
                self._callers[self._trace.frames[frame].call, self._trace.frames[frame].parent], module
            )
            yield self._names[module]
        yield ""

    def _called_above(self, module: int) -> Iterator[str]:
        above = set(_counting.above(self._trace.modules[module].path))
        for index in sorted(set().union(*self._callers.values())):
            if self._trace.modules[index].path in above:
                yield self._names[index]

    def _around(self, frame: int) -> Iterator[int]:
        """The frames of modules around, from the inside."""
        while frame >= 0:
            if self._is_module(self._trace.frames[frame].call):
                yield frame
            frame = self._trace.frames[frame].parent

    def _one_of(self, callers: set[int], module: int) -> int:
        """The caller of ``module`` among twins that a trace holds as one: that which it is part of."""
        by_path = {self._trace.modules[index].path: index for index in callers}
        path = self._trace.modules[module].path
        owner = next((above for above in _counting.above(path) if above in by_path), None)
        if len(callers) > 1 and owner is None:
            raise FlopscanError(
                f"ancestor_mode('caller'): {path} is called by one of {', '.join(sorted(by_path))}, which are alike and"
                " which it is no part of, so that a trace does not tell by whom; use 'owner'"
            )
        return next(iter(callers)) if owner is None else by_path[owner]

    def _is_module(self, call: int) -> bool:
        return self._trace.calls[call].op.startswith("module::")

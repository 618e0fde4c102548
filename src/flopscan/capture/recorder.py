"""Recorder: folds identical calls from one place into one record, and ends in a Trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flopscan.core.trace import Call, Frame, Module, Record, Trace

Place = tuple[int, int, str, int, int, bool, str]  # call, module, phase, inside, line, envelope, branch


class Recorder:
    """Counts calls by place. Calls, modules and lines are interned in order of first appearance."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.modules: list[Module] = []
        self.lines: list[str] = []
        self.counts: dict[Place, int] = {}
        self.branch = ""  # the branch of a conditional that is being recorded
        self.inside = -1  # the frame of the function or module that is running
        self._frames: dict[tuple[int, int], int] = {}
        self._lines: dict[str, int] = {}
        self._groups = 0

    def add(self, call: int, module: int, phase: str, line: int) -> None:
        """Count one more call ``call`` from this place."""
        place = (call, module, phase, self.inside, line, False, self.branch)
        self.counts[place] = self.counts.get(place, 0) + 1

    def enter(self, call: int, module: int, phase: str) -> int:
        """Count one more envelope ``call`` and go inside it; the frame to `leave` to is returned."""
        before = self.inside
        place = (call, module, phase, before, -1, True, self.branch)
        self.counts[place] = self.counts.get(place, 0) + 1
        frame = self._frames.get((before, call))
        self.inside = self._frames.setdefault((before, call), len(self._frames)) if frame is None else frame
        return before

    def leave(self, before: int) -> None:
        """Come out of an envelope."""
        self.inside = before

    def new_group(self) -> int:
        """The number of a new conditional."""
        self._groups += 1
        return self._groups - 1

    def call(self, call: Call) -> int:
        """The index of a new distinct call; the caller keeps it under a key of its own."""
        self.calls.append(call)
        return len(self.calls) - 1

    def module(self, path: str, cls: str, params: int, same: int = -1) -> int:
        """The index of a new module path; ``same`` is that of the path that the module is already known by."""
        self.modules.append(Module(path, cls, params, same))
        return len(self.modules) - 1

    def line(self, text: str) -> int:
        """The index of a source line."""
        return self._lines.setdefault(text, len(self._lines))

    def trace(self, params: int, origin: Mapping[str, Any]) -> Trace:
        """Everything recorded so far."""
        records = tuple(
            Record(call, module, count, phase, inside, line, envelope, branch)
            for (call, module, phase, inside, line, envelope, branch), count in self.counts.items()
        )
        frames = tuple(Frame(call, parent) for parent, call in self._frames)
        return Trace(tuple(self.calls), records, tuple(self.modules), tuple(self._lines), params, origin, frames)

"""The lock: what targets cost when they were locked, how much they may grow, and what they may cost at most."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from flopscan.budget import limits
from flopscan.budget.limits import Limit
from flopscan.budget.measures import ALWAYS, Measured
from flopscan.errors import UsageError

FLAGS = ("backward", "train", "run")


@dataclass(frozen=True)
class Entry:
    """A target as it was counted: on ``inputs`` and with ``arguments`` as the command line has them.

    ``depth``: of how many parts a module's path has at most to be locked (None: any). ``tolerance``: its own, or None
    for the lock's. ``limits``: by measure, as text; ``limits_text``: the lines as a person wrote them, comments kept.
    """

    target: str
    inputs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ("flops",)
    depth: int | None = None
    tolerance: str | None = None
    numbers: Measured = field(default_factory=lambda: Measured({}))
    versions: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    limits_text: str = ""

    @property
    def measures(self) -> tuple[str, ...]:
        """What is locked: the conventions, and what every lock has."""
        return (*self.conventions, *ALWAYS)

    def parsed(self) -> dict[str, Limit]:
        """The limits by measure. Raises UsageError for one that is none."""
        return {name: limits.limit(text) for name, text in self.limits.items()}

    def setting(self) -> tuple[object, ...]:
        """What is counted and how: two entries of one name must agree in it."""
        return self.target, self.inputs, self.arguments, self.flags


@dataclass(frozen=True)
class Lock:
    """Entries by name, and the tolerance of those that have none of their own."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    tolerance: str = "0%"

    def tolerance_of(self, name: str) -> Fraction:
        """The part that each number of the entry ``name`` may grow by."""
        own = self.entries[name].tolerance
        return limits.tolerance(self.tolerance if own is None else own)

    def chosen(self, names: Iterable[str]) -> list[str]:
        """``names``, each once, or all of them for none. Raises UsageError for one that is not locked."""
        for name in names:
            if name not in self.entries:
                near = difflib.get_close_matches(name, self.entries, n=3, cutoff=0.4) or sorted(self.entries)
                hint = f"did you mean {' or '.join(near)}?" if near else "nothing is"
                raise UsageError(f"{name!r} is not locked; {hint}")
        return list(dict.fromkeys(names)) or sorted(self.entries)

    def with_entries(self, entries: Mapping[str, Entry]) -> Lock:
        """This lock with ``entries`` in it, in the place of those of their names, whose limits and tolerance stay."""
        merged = dict(self.entries)
        for name, entry in entries.items():
            old = merged.get(name, entry)
            kept = old.tolerance if entry.tolerance is None else entry.tolerance
            merged[name] = replace(entry, limits=old.limits, limits_text=old.limits_text, tolerance=kept)
        return replace(self, entries=merged)

    def without(self, names: Iterable[str]) -> Lock:
        """This lock without ``names``."""
        gone = set(names)
        return replace(self, entries={name: entry for name, entry in self.entries.items() if name not in gone})

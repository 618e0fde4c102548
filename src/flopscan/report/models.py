"""Models side by side: the table that every paper has, a row per model and a column per number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from flopscan import conventions
from flopscan.errors import FlopscanError
from flopscan.report.columns import THROUGHPUT, Column
from flopscan.report.figures import Figures
from flopscan.report.numbers import power_of
from flopscan.report.paper import made_with
from flopscan.report.sheet import Cell, Entry, Heading, Sheet
from flopscan.report.speed import Speed

SCHEMA = "flopscan.models/1"


@dataclass(frozen=True)
class Model:
    """A row: the model's name in the table, what it is, its numbers, and why some are missing.

    ``figures`` and ``speed`` are None where there are none, ``reasons`` then says why. ``point`` is the value that it
    was counted at, where one is varied.
    """

    name: str
    target: str
    figures: Figures | None = None
    speed: Speed | None = None
    reasons: tuple[str, ...] = ()
    point: int | None = None


@dataclass(frozen=True)
class Models:
    """Models in their order under ``columns``; ``varied`` is the name of what differs between rows of one model."""

    models: tuple[Model, ...]
    columns: tuple[Column, ...]
    varied: str = ""
    best: bool = False
    again: str = ""

    @cached_property
    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        """A number per model and column; None where there is none, then `reasons` tells why."""
        return tuple(tuple(cell for cell, _ in row) for row in self._asked)

    @cached_property
    def reasons(self) -> tuple[tuple[str, ...], ...]:
        """Why cells are empty, per model; nothing where it has every number."""
        failed = (tuple(reason for _, reason in row if reason) for row in self._asked)
        both = zip(self.models, failed, strict=True)
        return tuple(tuple(dict.fromkeys((*model.reasons, *more))) for model, more in both)

    @cached_property
    def _asked(self) -> tuple[tuple[tuple[Cell, str], ...], ...]:
        return tuple(tuple(_cell(model, column) for column in self.columns) for model in self.models)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """What was not counted, and of which models."""
        found: dict[str, list[str]] = {}
        for model in self.models:
            if model.figures is not None and model.figures.uncounted:
                found.setdefault(model.figures.not_counted, []).append(_named(model, self.varied))
        return tuple(f"{', '.join(names)}: {what}" for what, names in found.items())

    def ordered(self, column: str, *, descending: bool = False) -> Models:
        """The same, by a column of that name; models without a number come last."""
        at = [c.name for c in self.columns].index(column)
        keyed: list[tuple[Model, Any]] = list(zip(self.models, (row[at] for row in self.cells), strict=True))
        known = sorted((pair for pair in keyed if pair[1] is not None), key=lambda p: p[1], reverse=descending)
        rest = [pair for pair in keyed if pair[1] is None]
        return replace(self, models=tuple(model for model, _ in [*known, *rest]))

    def sheet(self) -> Sheet:
        """The table as people read it: units in the header, and the footnote."""
        entries = [
            Entry((*self._names(model), *row), least=_least(model), strong=self._best(i))
            for i, (model, row) in enumerate(zip(self.models, self.cells, strict=True))
        ]
        notes = tuple(filter(None, self._footnotes()))
        return Sheet("Models compared", self.headings, tuple(entries), notes, again=self.again)

    def data(self) -> Sheet:
        """The table as programs read it: whole numbers, and all about a model in its row."""
        about = ("target", "inputs", "uncounted", "not_counted", "missing", "versions")
        measured = ("passes", "items", "slowest_s", "fastest_s", "device", "threads", "date")
        extra = (*about, *(measured if self._measures else ()))
        headings = (*self.headings, *(Heading(key, key, "text") for key in extra))
        entries = [
            Entry((*self._names(model), *row, *map(self._about(i).get, extra)))
            for i, (model, row) in enumerate(zip(self.models, self.cells, strict=True))
        ]
        return Sheet("", headings, tuple(entries))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from flopscan.report import notebook

        return notebook.sheet(self.sheet())

    def to_dict(self) -> dict[str, Any]:
        """The table as JSON-ready data, every count whole."""
        rows = []
        for i, (model, row) in enumerate(zip(self.models, self.cells, strict=True)):
            about = self._about(i)
            numbers = {c.name: _plain(cell) for c, cell in zip(self.columns, row, strict=True)}
            rows.append(
                {
                    "name": model.name, "target": model.target, **({self.varied: model.point} if self.varied else {}),
                    "inputs": list(model.figures.inputs) if model.figures else [], "columns": numbers,
                    "uncounted": about["uncounted"], "not_counted": about["not_counted"], "missing": about["missing"],
                    "versions": about["versions"], "measured": model.speed.to_dict() if model.speed else None,
                }
            )  # fmt: skip
        meanings = {column.name: column.meaning for column in self.columns}
        return {
            "schema": SCHEMA, "columns": meanings, "varied": self.varied or None, "models": rows,
            "notes": list(filter(None, self._footnotes())), "again": self.again,
        }  # fmt: skip

    def _names(self, model: Model) -> tuple[Cell, ...]:
        return (model.name, model.point) if self.varied else (model.name,)

    @cached_property
    def headings(self) -> tuple[Heading, ...]:
        """The columns, the name of the model first."""
        found = [Heading("model", "model", "text")]
        if self.varied:
            found.append(Heading(self.varied, self.varied, power=0))
        for i, column in enumerate(self.columns):
            power, unit = None, column.unit
            if column.kind == "count":
                power = power_of(row[i] for row in self.cells if isinstance(row[i], int))  # type: ignore[misc]
            if column.name == THROUGHPUT:
                units = {model.speed.unit for model in self.models if model.speed}
                unit = f"{units.pop()}/s" if len(units) == 1 else "items/s"
            unit = unit if power else unit.strip()
            found.append(Heading(column.name, column.title, column.kind, power, unit, column.partial))
        return tuple(found)

    def _best(self, index: int) -> frozenset[int]:
        """The columns in which a model is the best of those that were counted at the same point."""
        rivals = [i for i, model in enumerate(self.models) if model.point == self.models[index].point]
        found = set()
        for at, column in enumerate(self.columns if self.best else ()):
            known = {i: self.cells[i][at] for i in rivals if not (column.partial and _least(self.models[i]))}
            numbers = [float(cell) for cell in known.values() if cell is not None and not isinstance(cell, str)]
            if column.best and len(numbers) > 1 and known.get(index) == (max if column.best > 0 else min)(numbers):
                found.add(at + 1 + bool(self.varied))
        return frozenset(found)

    @property
    def _measures(self) -> bool:
        return any(column.name == THROUGHPUT for column in self.columns)

    def _about(self, index: int) -> dict[str, Any]:
        model = self.models[index]
        figures, speed = model.figures, model.speed
        return {
            "target": model.target,
            "inputs": ", ".join(figures.inputs) if figures else None,
            "uncounted": figures.uncounted if figures else None,
            "not_counted": figures.not_counted if figures else None,
            "missing": "; ".join(self.reasons[index]),
            "versions": figures.versions if figures else None,
            "passes": len(speed.seconds) if speed else None,
            "items": speed.items if speed else None,
            "slowest_s": max(speed.seconds) if speed else None,
            "fastest_s": min(speed.seconds) if speed else None,
            "device": speed.device if speed else None,
            "threads": speed.threads if speed else None,
            "date": speed.date if speed else None,
        }

    def _footnotes(self) -> Iterable[str]:
        meanings = [column.meaning for column in self.columns if column.meaning]
        if meanings:
            yield f"{'; '.join(meanings)}."
        if not any(column.name == "input" for column in self.columns):
            yield _inputs(self.models, self.varied)
        for told in self.uncounted:
            yield f"Not counted, so that a sum with ≥ is the least it can be: {told}."
        if not self.uncounted:
            yield "Not counted: nothing."
        for warning, names in self._warnings().items():
            yield f"{', '.join(names)}: {warning}"
        for reason, names in self._failed().items():
            yield f"No number of {', '.join(names)}: {reason}"
        yield from self._measurement()
        for versions in dict.fromkeys(model.figures.versions for model in self.models if model.figures):
            yield made_with(versions)

    def _warnings(self) -> dict[str, list[str]]:
        """What is wrong with numbers, by sentence, and the models that it is of."""
        found: dict[str, list[str]] = {}
        for at, column in enumerate(self.columns):
            for model, row in zip(self.models, self.cells, strict=True):
                if model.figures is not None and row[at] is not None and column.name in conventions.names():
                    for warning in model.figures.warnings(column.name):
                        found.setdefault(warning, []).append(_named(model, self.varied))
        return found

    def _failed(self) -> dict[str, list[str]]:
        """The models that lack something, by reason."""
        found: dict[str, list[str]] = {}
        for model, reasons in zip(self.models, self.reasons, strict=True):
            for reason in reasons:
                found.setdefault(reason, []).append(_named(model, self.varied))
        return found

    def _measurement(self) -> Iterable[str]:
        measured = [(model, model.speed) for model in self.models if model.speed and self._measures]
        if not measured:
            return
        where = dict.fromkeys(f"{s.device}, torch threads {s.threads}, {s.date}" for _, s in measured)
        told = "; ".join(f"{_named(model, self.varied)} {speed}" for model, speed in measured)
        yield (
            "Throughput is a measurement on one machine, not a count: forward passes in eval mode with random weights,"
            f" the median of those after the first; {'; '.join(where)}. {told}."
        )


def _cell(model: Model, column: Column) -> tuple[Cell, str]:
    """A number, or why there is none."""
    if column.of is None:
        return (None if model.speed is None else model.speed.rate), ""
    if model.figures is None:
        return None, ""
    try:
        return column.of(model.figures), ""
    except FlopscanError as error:
        return None, f"{column.title}: {error}"


def _least(model: Model) -> bool:
    return model.figures is not None and bool(model.figures.uncounted)


def _plain(cell: Cell) -> Any:
    return cell if cell is None or isinstance(cell, (str, int, float)) else float(cell)


def _named(model: Model, varied: str) -> str:
    return f"{model.name}, {varied} {model.point}" if varied else model.name


def _inputs(models: Sequence[Model], varied: str) -> str:
    """What the models were counted on, those that share it together; empty where nothing is known."""
    groups: dict[str, dict[str, list[str]]] = {}
    for model in models:
        if model.figures is not None:
            at = f"{varied} {model.point}" if varied else ""
            groups.setdefault(", ".join(model.figures.inputs), {}).setdefault(at, []).append(model.name)
    every = {model.name for model in models}
    told = []
    for what, points in groups.items():
        of = [": ".join(filter(None, (at, ", ".join(names) * (set(names) != every)))) for at, names in points.items()]
        told.append(f"{what} ({'; '.join(filter(None, of))})" if any(of) else what)
    return f"Input: {'; '.join(told)}." if told else ""

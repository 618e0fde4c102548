"""fvcore's tables: parameters and counts of a model by module, as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from flopscan.compat._shown import shown
from flopscan.errors import UsageError

_UNITS = ((1e14, 1e15, "P"), (1e11, 1e12, "T"), (1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K"))
_NOT_CALLED = (
    "N/A stands where no operator was called in a module: it is not used, or is called by another method than its"
    " __call__, and then its count is that of the module above.\n"
)


class Analysis(Protocol):
    """What a table reads of an analysis."""

    _model: nn.Module

    def by_module(self) -> Any: ...
    def uncalled_modules(self) -> set[str]: ...
    def unsupported_ops_warnings(self, enabled: bool) -> Any: ...
    def uncalled_modules_warnings(self, enabled: bool) -> Any: ...


def parameter_count(model: nn.Module) -> defaultdict[str, int]:
    """The number of elements of each parameter, and of all parameters of each module by name ('' is the model)."""
    counts: defaultdict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        path, size = "", parameter.numel()
        counts[path] += size
        for step in name.split("."):
            path = f"{path}.{step}" if path else step
            counts[path] += size
    return counts


def parameter_count_table(model: nn.Module, max_depth: int = 3) -> str:
    """The parameters of a model and what is in it, as a table."""
    counts, shapes = parameter_count(model), _shapes(model)
    below = _children(counts)
    rows = [("model", _rounded(counts[""], "{:.1f}", ((1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K"))))]

    def add(name: str, level: int) -> None:
        text = _rounded(counts[name], "{:.1f}", ((1e8, 1e9, "G"), (1e5, 1e6, "M"), (1e2, 1e3, "K")))
        rows.append((f"{' ' * level}{name}", " " * level + shapes.get(name, text)))
        if level < max_depth:
            for child in below[name]:
                add(child, level + 1)

    for name in below[""] if max_depth > 0 else ():
        add(name, 1)
    return _table(("name", "#elements or shape"), rows)


@dataclass
class _Line:
    """A module or parameter in a table and what its columns say; None where it has no such number."""

    name: str
    params: str | None
    flops: str | None
    below: list[_Line]

    def merged(self) -> _Line:
        """With its only child in one line, where no column says two things."""
        if len(self.below) != 1:
            return self
        child = self.below[0]
        both = ((self.params, child.params), (self.flops, child.flops))
        if any((a is None) != (b is None) or (a and b and a != b) for a, b in both):
            return self
        return _Line(child.name, child.params or self.params, child.flops or self.flops, child.below).merged()


def flop_count_table(
    flops: Analysis, max_depth: int = 3, activations: None = None, show_param_shapes: bool = True
) -> str:
    """Parameters and counts of a model by module, as a table; ``activations`` cannot be counted here."""
    _without(activations)
    params, counts, uncalled = _counted(flops)
    shapes = _shapes(flops._model)
    below = _children([*params, *counts])

    def line(name: str) -> _Line | None:
        children = [made for child in below[name] if (made := line(child)) is not None]
        if name in shapes and not (show_param_shapes and params[name]):
            return None
        if not (params.get(name) or counts.get(name) or children or not name):
            return None
        text = shapes.get(name) or (_rounded(params[name], "{:.3f}", _UNITS) if name in params else None)
        count = None if name in shapes else "" if name in uncalled else _rounded(counts.get(name, 0), "{:.3f}", _UNITS)
        return _Line(name, text, count, children)

    top = line("")
    assert top is not None
    header = "#parameters or shape" if show_param_shapes else "#parameters"
    return _table(("module", header, "#flops"), _rows(top.merged(), max_depth))


def _rows(root: _Line, max_depth: int) -> Iterator[tuple[str, ...]]:
    yield root.name or "model", root.params or "", root.flops or ""
    prefix = f"{root.name}." if root.name else ""

    def walk(lines: list[_Line], level: int) -> Iterator[tuple[str, ...]]:
        for found in lines if level <= max_depth else ():
            each, indent = found.merged(), " " * level
            columns = (each.name.removeprefix(prefix), each.params or "", each.flops or "")
            yield tuple(indent + text if text else "" for text in columns)
            yield from walk(each.below, level + 1)

    yield from walk(root.below, 1)


def flop_count_str(flops: Analysis, activations: None = None) -> str:
    """The model as ``print(model)`` shows it, with parameters and counts; ``activations`` cannot be counted here."""
    _without(activations)
    params, counts, uncalled = _counted(flops)

    def lines(module: nn.Module, name: str) -> list[str]:
        own = module.extra_repr().split("\n")
        if name not in uncalled and not (params.get(name) or counts.get(name)):
            return own
        count = "N/A" if name in uncalled else _rounded(counts.get(name, 0), "{:.2f}", _UNITS)
        return [*own, f"#params: {_rounded(params.get(name, 0), '{:.2f}', _UNITS)}, #flops: {count}"]

    return (_NOT_CALLED if uncalled else "") + shown(flops._model, lines)


def _counted(flops: Analysis) -> tuple[dict[str, int], dict[str, int], set[str]]:
    """Parameters, counts, and the modules that were not called; nothing is logged."""
    flops.unsupported_ops_warnings(False)
    flops.uncalled_modules_warnings(False)
    return dict(parameter_count(flops._model)), dict(flops.by_module()), flops.uncalled_modules()


def _without(activations: object) -> None:
    if activations is not None:
        raise UsageError("activations cannot be counted here: leave them out, or take fvcore's own table")


def _children(names: Iterable[str]) -> defaultdict[str, list[str]]:
    """The names right below each name, in their order."""
    below: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        if name:
            below[name.rpartition(".")[0]].append(name)
    return below


def _shapes(model: nn.Module) -> dict[str, str]:
    return {name: str(tuple(parameter.shape)) for name, parameter in model.named_parameters()}


def _rounded(count: float, digits: str, units: Sequence[tuple[float, float, str]]) -> str:
    """``count`` in the largest unit that it reaches a tenth of."""
    for above, unit, letter in units:
        if abs(count) > above:
            text = digits.format(count / unit)
            return (text.rstrip("0").rstrip(".") if digits != "{:.1f}" else text) + letter
    return str(count)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in the form of Markdown."""
    cells = [header, *rows]
    wide = [max(len(title) + 2, *(len(row[i]) for row in cells)) for i, title in enumerate(header)]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(row, wide, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join(":" + "-" * (w + 1) for w in wide) + "|", *lines[1:]])

"""``flops.lock``: a lock as TOML that a person can read, that changes line by line, and that is the same every time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flopscan.budget import limits, measures, toml
from flopscan.budget.lock import FLAGS, Entry, Lock
from flopscan.budget.measures import CALLS, PARAMS, Measured
from flopscan.core.document import expect, write_text
from flopscan.errors import SchemaError, UsageError

NAME = "flops.lock"
SCHEMA = "flopscan.lock/1"
_HEAD = (
    "# What these models cost: written by `flopscan lock`, compared by `flopscan check`.",
    "# Yours to edit are `tolerance` and a table of limits, in which comments stay:",
    '#   [targets.NAME.limits]    macs = "<= 5G"    params = "31M +-1%"',
)
_END = "# end"
_TABLES = ("total", "modules", "operators", "uncounted", "versions")


def load(path: str) -> Lock:
    """The lock in ``path``. Raises SchemaError for one that is damaged, cut short or of another version."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SchemaError(f"cannot read {path}: {why}; expected a {SCHEMA} file") from error
    try:
        data = toml.loads(text)
    except toml.Malformed as error:
        raise SchemaError(f"{path} is not whole TOML ({error}); take it from version control") from error
    found = data.get("schema")
    if found != SCHEMA:
        came = f"schema {found!r}" if found else "no schema"
        raise SchemaError(f"{path} has {came}, expected {SCHEMA!r}; lock again with this version of flopscan")
    if not text.rstrip().endswith(_END):
        raise SchemaError(f"{path} is cut short: it does not end in {_END!r}; take it from version control")
    with expect(path, SCHEMA):
        lock = Lock(
            {name: _entry(name, table, text, path) for name, table in data.get("targets", {}).items()},
            _text(data["tolerance"]),
        )
    with _by_hand(path):
        limits.tolerance(lock.tolerance)
    return lock


def save(lock: Lock, path: str) -> None:
    """Write ``lock`` to ``path``, atomically."""
    write_text(path, render(lock))


def render(lock: Lock) -> str:
    """The text of ``lock``: targets in the order of the alphabet, modules in the model's."""
    lines = [*_HEAD, toml.pair("schema", SCHEMA), toml.pair("tolerance", lock.tolerance)]
    for name in sorted(lock.entries):
        lines += _lines(name, lock.entries[name])
    return "\n".join([*lines, "", _END, ""])


def line_of(path: str, name: str, table: str = "") -> int:
    """The line, from 1, where the target ``name`` (or its ``table``) begins in the file ``path``; 1 if it is not seen.

    A person may have written the header in another way, or the file is gone since it was read.
    """
    wanted = toml.header("targets", name, *([table] if table else []))
    try:
        with open(path, encoding="utf-8") as file:
            return next((number for number, line in enumerate(file, 1) if line.strip() == wanted), 1)
    except OSError:
        return 1


def where(path: str) -> str:
    """``path``, if a lock can be written there. Raises UsageError for a folder, or where there is no folder for it."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a folder; give the name of a file, as in --lock {path}/{NAME}")
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {path}: there is no folder {folder}; make it first")
    return path


def _lines(name: str, entry: Entry) -> list[str]:
    place = ("targets", name)
    settings = {
        "target": entry.target,
        **{key: getattr(entry, key) for key in ("inputs", "arguments", "flags") if getattr(entry, key)},
        "conventions": entry.conventions,
        **({} if entry.depth is None else {"depth": entry.depth}),
        **({} if entry.tolerance is None else {"tolerance": entry.tolerance}),
    }
    numbers = entry.numbers
    modules = {path: {"class": cls, **sizes} for path, (sizes, cls) in numbers.modules.items()}
    operators = {op: sizes for op, (sizes, _) in sorted(numbers.operators.items())}
    uncounted, versions = (dict(sorted(table.items())) for table in (numbers.uncounted, entry.versions))
    tables: tuple[Mapping[str, Any], ...] = (numbers.total, modules, operators, uncounted, versions)
    lines = ["", *toml.table(place, settings)]
    if entry.limits or entry.limits_text:
        lines += [toml.header(*place, "limits"), *_limits(entry)]
    for title, table in zip(_TABLES, tables, strict=True):
        lines += toml.table((*place, title), table) if table else []
    return lines


def _limits(entry: Entry) -> list[str]:
    """The limits as they were written, if these lines are all of them, else from what they say."""
    try:
        whole = toml.loads(entry.limits_text) == entry.limits
    except toml.Malformed:
        whole = False
    return entry.limits_text.splitlines() if whole else [toml.pair(*limit) for limit in entry.limits.items()]


def _entry(name: str, data: Mapping[str, Any], text: str, path: str) -> Entry:
    """The entry called ``name``; what a person may have written wrongly is told before what lacks for that reason."""
    total, modules, operators, uncounted, versions = (data.get(title, {}) for title in _TABLES)
    depth = data.get("depth")
    entry = Entry(
        target=_text(data["target"]),
        inputs=_texts(data.get("inputs", [])),
        arguments=_texts(data.get("arguments", [])),
        flags=tuple(map(_flag, _texts(data.get("flags", [])))),
        conventions=_texts(data["conventions"]),
        depth=None if depth is None else _whole(depth),
        tolerance=None if data.get("tolerance") is None else _text(data["tolerance"]),
        versions={key: _text(value) for key, value in versions.items()},
        limits=dict(data.get("limits", {})),
        limits_text=_written(name, text),
    )
    with _by_hand(f"{path}, {name}"):
        for measure in (*entry.conventions, *entry.limits):
            measures.check(measure)
        entry.parsed(), limits.tolerance(entry.tolerance or "0%")
    names = entry.measures
    per_operator = (*(n for n in names if n != PARAMS), CALLS)
    numbers = Measured(
        {key: _whole(total[key]) for key in names},
        {path: ({key: _whole(row[key]) for key in names}, _text(row["class"])) for path, row in modules.items()},
        {op: ({key: _whole(row[key]) for key in per_operator}, "") for op, row in operators.items()},
        {op: _whole(count) for op, count in uncounted.items()},
    )
    return replace(entry, numbers=numbers)


def _written(name: str, text: str) -> str:
    """The lines of the table of limits of ``name`` as they stand in ``text``."""
    lines = text.splitlines()
    wanted = toml.header("targets", name, "limits")
    start = next((i + 1 for i, line in enumerate(lines) if line.strip() == wanted), len(lines))
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("[") or lines[i] == _END), len(lines))
    return "\n".join(lines[start:end]).rstrip()


@contextlib.contextmanager
def _by_hand(where: str) -> Iterator[None]:
    """Say ``where`` a convention, a limit or a tolerance is that a person wrote and that is none."""
    try:
        yield
    except UsageError as error:
        raise SchemaError(f"{where}: {error}") from error


def _flag(name: str) -> str:
    if name not in FLAGS:
        raise ValueError(f"{name!r}, which is none of {', '.join(FLAGS)}")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}, which is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r}, which is no list")
    return tuple(map(_text, values))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r}, which is no whole number")
    return value

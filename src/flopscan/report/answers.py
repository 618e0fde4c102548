"""What other counters say of a model beside what flopscan says that they say."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from flopscan.report.choices import NARROWEST
from flopscan.report.layout import Column, Line, Row, coloured, plain, table, wrap
from flopscan.report.numbers import exact

SCHEMA = "flopscan.answers/1"
SAID, ABSENT = "said", "not installed"


@dataclass(frozen=True, slots=True)
class Answer:
    """A number of a tool beside ours under the convention that reproduces it, both in ``unit``.

    Where one is missing (None), ``status`` says why in a word or two and ``reason`` in a sentence.
    """

    tool: str
    version: str
    convention: str
    unit: str
    theirs: int | None
    ours: int | None
    status: str = SAID
    reason: str = ""

    @property
    def residual(self) -> int | None:
        """Theirs less ours; None where one of them is missing."""
        return None if self.theirs is None or self.ours is None else self.theirs - self.ours

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON-ready data."""
        return {
            "tool": self.tool,
            "version": self.version,
            "convention": self.convention,
            "unit": self.unit,
            "theirs": self.theirs,
            "ours": self.ours,
            "residual": self.residual,
            "status": self.status,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Answers:
    """The answers of several tools on one model."""

    target: str
    inputs: tuple[str, ...]
    answers: tuple[Answer, ...]

    @property
    def findings(self) -> tuple[Answer, ...]:
        """The answers that leave a residual."""
        return tuple(answer for answer in self.answers if answer.residual)

    def to_dict(self) -> dict[str, Any]:
        """The answers as JSON-ready data."""
        rows = [answer.to_dict() for answer in self.answers]
        return {"schema": SCHEMA, "target": self.target, "inputs": list(self.inputs), "answers": rows}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from flopscan.report import notebook

        return notebook.text(str(self))

    def __str__(self) -> str:
        return render(self)


def render(found: Answers, *, width: int | None = None, color: bool = False) -> str:
    """The answers as text of ``width`` columns (default: the terminal's), without a newline at the end."""
    width = max(NARROWEST, shutil.get_terminal_size().columns if width is None else width)
    lines = wrap(found.target or "a model", width, style="bold")
    if found.inputs:
        lines += wrap(", ".join(found.inputs), width, style="dim")
    rows = [_row(answer) for answer in found.answers]
    columns = [
        Column("tool", "name"), Column("it says"), Column("flopscan says", rank=1), Column("unit", rank=2),
        Column("residual", style="bold"),
    ]  # fmt: skip
    body, left = table(columns, rows, width)
    lines += [[("", "")], *body]
    if left:
        lines += wrap(f"no room in {width} columns for: {', '.join(left)}", width, style="dim")
    for section in (_reasons(found, width), _findings(found, width), _summary(found, width)):
        lines += [[("", "")], *section] if section else []
    return coloured(lines) if color else plain(lines)


def _row(answer: Answer) -> Row:
    theirs = answer.status if answer.theirs is None else exact(answer.theirs)
    ours = "-" if answer.ours is None else exact(answer.ours)
    residual = "-" if answer.residual is None else f"{answer.residual:+,}" if answer.residual else "0"
    style = "red" if answer.residual else "dim" if answer.residual is None else ""
    return Row(((answer.tool, answer.version), theirs, ours, answer.unit, residual), style)


def _reasons(found: Answers, width: int) -> list[Line]:
    """Why a tool has no number, each reason once; what is not installed in one sentence."""
    told: dict[tuple[str, str], list[str]] = {}
    for answer in found.answers:
        if answer.residual is None and answer.status != ABSENT:
            names = told.setdefault((answer.status, answer.reason), [])
            names += [answer.tool] if answer.tool not in names else []
    texts = [": ".join([", ".join(names), *(w for w in why if w != SAID)]) for why, names in told.items()]
    absent = dict.fromkeys(answer.reason for answer in found.answers if answer.status == ABSENT)
    if absent:
        texts.append(f"{ABSENT}: {'; '.join(absent)}")
    return [line for text in texts for line in wrap(text, width, indent="  ", style="dim")]


def _findings(found: Answers, width: int) -> list[Line]:
    lines: list[Line] = []
    for answer in found.findings:
        residual = answer.residual or 0
        text = (
            f"finding: {answer.tool} {answer.version} says {exact(abs(residual))} {answer.unit}"
            f" {'more' if residual > 0 else 'less'} than the convention {answer.convention} gives"
        )
        lines += wrap(f"{text}{f'; {answer.reason}' if answer.reason else ''}", width, indent="  ", style="red")
    return lines


def _summary(found: Answers, width: int) -> list[Line]:
    """How many numbers agree, differ, are missing."""
    agree = sum(answer.residual == 0 for answer in found.answers)
    missing = sum(answer.residual is None for answer in found.answers)
    differ = len(found.findings)
    texts = (
        f"{_numbers(agree)} agree{'s' * (agree == 1)} to the unit",
        f"{_numbers(differ)} differ{'s' * (differ == 1)}",
        f"{_numbers(missing)} missing",
    )
    counts = agree, differ, missing
    told = ", ".join(text for text, count in zip(texts, counts, strict=True) if count)
    return wrap(told, width, style="red" if differ else "green" if agree else "dim")


def _numbers(count: int) -> str:
    return f"{count} number{'s' * (count != 1)}"

"""Several models on one command line: labels, inputs for one of them or all, and a number that is varied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from flopscan.cli import capturing
from flopscan.errors import UsageError
from flopscan.report.choices import SAVED

if TYPE_CHECKING:
    from flopscan.report.saved import Saved

TARGETS_HELP = f"""{capturing.TARGET_HELP}
It may be given a name, as in VMamba-T=vmamba_tiny. Or it is what was saved of a model: a report, ledger or trace, .json
or .json.gz.

\b
  --input 1x3x224x224           for all models
  --input 1x3x256x256@VMamba-T  for the one called so, instead
  --input 1x3x{{r}}x{{r}} --over r=224,384   each model at each of these
"""
over = click.option(
    "--over", metavar="NAME=N,N,...", help="Numbers to put in turn in place of {NAME} in --input and --arg."
)


@dataclass(frozen=True)
class Asked:
    """One count: the model's name in the result, its target, inputs and arguments, the varied number if there is."""

    name: str
    target: str
    inputs: tuple[str, ...]
    arguments: tuple[str, ...]
    point: int | None = None

    @property
    def is_saved(self) -> bool:
        """Whether the target is a file of what was saved."""
        return self.target.endswith(SAVED)


def asked(
    targets: Sequence[str], inputs: Sequence[str], arguments: Sequence[str], over: str | None
) -> tuple[list[Asked], str]:
    """Every count that is asked for, and the name of what is varied (empty for nothing). Raises UsageError."""
    names = [_label(target) for target in targets]
    twice = [name for name, _ in names if [n for n, _ in names].count(name) > 1]
    if twice:
        raise UsageError(f"two models are called {twice[0]!r}; name them apart, as in A={names[0][1]} B={names[0][1]}")
    labels = [name for name, _ in names]
    for text in _common(inputs, labels):
        if "@" in text:
            whose = text.rpartition("@")[2]
            raise UsageError(f"--input {text!r}: no model is called {whose!r}; expected {', '.join(labels)}")
    variable, points = _points(over)
    found = []
    for name, target in names:
        mine = _own(inputs, name, labels, "--input") or _common(inputs, labels)
        settings = _common(arguments, labels) + _own(arguments, name, labels, "--arg")
        is_saved = target.endswith(SAVED)
        if is_saved and _own((*inputs, *arguments), name, labels, ""):
            raise UsageError(f"{target} was counted already; --input and --arg are for a model")
        if is_saved and variable:
            raise UsageError(f"{target} was counted already; --over needs a model, to count it at each {variable}")
        used = any(f"{{{variable}}}" in text for text in (*mine, *settings))
        if variable and not used:
            raise UsageError(f"--over varies {variable}, and no --input or --arg of {name} has {{{variable}}} in it")
        for point in points:
            found.append(Asked(name, target, _filled(mine, variable, point), _filled(settings, variable, point), point))
    return found, variable


def counted(one: Asked, *, backward: bool, train: bool, run: bool) -> Saved:
    """The ledger of a model, or what was saved of it. Raises FlopscanError where there is none."""
    from flopscan import analysis
    from flopscan.report import saved

    if one.is_saved:
        return saved.load(one.target)
    return analysis.price(capturing.capture(one.target, one.inputs, one.arguments, backward, train, run, False))


def again(context: click.Context, *without: str) -> str:
    """The command that was typed, but for the options named ``without``: those that only say how to show the result."""
    import shlex

    words = ["flopscan", str(context.command.name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        value: Any = context.params.get(name)
        default = parameter.get_default(context)
        if name in without or value is None or value == default or value == ():
            continue
        many = value if isinstance(value, tuple) else (value,)
        for one in many:
            if isinstance(parameter, click.Option):
                words.append(parameter.opts[0])
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                words.append(str(one))
    return shlex.join(words)


def _label(text: str) -> tuple[str, str]:
    """Name and target of ``VMamba-T=vmamba_tiny``; a target without a name is its own."""
    name, equals, target = text.partition("=")
    if equals and not (name.strip() and target):
        raise UsageError(f"{text!r} is no NAME=TARGET; write it as in VMamba-T=vmamba_tiny")
    return (name.strip(), target) if equals else (text, text)


def _points(over: str | None) -> tuple[str, list[int | None]]:
    if over is None:
        return "", [None]
    name, _, values = over.partition("=")
    numbers = [value.strip() for value in values.split(",")]
    if not name.isidentifier() or not all(re.fullmatch(r"\d+", number) for number in numbers):
        raise UsageError(f"--over {over!r} is not NAME=N,N,...; write it as in --over r=224,288,384")
    return name, list(dict.fromkeys(map(int, numbers)))


def _own(texts: Iterable[str], name: str, labels: Sequence[str], option: str) -> tuple[str, ...]:
    """Those for the model called ``name``, without its name."""
    return tuple(text[: -len(whose) - 1] for text in texts if (whose := _whose(text, labels)) == name)


def _common(texts: Iterable[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Those for all models."""
    return tuple(text for text in texts if _whose(text, labels) is None)


def _whose(text: str, labels: Sequence[str]) -> str | None:
    """The longest name of a model that ``text`` ends in, after an @."""
    return max((label for label in labels if text.endswith(f"@{label}")), key=len, default=None)


def _filled(texts: tuple[str, ...], variable: str, point: int | None) -> tuple[str, ...]:
    return tuple(text.replace(f"{{{variable}}}", str(point)) for text in texts) if variable else texts

"""`flops_budget`: a model costs what a test says that it may, or the test fails with what is heaviest in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flopscan import analysis, api
from flopscan.budget import findings, limits, measures
from flopscan.budget.check import Held
from flopscan.budget.measures import Measured
from flopscan.core.trace import TensorSpec
from flopscan.errors import UsageError
from flopscan.report import report as reports
from flopscan.report.layout import Column, Line, Row, plain, table, wrap
from flopscan.report.numbers import aligned, exact, percent
from flopscan.report.report import Report

_WIDTH = 100
_ROWS = 10
_NUMBER = re.compile(r"\d+")


class BudgetError(AssertionError):
    """A model is not within its budget; the text has a table of the heaviest modules, ``report`` the count."""

    def __init__(self, text: str, report: Report) -> None:
        super().__init__(text)
        self.report = report


def flops_budget(
    model: Callable[..., Any] | str,
    inputs: Any = (),
    *,
    backward: bool = False,
    training: bool | None = None,
    run: bool = False,
    options: Mapping[str, Any] | None = None,
    allow_uncounted: bool = False,
    **budgets: str,
) -> Report:
    """The count of ``model`` on ``inputs``, if it is within ``budgets``; raises BudgetError if it is not.

    ``inputs``: a shape, a tensor, a list of such, or a mapping by name; none for a target that has its own.
    ``budgets``: comparisons by measure, as ``macs="<=5G"``, ``flops="<4.82e9"``, ``params="==30_249_064"``,
    ``fvcore="4.84G +-1%"``: a convention by its name (``_`` for ``-``), ``params``, ``transcendentals`` or ``bytes``.
    Unless ``allow_uncounted``, an operator that is not counted breaks every budget: the number is then too small.
    The rest is as in `flopscan.count`. Raises UsageError for a budget that is none.
    """
    __tracebackhide__ = True
    if not budgets:
        raise UsageError("expected a budget, as in flops_budget(model, inputs, macs='<=5G')")
    asked = {measures.check(name): limits.limit(text) for name, text in budgets.items()}
    args, kwargs = _inputs(inputs)
    trace = api.trace_of(
        model, *args, backward=backward, training=training, run=run, options=options, inputs=kwargs
    )  # fmt: skip
    ledger = analysis.price(trace)
    now = measures.measure(ledger, list(asked))
    held = [Held(name, limit, now.total[name]) for name, limit in asked.items()]
    report = reports.make(ledger, next((name for name in asked if name not in measures.OTHERS), "flops"))
    broken = [one for one in held if not one.ok]
    if broken or (now.uncounted and not allow_uncounted):
        raise BudgetError(_text(report, held, now, broken[0].measure if broken else held[0].measure), report)
    return report


def _inputs(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs by position and by name."""
    if isinstance(given, Mapping):
        return (), dict(given)
    is_shape = isinstance(given, tuple) and given and all(type(size) is int for size in given)
    if is_shape or isinstance(given, TensorSpec) or hasattr(given, "shape"):
        return (given,), {}
    if isinstance(given, (list, tuple)):
        return tuple(given), {}
    raise UsageError(
        f"expected inputs as a shape (1, 3, 224, 224), a tensor, a list or a mapping of such; got {given!r}"
    )


def _text(report: Report, held: Iterable[Held], now: Measured, measure: str) -> str:
    """What a person reads when a budget is broken: every limit, what is not counted, and the heaviest modules."""
    inputs = ", ".join(report.ledger.trace.origin.get("inputs", ()))
    lines: list[Line] = [[(f"{report.target} is not within its budget{f', on {inputs}' if inputs else ''}", "")]]
    rows = [
        Row(
            (
                (measures.label(one.measure), ""),
                exact(one.value),
                measures.unit(one.measure),
                (findings.against(one), ""),
            )
        )
        for one in held
    ]
    lines += table([Column("", "name"), Column("now"), Column(""), Column("", "name")], rows, _WIDTH)[0][1:]
    for missing in report.uncounted:
        lines += wrap(f"not counted: {missing}", _WIDTH, indent="  ")
    return plain([*lines, [("", "")], *_heaviest(report, now, measure)])


def _heaviest(report: Report, now: Measured, measure: str) -> list[Line]:
    """The modules that have most of ``measure`` by themselves; those that differ in their numbers alone are one."""
    groups: dict[tuple[str, str, int], list[str]] = {}
    root = report.by_module()[""].cls
    for path, amount in measures.own(now, measure).items():
        if amount > 0:
            cls = now.modules[path][1] if path else root
            groups.setdefault((_NUMBER.sub("*", path), cls, amount), []).append(path)
    ranked = sorted(groups.items(), key=lambda item: -item[0][2] * len(item[1]))
    rows = []
    for (pattern, cls, amount), paths in ranked[:_ROWS]:
        name = pattern if len(paths) > 1 else paths[0] or "(the model itself)"
        whole = amount * len(paths)
        remark = f"{len(paths)}x {cls}" if len(paths) > 1 else cls
        rows.append(Row(((name, remark), percent(whole, now.total[measure]), aligned(whole))))
    columns = [Column("heaviest modules", "name"), Column("share"), Column(measures.label(measure))]
    return table(columns, rows, _WIDTH)[0]

"""A check for GitHub Actions: a summary in Markdown, and a command a finding that annotates its line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from flopscan.budget import findings as told
from flopscan.budget import measures
from flopscan.budget.check import Outcome
from flopscan.budget.findings import ERROR, Finding
from flopscan.errors import FlopscanError, UsageError
from flopscan.report import compare_tree
from flopscan.report.numbers import exact

VARIABLE = "GITHUB_STEP_SUMMARY"
_COMMANDS = {ERROR: "error"}


def summary_path() -> str:
    """The file that a step's summary goes to. Raises UsageError where there is none."""
    path = os.environ.get(VARIABLE, "")
    if not path:
        raise UsageError(
            f"--github writes a summary to the file that ${VARIABLE} names, and it is not set; it is inside a step of"
            f" GitHub Actions, elsewhere write {VARIABLE}=summary.md flopscan check --github"
        )
    return path


def append(text: str, path: str) -> None:
    """Add ``text`` to the summary in ``path``: other steps' are in the same file."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise FlopscanError(f"cannot write {path}: {error.strerror}; it is what ${VARIABLE} names") from error


def commands(findings: Iterable[Finding]) -> list[str]:
    """A workflow command for each finding."""
    lines = []
    for finding in findings:
        command = _COMMANDS.get(finding.level, "notice")
        title = _property(f"flopscan: {finding.rule}")
        place = f"file={_property(finding.file)},line={finding.line},title={title}"
        lines.append(f"::{command} {place}::{_data(finding.text)}")
    return lines


def summary(outcomes: Sequence[Outcome], path: str) -> str:
    """The outcomes of checking the lock in ``path`` as Markdown, with a newline at the end."""
    lines = [f"## flopscan: {told.verdict(outcomes)}", "", f"Against `{path}`.", ""]
    lines += ["| target | | measure | locked | now | change |", "|---|---|---|---:|---:|---:|"]
    for outcome in outcomes:
        lines += _rows(outcome)
    for outcome in outcomes:
        lines += _details(outcome, path)
    return "\n".join([*lines, ""])


def _rows(outcome: Outcome) -> list[str]:
    sign = "✅" if outcome.ok else "❌"
    name = _code_cell(outcome.name)
    if outcome.error:
        return [f"| {name} | {sign} | {_cell(outcome.error)} | | | |"]
    rows = []
    for key in outcome.entry.measures:
        a, b = told.amounts(outcome.total, key)
        grew = "**" * (key in outcome.grown.measures)
        change = f"{grew}{told.part(a, b)}{grew}" if a != b else "="
        rows.append(f"| {name} | {sign} | {measures.label(key)} | {exact(a)} | {exact(b)} | {change} |")
        name = sign = ""
    return rows


def _details(outcome: Outcome, path: str) -> list[str]:
    """What is wrong with a target beside its totals, and where it comes from."""
    items = [told.broken(held) for held in outcome.broken]
    items += [told.uncounted(op, *counts) for op, counts in (outcome.newly_uncounted or {}).items()]
    if outcome.shrunk.measures:
        items.append(f"less than locked: {told.shrinkage(outcome)}")
    grown = _modules(outcome)
    lines = [f"{_code(str(line))}: {', '.join(map(_code, line.operators))}" for line in outcome.sources]
    if not (items or grown or lines):
        return []
    text = ["", f"### {_code(outcome.name)}", *(f"* {_cell(item)}" for item in items)]
    text += grown
    if lines:
        text += ["", "Where it comes from:", *(f"* {line}" for line in lines)]
    if outcome.grown.measures:
        text += ["", f"If this is meant: {_code(told.accepting(outcome, path))}"]
    return text


def _modules(outcome: Outcome) -> list[str]:
    """The modules that grew under the first measure that did, as a tree."""
    if not outcome.grown.modules:
        return []
    key = outcome.grown.measures[0]
    rows = ["", f"| {measures.label(key)} by module | locked | now | change |", "|---|---:|---:|---:|"]
    for level, node in compare_tree.visible(compare_tree.tree(outcome.total, outcome.grown.modules), None)[0]:
        a, b = (amount * node.times for amount in told.amounts(node.change, key))
        name = f"{'&emsp;' * level}{_code_cell(node.label or '(model)')} {_cell(compare_tree.remark(node))}".rstrip()
        rows.append(f"| {name} | {exact(a)} | {exact(b)} | {told.part(a, b) if a != b else '='} |")
    return rows


def _code(text: str) -> str:
    """``text`` as code, in which only the sign of code itself ends it."""
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def _code_cell(text: str) -> str:
    """``text`` as code inside of a table, where a bar ends the cell in code too."""
    return _code(text).replace("|", "\\|")


def _cell(text: str) -> str:
    """``text`` as it is: no markup, one line."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

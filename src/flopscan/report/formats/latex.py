r"""LaTeX: a table with booktabs' rules and the footnote below, to be \input into a paper."""

from __future__ import annotations

import re
import unicodedata

from flopscan.report.format import Format, Shown
from flopscan.report.paper import sheet as sheet_of
from flopscan.report.report import Report
from flopscan.report.sheet import Entry, Heading, Sheet, at_least, clean, written

_MOST_ON_A_PAGE = 44
_LONG_WORD = 24
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "≥": r"$\geq$", "\u00d7": r"$\times$", "…": r"\ldots{}",
}  # fmt: skip
_LIGATURE = re.compile(r"([-'`?!])(?=[-'`])")
_NOT_IN_EVERY_FONT = "ÐðÞþ"


def escape(text: str) -> str:
    r"""``text`` as the same letters in LaTeX, whatever they are; what an engine may not have becomes ``U+4E2D``."""
    return "".join(map(_letter, _LIGATURE.sub("\\1\0", clean(text)))).replace("\0", "{}")


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    is_latin = letter <= "ÿ" and unicodedata.category(letter).startswith("L") and letter not in _NOT_IN_EVERY_FONT
    return letter if letter.isascii() or is_latin else f"U+{ord(letter):04X}"


def table(sheet: Sheet) -> str:
    """A sheet in LaTeX, without a newline at the end; one that is longer than a page goes over several."""
    long = len(sheet.entries) > _MOST_ON_A_PAGE
    needs = r"\usepackage{booktabs,longtable}" if long else r"\usepackage{booktabs}"
    comments = [f"% needs {needs}"] + ([f"% again: {clean(sheet.again)}"] if sheet.again else [])
    title = rf"\caption{{{escape(sheet.title)}.}}\label{{{_label(sheet.title)}}}"
    columns = "@{}" + "".join("l" if heading.kind == "text" else "r" for heading in sheet.headings) + "@{}"
    header = " & ".join(escape(heading.header) for heading in sheet.headings) + r" \\"
    rows = [" & ".join(_cell(h, entry, i) for i, h in enumerate(sheet.headings)) + r" \\" for entry in sheet.entries]
    notes = [rf"\par {_broken(note)}" for note in sheet.footnotes]
    body = _long(columns, title, header, rows, notes) if long else _short(columns, title, header, rows, notes)
    return "\n".join(comments + body)


def render(report: Report, shown: Shown) -> str:
    """The report's main table in LaTeX."""
    return table(sheet_of(report, shown))


def _short(columns: str, title: str, header: str, rows: list[str], notes: list[str]) -> list[str]:
    return [
        r"\begin{table}", r"\centering\footnotesize\setlength{\tabcolsep}{4pt}", title,
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
        r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize\raggedright", *notes, r"\end{minipage}", r"\end{table}",
    ]  # fmt: skip


def _long(columns: str, title: str, header: str, rows: list[str], notes: list[str]) -> list[str]:
    return [
        r"\begingroup\footnotesize\setlength{\tabcolsep}{4pt}", rf"\begin{{longtable}}{{{columns}}}", rf"{title}\\",
        r"\toprule", header, r"\midrule", r"\endfirsthead", r"\toprule", header, r"\midrule", r"\endhead",
        r"\bottomrule", r"\endfoot", *rows, r"\end{longtable}", r"\scriptsize\raggedright", *notes, r"\par\endgroup",
    ]  # fmt: skip


def _cell(heading: Heading, entry: Entry, column: int) -> str:
    cell = entry.cells[column]
    text = escape(written(heading, cell, least=entry.least))
    if heading.kind == "count" and heading.power is None and cell is not None:
        number, _, letter = text.partition(" ")
        text = rf"{number}\,{letter}" if letter else rf"{number}\,\phantom{{M}}"  # digits stand below digits
    if at_least(heading, entry, cell):
        text = rf"$\geq$\,{text}"
    if entry.stands_out(column):
        text = rf"\textbf{{{text}}}"
    if column:
        return text
    if text.startswith(("[", "*")):  # would belong to the end of the row before
        text = f"{{}}{text}"
    indent = r"\quad" * entry.level + " " * bool(entry.level)
    return indent + text + (rf" \textit{{{escape(entry.remark)}}}" if entry.remark else "")


def _label(title: str) -> str:
    """A name to refer to: ``tab:cost-of-vmamba-tiny-by-module``."""
    return "tab:" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _broken(text: str) -> str:
    """``text`` with places where a long word may go on in the next line."""
    words = clean(text).split(" ")
    parts = (re.split(r"(?<=[./_:,])", word) if len(word) > _LONG_WORD else [word] for word in words)
    return " ".join(r"\allowbreak ".join(escape(part) for part in some if part) for some in parts)


FORMAT = Format("latex", (".tex",), render, table)

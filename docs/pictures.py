"""Draw what a terminal shows into docs/images: the text report and the explorer. `make pictures` runs it.

    PYTHONPATH=src python docs/pictures.py [FOLDER]

Pictures are SVG without a font of their own: nothing is fetched by who looks at them.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

from flopscan import analysis, api
from flopscan.cli.explorer import subject
from flopscan.cli.explorer.app import Explorer
from flopscan.report import report as reports
from flopscan.report.formats import text
from flopscan.report.report import Report

TARGET = "vmamba_tiny_v0"
DEVICE, DTYPE = "h100-sxm", "bf16"
TEXTS = {44: "dark", 80: "light", 120: "dark", 200: "light"}  # columns: theme
SIZES = {60: 24, 100: 30, 160: 40}  # columns and rows of the explorer
KEYS = {60: "3", 100: "3 b j j j", 160: "4 m slash o p enter"}
THEMES: dict[str, TerminalTheme] = {"dark": SVG_EXPORT_THEME, "light": DEFAULT_TERMINAL_THEME}
_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def counted() -> Report:
    """The report that is drawn."""
    return reports.make(analysis.price(api.trace_of(TARGET, origin={"again": f"flopscan count {TARGET}"})))


def text_report(report: Report, columns: int, theme: str, *, color: bool = True) -> str:
    """The text report as SVG, with its roofline from 120 columns on."""
    roofline = report.on(DEVICE, DTYPE) if columns >= 120 else None
    written = text.render(report, width=columns, color=color, roofline=roofline)
    console = Console(file=io.StringIO(), record=True, width=columns, force_terminal=True)
    console.print(Text.from_ansi(written), highlight=False, soft_wrap=True)
    return _bare(console.export_svg(title=f"flopscan count {TARGET}", theme=THEMES[theme]))


def explorer(report: Report, columns: int, theme: str) -> str:
    """The explorer as SVG, after the keys that are pressed at that width."""

    async def go() -> str:
        app = Explorer(subject.open_(f"{TARGET}.json", report.ledger))
        async with app.run_test(size=(columns, SIZES[columns])) as pilot:
            app.theme = f"textual-{theme}"
            await pilot.press(*KEYS[columns].split())
            await pilot.pause()
            return app.export_screenshot(title=f"flopscan view {TARGET}")

    return _bare(asyncio.run(go()))


def _bare(svg: str) -> str:
    """``svg`` without the fonts that it would fetch, and always the same for the same picture."""
    svg = _FONT.sub("", svg)
    svg = re.sub(r"terminal-\d+", "t", svg)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def pictures() -> dict[str, str]:
    """Every picture by the name of its file."""
    report = counted()
    found = {f"text-{columns}.svg": text_report(report, columns, theme) for columns, theme in TEXTS.items()}
    found["text-80-plain.svg"] = text_report(report, 80, "light", color=False)
    for columns in SIZES:
        found |= {f"view-{columns}-{theme}.svg": explorer(report, columns, theme) for theme in THEMES}
    return found


def main() -> None:
    """Write the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images"
    for name, svg in pictures().items():
        (folder / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()

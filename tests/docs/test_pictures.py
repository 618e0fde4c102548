"""The pictures of the documents: each is shown, each that is shown is there, and none fetches anything."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import flopscan
from flopscan.report.numbers import exact, si
from flopscan.report.report import Report

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
pytest.importorskip("textual", reason="the extra 'view' is not installed")


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(drawing: ModuleType) -> Report:
    return flopscan.count(drawing.TARGET)


def words(svg: str) -> str:
    """The text of a picture."""
    return re.sub(r"<[^>]+>", "", svg).replace("&#160;", " ")


def addresses(svg: str) -> set[str]:
    return set(re.findall(r"https?://[^\s\"')<]+", svg)) - {"http://www.w3.org/2000/svg", "https://www.textualize.io"}


def test_every_picture_is_shown_and_every_shown_one_is_there() -> None:
    pages = [ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / "docs").glob("*.md")]
    shown = {name for page in pages for name in re.findall(r"images/([\w.-]+)", page.read_text(encoding="utf-8"))}
    assert shown == {path.name for path in IMAGES.iterdir()}


def test_those_kept_are_those_drawn_and_fetch_nothing(drawing: ModuleType) -> None:
    drawn = {f"text-{columns}.svg" for columns in drawing.TEXTS} | {"text-80-plain.svg"}
    drawn |= {f"view-{columns}-{theme}.svg" for columns in drawing.SIZES for theme in drawing.THEMES}
    assert {path.name for path in IMAGES.glob("*.svg")} == drawn
    for path in IMAGES.glob("*.svg"):
        svg = path.read_text(encoding="utf-8")
        assert not addresses(svg) and "@font-face" not in svg and len(svg) < 150_000, path.name


def test_a_picture_has_the_numbers_of_the_report(drawing: ModuleType, report: Report) -> None:
    for columns, theme in drawing.TEXTS.items():
        svg = drawing.text_report(report, columns, theme)
        told = words(svg)
        for value in (report.flops, report.macs, report.params, report.transcendentals):
            assert exact(value) in told and exact(value) in words((IMAGES / f"text-{columns}.svg").read_text("utf-8"))
        assert not addresses(svg)
    svg = drawing.explorer(report, 60, "light")
    assert f"{si(report.flops)} FLOPs" in words(svg) and not addresses(svg)
    assert f"{si(report.flops)} FLOPs" in words((IMAGES / "view-60-light.svg").read_text("utf-8"))

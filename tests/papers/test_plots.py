"""Plots: what they show is what was counted, every time in the same bytes, with fonts inside."""

from __future__ import annotations

import json
import shlex
import struct
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flopscan.cli.main import main
from flopscan.errors import FlopscanError, SchemaError, UsageError
from flopscan.report.columns import find
from flopscan.report.figures import Figures
from flopscan.report.models import Model, Models
from flopscan.report.plots import cost, roofline, scan, style
from samples import HOSTILE, hostile_ledger, make_ledger

pytestmark = pytest.mark.papers
pytest.importorskip("matplotlib")

ROOF: dict[str, Any] = {
    "title": "A device", "arithmetic_dtype": "fp32",
    "rates": {"memory": 1e12, "matrix": 1e14, "vector": 1e13, "special": None},
    "points": [
        {"name": "aten::mm", "flops": 10**12, "bytes": 10**9, "seconds": 0.01, "bound_by": "matrix"},
        {"name": "aten::add", "flops": 10**9, "bytes": 10**10, "seconds": 0.01, "bound_by": "memory"},
        {"name": "aten::cat", "flops": 0, "bytes": 10**10, "seconds": 0.01, "bound_by": "memory"},
    ],
    "assumptions": ["assumed: much."],
}  # fmt: skip


def swept(known: bool = True, names: tuple[str, ...] = ("A", "B"), points: tuple[int, ...] = (2, 4)) -> Models:
    figures = Figures("a", hostile_ledger(known=known))
    rows = tuple(Model(name, name, figures, point=point) for name in names for point in points)
    return Models(rows, (find("flops"),), "r")


def lines(plot: style.Plot) -> dict[str, list[tuple[float, float]]]:
    return {
        line.get_label(): list(zip(*line.get_data(), strict=True)) for line in plot.figure.axes[0].get_lines()
        if not line.get_label().startswith("_")
    }  # fmt: skip


def test_a_line_goes_through_every_count() -> None:
    made = swept()
    plot = cost.draw(made)
    flops = int(made.cells[0][0])  # type: ignore[arg-type]
    heading = made.headings[2]
    assert heading.header == plot.figure.axes[0].get_ylabel() == "FLOPs (P)"
    expected = [(2, flops / 1000 ** (heading.power or 0)), (4, flops / 1000 ** (heading.power or 0))]
    assert lines(plot) == {"A": expected, "B": expected}
    assert [tick.get_text() for tick in plot.figure.axes[0].get_xticklabels()] == ["2", "4"]
    assert plot.caption == made.sheet().footnotes


def test_what_lacks_something_is_hollow() -> None:
    whole, part = cost.draw(swept()), cost.draw(swept(known=False))
    assert len(part.figure.axes[0].get_lines()) == 2 * len(whole.figure.axes[0].get_lines())
    assert part.figure.axes[0].get_lines()[1].get_markerfacecolor() == "white"
    assert part.figure.axes[0].get_ylabel() == "≥ FLOPs (P)"


def test_a_wide_range_is_logarithmic() -> None:
    plot = cost.draw(swept(points=(256, 1024, 4096)))
    assert (plot.figure.axes[0].get_xscale(), plot.figure.axes[0].get_yscale()) == ("log", "log")
    plot = cost.draw(swept(points=(256, 1024, 4096)), log="none")
    assert (plot.figure.axes[0].get_xscale(), plot.figure.axes[0].get_yscale()) == ("linear", "linear")


def test_a_bar_is_as_long_as_the_share() -> None:
    plot = scan.draw({"A": {"flops": (1, 4), "vmamba": (1, 2)}, "B": {"flops": (0, 4)}})
    bars = [round(bar.get_width(), 9) for container in plot.figure.axes[0].containers for bar in container]
    assert bars == [25.0, 50.0, 0.0]
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["25.0%", "50.0%", "0%"]
    assert "flops: 6bdln" in plot.caption[0]
    with pytest.raises(UsageError, match=r"^there is no selective scan in A; nothing to plot$"):
        scan.draw({"A": {}})


def test_points_stand_under_their_ceilings() -> None:
    plot = roofline.draw(ROOF)
    places = [tuple(p) for c in plot.figure.axes[0].collections for p in c.get_offsets()]
    assert [tuple(map(float, place)) for place in places] == [(0.1, 1e11), (1000.0, 1e14)]
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["matrix units", "vector units", "add", "mm"]
    assert "not drawn: aten::cat." in plot.caption[1] and plot.caption[-1] == "assumed: much."
    with pytest.raises(SchemaError, match=r"^a.json is damaged: .* lacks or garbles 'rates'"):
        roofline.draw({"points": []}, source="a.json")
    with pytest.raises(UsageError, match="no points with work"):
        roofline.draw({**ROOF, "points": []}, source="a.json")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_files_are_the_same_every_time_and_have_their_fonts(tmp_path: Path) -> None:
    for suffix in ("svg", "pdf", "png"):
        for name in ("a", "b"):
            cost.draw(swept(names=HOSTILE)).save(tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes(), suffix
    svg = (tmp_path / "a.svg").read_text()
    tree = ElementTree.fromstring(svg)
    assert not list(tree.iter("{http://www.w3.org/2000/svg}text")), "letters are outlines"
    assert not list(tree.iter("{http://www.w3.org/2000/svg}script")) and "multiply-add 2" in svg
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"CreationDate" not in pdf
    wide, high = struct.unpack(">II", (tmp_path / "a.png").read_bytes()[16:24])
    assert (wide, high) == (680, 489)


def test_settings_of_a_person_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    cost.draw(swept()).save(tmp_path / "a.svg")
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 10, "svg.fonttype": "none", "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        cost.draw(swept()).save(tmp_path / "b.svg")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^a plot of cost needs a number that is varied"):
        cost.draw(Models((), (find("flops"),)))
    with pytest.raises(FlopscanError, match=r"^there is nothing to plot: no model has a number$"):
        cost.draw(Models((Model("A", "a", reasons=("gone",), point=1),), (find("flops"),), "r"))
    with pytest.raises(UsageError, match="inches wide cannot be read"):
        cost.draw(swept(), width=0.1)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FlopscanError, match=r"^plots need matplotlib, .*: pip install 'flopscan\[plot\]'$"):
        cost.draw(swept())


Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    net = "from torch import nn\n\n\ndef net():\n    return nn.Linear(3, 4)\n"
    (tmp_path / "plotted.py").write_text(textwrap.dedent(net))
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)

    def run(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(shlex.split(line))
        return code, *capsys.readouterr()

    yield run
    sys.path[:] = path
    sys.modules.pop("plotted", None)


def test_the_commands(run: Run, tmp_path: Path) -> None:
    code, out, err = run("plot cost N=plotted.py:net --input '{b}x3' --over b=2,4 -o a.svg -o a.png")
    assert (code, err) == (0, "flopscan: wrote a.svg\nflopscan: wrote a.png\n")
    assert out.startswith("FLOPs: multiply-add 2, ") and "Input: 2x3 float32 (b 2); 4x3 float32 (b 4)." in out
    code, out, _ = run("plot cost N=plotted.py:net M=gone --input '{b}x3' --over b=2,4 -o a.pdf")
    assert code == 1 and "No number of M, b 2, M, b 4: there is no target 'gone'" in out
    code, out, _ = run("plot scan vmamba_tiny -o b.pdf")
    assert code == 0 and "Inputs: vmamba_tiny on 1x3x224x224 float32." in out
    run("count vmamba_tiny -o v.json")
    assert run("plot scan vmamba_tiny=v.json -o c.pdf")[1] == out
    report = json.loads((tmp_path / "v.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps({**report, "roofline": ROOF}))
    assert run("plot roofline r.json -o d.svg")[0] == 0 and (tmp_path / "d.svg").exists()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "plot cost x --input {r} --over r=1 -o a.json",
            "cannot tell the format of 'a.json'; expected a name that ends in .svg",
        ),
        ("plot cost x -o a.svg", "a plot of cost needs --over, as in --input 1x3x{r}x{r} --over r=224,288,384"),
        ("plot cost x --column throughput -o a.svg", "throughput cannot be drawn against a size; expected a column"),
        (
            "plot scan plotted.py:net --input 2x3 -o a.svg",
            "there is no selective scan in plotted.py:net; nothing to plot",
        ),
        ("plot roofline a.json -o a.svg", "a.json has no roofline; save a report with one: flopscan count TARGET"),
        ("plot cost x", "missing option '--output'"),
    ],
)
def test_errors_are_one_sentence(run: Run, tmp_path: Path, line: str, text: str) -> None:
    from flopscan.report.report import make

    make(make_ledger()).save(tmp_path / "a.json")
    code, _, err = run(line)
    assert code == 2 and err.startswith(f"flopscan: error: {text}")
    assert not (tmp_path / "a.svg").exists()

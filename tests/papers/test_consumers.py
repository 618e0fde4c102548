"""Every export opens in what it is for: LaTeX compiles, pandas reads, a notebook shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from flopscan.report import formats
from flopscan.report.columns import find
from flopscan.report.figures import Figures
from flopscan.report.format import Shown
from flopscan.report.formats import csv as as_csv
from flopscan.report.formats import latex
from flopscan.report.models import Model, Models
from flopscan.report.report import make
from flopscan.report.sheet import Entry, Heading, Sheet
from samples import HOSTILE, hostile_ledger

pytestmark = pytest.mark.papers
LATEX = pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
DOCUMENT = r"\documentclass{article}\usepackage{booktabs,longtable,graphicx}\begin{document}\input{table}\end{document}"


def compiled(table: str, folder: Path) -> str:
    """The text of the document that pdflatex makes of a table, where pdftotext can say it, else what pdflatex said."""
    (folder / "table.tex").write_text(table)
    (folder / "paper.tex").write_text(DOCUMENT)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=folder, capture_output=True,
        stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "Overfull" not in said, "a table that is too wide loses digits"
    if shutil.which("pdftotext"):
        return subprocess.run(
            ["pdftotext", "-layout", "paper.pdf", "-"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout
    return said


def models(known: bool = True) -> Models:
    figures = Figures("a", hostile_ledger(known=known))
    rows = [Model(name, "a", figures) for name in HOSTILE] + [Model("gone", "b", reasons=(HOSTILE[4],))]
    return Models(tuple(rows), tuple(map(find, ("input", "params", "macs", "flops", "vmamba"))), best=True)


@LATEX
@pytest.mark.parametrize("by", ["module", "operator", "line"])
@pytest.mark.parametrize("known", [True, False])
def test_a_report_compiles(by: str, known: bool, tmp_path: Path) -> None:
    shown = make(hostile_ledger(known=known, lines=True))
    text = compiled(formats.get("latex").render(shown, Shown(by=by)), tmp_path)
    assert "Output written" in text or "=cmd" in text


@LATEX
def test_a_table_of_models_and_a_long_table_compile(tmp_path: Path) -> None:
    compiled(latex.table(models(known=False).sheet()), tmp_path)
    letters = [chr(n) for n in range(32, 0x180) if chr(n).isprintable()]
    entries = tuple(Entry((f"{letter} {letter * 3}", ord(letter))) for letter in letters)
    compiled(latex.table(Sheet("every letter", (Heading("a", "a", "text"), Heading("b", "b")), entries)), tmp_path)


def test_pandas_reads_whole_numbers() -> None:
    pandas = pytest.importorskip("pandas")
    import io

    for known in (True, False):
        shown = make(hostile_ledger(known=known))
        table = pandas.read_csv(io.StringIO(as_csv.render(shown, Shown(by="operator"))))
        rows = table[table["row"] == "operator"]
        assert rows["flops"].dtype == "int64" and int(rows["flops"].sum()) == int(shown.flops)
        assert int(table["bytes_read"].iloc[0]) == shown.bytes_read
        compared = pandas.read_csv(io.StringIO(as_csv.table(models(known).data())))
        assert int(compared["flops"].iloc[0]) == int(shown.flops)
        assert compared["flops"].isna().tolist() == [False] * len(HOSTILE) + [True]


def test_a_notebook_shows_what_a_report_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import flopscan

    kept = os.environ.get("PYTHONPATH", "")  # where what the kernel needs may be
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(Path(flopscan.__file__).parents[1]), kept)).strip(os.pathsep))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    cells = [
        "import flopscan\nreport = flopscan.count('vmamba_tiny')\nreport",
        "report.explain('flops', 'macs')",
        "from flopscan.report.compare import compare\ncompare(report.to_dict(), report.to_dict())",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    shown = [cell.outputs[-1]["data"]["text/html"] for cell in notebook.cells]
    assert "9,768,974,520" in shown[0] and "blocks.0-7" in shown[0]
    assert "4,825,265,664" in shown[1] and "no difference" in shown[2]
    nbformat.validate(notebook)

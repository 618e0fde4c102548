"""The package as a whole: examples in docstrings run, importing it is light, the README's promises hold."""

from __future__ import annotations

import doctest
import importlib
import re
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import flopscan
from golden.vmamba import counted

PINNED = pytest.mark.skipif(version("torch")[:4] != "2.13", reason="about the torch that constraints.txt pins")
ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "flopscan"
WITH_EXAMPLES = sorted(
    str(path.relative_to(SOURCE.parent).with_suffix("")).replace("/", ".").removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert result.attempted > 0
    assert result.failed == 0


def test_importing_flopscan_loads_neither_torch_nor_rich() -> None:
    code = "import sys, flopscan; print([m for m in ('torch', 'rich', 'sympy', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@PINNED
def test_a_first_count_does_not_load_the_compiler() -> None:
    """torch's Python meta kernels import sympy and the compiler, which takes longer than the count."""
    code = (
        "import sys, flopscan; flopscan.count('vmamba_tiny');"
        "print([m for m in ('torch._dynamo', 'sympy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in flopscan.__all__:
        assert getattr(flopscan, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = flopscan.nothing


def test_the_readme_names_real_targets_and_conventions() -> None:
    from flopscan import conventions

    text = (ROOT / "README.md").read_text()
    assert "make demo" in text and "make test" in text
    rows = dict(re.findall(r"^\| `([\w.-]+)`[^|]* \| ([^|]+) \|", text, re.MULTILINE))
    for name in conventions.names():
        assert rows.get(name) == conventions.get(name).unit, f"the README does not list {name} with its unit"
    for name, total in re.findall(r"\| `(vmamba_\w+)` \|.*\| ([\d,]+) \|", text):
        assert counted(name).under("vmamba") == int(total.replace(",", ""))


def test_the_page_of_other_tools_is_what_their_files_say() -> None:
    from flopscan import conventions

    made = runpy.run_path(str(ROOT / "docs" / "peers.py"))
    assert made["page"]() == (ROOT / "docs" / "peers.md").read_text(), "run `make docs`"
    listed = {name for names in made["PEERS"].values() for name in names}
    ours = {"flops", "macs", "vmamba", "vmamba-v0", "localvim", "gu", "dispatcher"}
    assert listed | ours == set(conventions.names()) and not listed & ours


@PINNED
def test_the_report_in_the_readme_is_what_is_printed() -> None:
    from flopscan.report.formats import text

    printed = text.render(flopscan.count("vmamba_tiny"), width=100, depth=1)
    same_on_every_version = printed[: printed.index("not counted: nothing")]
    assert same_on_every_version in (ROOT / "README.md").read_text()

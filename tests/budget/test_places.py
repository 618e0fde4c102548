"""A line of a trace is found again in the repository, or said not to be."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from flopscan.budget import places


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two files of one name, both imported, and a third."""
    root = tmp_path / "a repository"
    for name in ("one/net.py", "two/net.py", "two/part.py", ".venv/lib/site-packages/pack/net2.py"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        module = ModuleType(name)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, f"test of places {name}", module)
    (root / ".git").mkdir()
    monkeypatch.chdir(root / "two")
    return root


def test_the_root_is_where_git_is(repository: Path, tmp_path: Path) -> None:
    assert places.root() == str(repository.resolve())
    assert places.root(str(tmp_path)) == str(tmp_path.resolve()), "without a repository: the folder itself"


def test_a_file_is_found(repository: Path) -> None:
    found = places.find("part.py", "net.py:Net")
    assert places.relative(found, places.root()) == "two/part.py"


def test_of_two_of_one_name_it_is_that_of_the_target_or_none(repository: Path) -> None:
    assert places.find("net.py", "net.py:Net") == str(repository.resolve() / "two" / "net.py")
    assert places.find("net.py", "../one/net.py:Net") == str(repository.resolve() / "one" / "net.py")
    assert places.find("net.py", "package.module:Net") is None
    assert places.find("gone.py", "net.py:Net") is None


def test_what_is_outside_or_installed_has_no_place(repository: Path, tmp_path: Path) -> None:
    assert places.relative(str(tmp_path / "other.py"), places.root()) is None
    assert places.relative(places.find("pack/net2.py", "net.py:Net"), places.root()) is None
    assert places.relative(None, places.root()) is None
    assert places.find(str(tmp_path / "whole.py"), "net.py:Net") == str(tmp_path / "whole.py")

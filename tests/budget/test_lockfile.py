"""A lock is written the same every time, read back whole, and refused where it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopscan.budget import lockfile, toml
from flopscan.budget.lock import Entry, Lock
from flopscan.budget.measures import Measured
from flopscan.errors import FlopscanError, SchemaError, UsageError

SIZES = {"flops": 48, "transcendentals": 0, "params": 16}
ENTRY = Entry(
    "nets.py:Net",
    ("2x3", "ids=1x4:int64"),
    ("width=4", 'text="a\\b"'),
    ("backward", "run"),
    depth=2,
    tolerance="1%",
    numbers=Measured(
        SIZES,
        {"b": (SIZES, "Linear"), "a.0": (SIZES, "Odd[Class]")},
        {"aten::addmm": ({"flops": 48, "transcendentals": 0, "calls": 1}, "")},
        {"my::op": 3},
    ),
    versions={"flopscan": "0.1.0", "torch": "2.13.0+cpu"},
)
LOCK = Lock({"z": ENTRY, "a name: with = signs": replace(ENTRY, depth=None, tolerance=None)}, "0.5%")


@pytest.fixture
def path(tmp_path: Path) -> str:
    lockfile.save(LOCK, str(tmp_path / "flops.lock"))
    return str(tmp_path / "flops.lock")


def rewritten(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def test_what_is_written_is_read(path: str) -> None:
    assert lockfile.load(path) == LOCK
    assert lockfile.render(lockfile.load(path)) == Path(path).read_text()


def test_it_is_the_same_every_time_and_changes_line_by_line() -> None:
    other = Lock({name: LOCK.entries[name] for name in sorted(LOCK.entries)}, LOCK.tolerance)
    assert lockfile.render(other) == lockfile.render(LOCK)
    more = {**ENTRY.numbers.modules, "b": ({**SIZES, "flops": 49}, "Linear")}
    moved = Lock({**LOCK.entries, "z": replace(ENTRY, numbers=replace(ENTRY.numbers, modules=more))}, LOCK.tolerance)
    before, after = lockfile.render(LOCK).splitlines(), lockfile.render(moved).splitlines()
    assert [line for line in after if line not in before] == [
        'b = { class = "Linear", flops = 49, transcendentals = 0, params = 16 }'
    ]


def test_modules_stay_in_the_order_of_the_model(path: str) -> None:
    assert list(lockfile.load(path).entries["z"].numbers.modules) == ["b", "a.0"]


@given(st.text(st.characters(exclude_categories=("Cs",))), st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_is_a_key_and_a_value(name: str, value: str) -> None:
    assert toml.loads("\n".join(toml.table(("t", name), {name: value, f"{name}2": {name: [value]}}))) == {
        "t": {name: {name: value, f"{name}2": {name: [value]}}}
    }


def test_a_lock_that_is_cut_anywhere_is_refused(path: str) -> None:
    text = Path(path).read_text().rstrip()
    for end in range(len(text)):
        Path(path).write_text(text[:end])
        with pytest.raises(SchemaError) as error:
            lockfile.load(path)
        assert path in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('schema = "flopscan.lock/1"', 'schema = "flopscan.lock/9"', "has schema 'flopscan.lock/9', expected 'flopsc"),
        ('schema = "flopscan.lock/1"\n', "", "has no schema, expected 'flopscan.lock/1'; lock again"),
        ('tolerance = "0.5%"\n', "", "lacks or garbles 'tolerance'; make it again"),
        ('tolerance = "0.5%"', "tolerance = 0.5", "lacks or garbles 0.5, which is no text"),
        ('tolerance = "0.5%"', 'tolerance = "lots"', ": the tolerance 'lots' is not a percentage from 0% to 100%"),
        ('tolerance = "1%"', 'tolerance = "-1%"', ", z: the tolerance '-1%' is not a percentage"),
        ('conventions = ["flops"]', 'conventions = ["fvcor"]', ": there is no convention 'fvcor'; did you mean fvcore"),
        ('target = "nets.py:Net"', "target = 3", "lacks or garbles 3, which is no text"),
        (
            'flags = ["backward", "run"]',
            'flags = ["sideways"]',
            "lacks or garbles 'sideways', which is none of backward, tr",
        ),
        ("params = 16", 'params = "many"', "lacks or garbles 'many', which is no whole number"),
        ("flops = 48", "flop = 48", "lacks or garbles 'flops'; make it again"),
        ("<<<<<<<", "", ""),
    ],
)
def test_what_is_wrong_is_one_sentence(path: str, old: str, new: str, text: str) -> None:
    if old == "<<<<<<<":  # what git leaves of two branches that both locked
        Path(path).write_text("<<<<<<< HEAD\n" + Path(path).read_text())
        text = "is not whole TOML (Invalid statement (at line 1, column 1)); take it from version control"
    else:
        rewritten(path, old, new)
    with pytest.raises(SchemaError) as error:
        lockfile.load(path)
    assert text in str(error.value) and path in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ('macs = "<= 5X"', ", z: '<= 5X' is not a limit; expected a comparison such as"),
        ("macs = 5", ", z: 5 is not a limit; expected a comparison"),
        ('macc = "<= 5G"', ", z: there is no convention 'macc'; did you mean macs"),
    ],
)
def test_a_limit_that_is_none(path: str, limits: str, text: str) -> None:
    rewritten(path, "[targets.z.total]", f"[targets.z.limits]\n{limits}\n[targets.z.total]")
    with pytest.raises(SchemaError) as error:
        lockfile.load(path)
    assert text in str(error.value)


def test_comments_and_layout_of_limits_stay(path: str) -> None:
    block = (
        '[targets.z.limits]\n# what the phone can do\nmacs   = "<= 5G"  # at 30 a second\n\n'
        '# no more memory\nparams = "1k +-1%"\n'
    )
    rewritten(path, "[targets.z.total]", f"{block}[targets.z.total]")
    lock = lockfile.load(path)
    assert lock.entries["z"].limits == {"macs": "<= 5G", "params": "1k +-1%"}
    again = lock.with_entries({"z": replace(ENTRY, tolerance=None)})
    assert block in lockfile.render(again) and again.entries["z"].tolerance == "1%"


def test_limits_written_in_another_way_are_kept(path: str) -> None:
    rewritten(path, "[targets.z.total]", "[targets.'z'.limits]\nmacs = '<= 5G'\n[targets.z.total]")
    lock = lockfile.load(path)
    lockfile.save(lock, path)
    assert '[targets.z.limits]\nmacs = "<= 5G"\n' in Path(path).read_text()
    assert lockfile.load(path).entries["z"].limits == {"macs": "<= 5G"}


def test_where_a_target_stands(path: str) -> None:
    lines = Path(path).read_text().splitlines()
    assert lines[lockfile.line_of(path, "z") - 1] == "[targets.z]"
    assert lines[lockfile.line_of(path, "a name: with = signs", "total") - 1].endswith(".total]")
    assert lockfile.line_of(path, "gone") == lockfile.line_of(f"{path}.gone", "z") == 1


def test_lines_of_windows_are_read(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes().replace(b"\n", b"\r\n"))
    assert lockfile.load(path) == LOCK


def test_a_failed_write_leaves_the_old_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path(path).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FlopscanError, match=r"cannot write .*flops\.lock: No space left on device"):
        lockfile.save(Lock(), path)
    assert Path(path).read_bytes() == before and os.listdir(os.path.dirname(path)) == ["flops.lock"]


def test_a_place_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder; give the name of a file"):
        lockfile.where(str(tmp_path))
    with pytest.raises(UsageError, match=r"there is no folder .*; make it first"):
        lockfile.where(str(tmp_path / "none" / "flops.lock"))
    with pytest.raises(SchemaError, match=r"cannot read .*: it is not text"):
        (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
        lockfile.load(str(tmp_path / "x"))


def test_names() -> None:
    assert LOCK.chosen([]) == ["a name: with = signs", "z"]
    assert LOCK.chosen(["z", "z"]) == ["z"]
    with pytest.raises(UsageError, match="'zz' is not locked; did you mean z"):
        LOCK.chosen(["zz"])
    with pytest.raises(UsageError, match="'a' is not locked; nothing is"):
        Lock().chosen(["a"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there it is read by tomli anyway")
def test_a_lock_is_read_where_python_has_no_toml(tmp_path: Path) -> None:
    (tmp_path / "flops.lock").write_text('schema = "flopscan.lock/1"\ntolerance = "1%"\n# end\n', encoding="utf-8")
    (tmp_path / "cut.lock").write_text("schema =", encoding="utf-8")
    code = (
        "import importlib, sys, tomllib\n"
        "from flopscan.budget import lockfile, toml\n"
        "from flopscan.errors import SchemaError\n"
        "sys.modules['tomli'], sys.modules['tomllib'], sys.version_info = tomllib, None, (3, 10, 13)\n"
        "importlib.reload(toml)\n"
        "print(lockfile.load('flops.lock').tolerance)\n"
        "try:\n    lockfile.load('cut.lock')\nexcept SchemaError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(toml.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True, capture_output=True, check=True
    )
    tolerance, error = done.stdout.splitlines()
    assert tolerance == "1%" and error.startswith("cut.lock is not whole TOML (")

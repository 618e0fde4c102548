"""Two reports side by side: every difference is found once, sums to the totals, and is shown whole."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flopscan
from flopscan.core.ledger import Ledger
from flopscan.errors import SchemaError, UsageError
from flopscan.report import compare_text, report, saved
from flopscan.report.compare import MEASURES, Change, Comparison, compare
from samples import make_ledger

WIDTHS = range(44, 201, 4)


class Block(nn.Module):
    def __init__(self, width: int, hidden: int, act: nn.Module) -> None:
        super().__init__()
        self.norm, self.up, self.act, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            act,
            nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, *, depth: int = 3, hidden: int = 16, act: type[nn.Module] = nn.ReLU, head: int = 0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(8, hidden, act()) for _ in range(depth))
        if head:
            self.head = nn.Sequential(nn.Linear(8, head), nn.Softmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x) if hasattr(self, "head") else x


NETS: dict[str, dict[str, Any]] = {
    "base": {},
    "deeper": {"depth": 5},
    "wider": {"hidden": 24},
    "gelu": {"act": nn.GELU},
    "with a head": {"head": 10, "depth": 2},
}


def counted(name: str, convention: str = "flops") -> dict[str, Any]:
    return flopscan.count(Net(**NETS[name]), (4, 8), convention=convention).to_dict()


def compared(first: str, second: str, convention: str = "flops") -> Comparison:
    return compare(counted(first, convention), counted(second, convention), (first, second))


@pytest.mark.parametrize("convention", ["flops", "macs", "fvcore", "thop"])
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(NETS, 2)))
def test_differences_sum_to_those_of_the_totals(first: str, second: str, convention: str) -> None:
    found = compared(first, second, convention)
    a, b = counted(first, convention), counted(second, convention)
    for measure in ("value", "flops", "macs", "transcendentals", "bytes_read", "bytes_written"):
        expected = b[measure] - a[measure]
        assert found.total.amount(measure) == expected
        assert sum(change.amount(measure) for change in found.operators) == expected
        assert sum(c.amount(measure) for c in found.modules if c.name == "") == expected
    names = [row["name"] for row in b["by_module"]]
    order = [c.name for c in found.modules if c.how != "removed"]
    assert order == [name for name in names if name in order], "in the order of the second model"
    back = compared(second, first, convention)
    assert {c.name: c.amounts() for c in back.modules} == {
        c.name: tuple(-amount for amount in c.amounts()) for c in found.modules
    }


def test_what_was_added_removed_and_changed() -> None:
    found = compared("base", "with a head")
    how = {change.name: change.how for change in found.modules}
    assert how["blocks.2"] == how["blocks.2.up"] == "removed"
    assert how["head"] == how["head.0"] == how["head.1"] == "added"
    assert how[""] == "changed" and "blocks.0" not in how and "blocks.1.up" not in how
    head = next(c for c in found.modules if c.name == "head.0")
    assert head.first is None and head.second is not None and head.second["params"] == 8 * 10 + 10
    assert (head.amount("macs"), head.classes) == (4 * 8 * 10, ("", "Linear"))
    softmax = next(c for c in found.operators if c.name == "aten::_softmax")
    assert (softmax.how, softmax.amount("transcendentals")) == ("added", 4 * 10)


def test_another_class_of_the_same_cost_is_a_change() -> None:
    found = compare(counted("base"), counted("base"))
    assert found.same and not found.modules and not found.operators
    other = counted("base")
    row = next(row for row in other["by_module"] if row["name"] == "blocks.1")
    row["class"] = "FasterBlock"
    (change,) = compare(counted("base"), other).modules
    assert (change.name, change.how, change.classes) == ("blocks.1", "changed", ("Block", "FasterBlock"))
    assert set(change.amounts()) == {0}


@pytest.mark.parametrize(
    ("conventions", "text"),
    [
        (
            ("flops", "macs"),
            "cannot compare FLOP with MAC: a is in FLOP (flops) and b is in MAC (macs); count both under",
        ),
        (
            ("macs", "fvcore"),
            "cannot compare MAC with fvcore flop: a is in MAC (macs) and b is in fvcore flop (fvcore)",
        ),
        (
            ("macs", "thop"),
            "cannot compare two conventions: a is in MAC (macs) and b is in MAC (thop); count both under",
        ),
    ],
)
def test_numbers_of_two_kinds_are_refused(conventions: tuple[str, str], text: str) -> None:
    with pytest.raises(UsageError) as error:
        compare(*(counted("base", name) for name in conventions), ("a", "b"))
    assert str(error.value).startswith(text) and "flopscan explain" in str(error.value)


@pytest.mark.parametrize("missing", ["by_module", "value", "unit", "uncounted", "versions"])
def test_a_damaged_report_is_one_sentence(missing: str) -> None:
    damaged = counted("base")
    del damaged[missing]
    with pytest.raises(SchemaError, match=rf"b\.json is damaged: .* lacks or garbles '{missing}'; make it again"):
        compare(counted("base"), damaged, ("a.json", "b.json"))
    damaged = counted("base")
    del damaged["by_module"][1]["calls"]
    with pytest.raises(SchemaError, match="lacks or garbles 'calls'"):
        compare(damaged, counted("base"))


def test_it_is_json_ready() -> None:
    found = compared("base", "with a head")
    data = json.loads(json.dumps(found.to_dict()))
    assert (data["schema"], data["unit"], data["same"]) == ("flopscan.comparison/1", "FLOP", False)
    assert [r["name"] for r in data["reports"]] == ["base", "with a head"]
    for rows, changes in ((data["modules"], found.modules), (data["operators"], found.operators)):
        assert [(r["name"], r["how"]) for r in rows] == [(c.name, c.how) for c in changes]
        assert [r["first"] and r["first"]["value"] for r in rows] == [c.first and c.first["value"] for c in changes]
    assert set(data["operators"][0]["second"] or data["operators"][0]["first"]) == set(MEASURES)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_too_long_and_no_digit_is_cut(width: int) -> None:
    found = compared("base", "with a head")
    text = compare_text.render(found, width=width)
    assert max(map(len, text.splitlines())) <= width
    for measure in ("flops", "macs", "params"):
        for sizes in (found.total.first, found.total.second):
            assert sizes is not None and f"{sizes[measure]:,}" in text


def lines(found: Comparison, width: int = 100, **options: Any) -> list[str]:
    return [" ".join(line.split()) for line in compare_text.render(found, width=width, **options).splitlines()]


def test_siblings_that_differ_alike_are_one_row() -> None:
    rows = lines(compared("base", "deeper"))
    # twice: 2 (2*4*8*16) of the linear layers, 4 (7*8 + 2) of the norm, 4*16 of the ReLU, 4*8 of the sum; parameters
    assert any(row.startswith("blocks.3-4 2x Block - 4.752 k +4.752 k added +592 ") for row in rows)
    assert not any(row.startswith(("blocks.0", "blocks.3 ")) for row in rows), "what is the same is not shown"
    rows = lines(compared("base", "gelu"))
    act = next(row for row in rows if row.startswith("blocks.0-2"))
    assert act.startswith("blocks.0-2.act 3x ReLU -> GELU"), "a block that differs in one child alone is that child"


def test_depth_opens_the_tree() -> None:
    found = compared("base", "wider")
    assert not any(row.startswith("up ") for row in lines(found, depth=1))
    assert "3 more below these: --depth 2" in lines(found, depth=1)
    assert any(row.startswith("up 3x Linear") for row in lines(found, depth=2))


def test_a_model_with_itself() -> None:
    rows = lines(compared("base", "base"))
    assert "no difference: every number of every module and operator is the same" in rows
    assert not any(row.startswith("by ") for row in rows)


def test_changes_that_cancel_are_shown_below_a_root_that_is_the_same() -> None:
    first, second = counted("base"), counted("base")
    by_name = {row["name"]: row for row in second["by_module"]}
    by_name["blocks.0.up"]["value"] += 7
    by_name["blocks.2.down"]["value"] -= 7
    rows = lines(compare(first, second))
    assert any(row.startswith("blocks.0.up Linear") and " +7 " in row for row in rows)
    assert any(row.startswith("blocks.2.down Linear") and " -7 " in row for row in rows)


def test_calls_that_cost_nothing_are_one_sentence() -> None:
    text = " ".join(lines(compared("base", "deeper")))
    assert "other numbers of calls, at no cost: aten::t +4" in text


def test_what_was_not_counted_stands_beside_the_totals() -> None:
    known = report.make(make_ledger()).to_dict()
    whole = copy.deepcopy(known)
    whole["uncounted"] = []
    found = compare(whole, known)
    assert "not counted in A: nothing" in lines(found) and "not counted in B: x::unknown x2" in lines(found)
    assert "not counted: nothing, in A and in B" in lines(compare(whole, whole))


def test_versions_and_inputs_that_differ_are_named() -> None:
    first, second = counted("base"), flopscan.count(Net(), (5, 8)).to_dict()
    second["versions"]["torch"] = "9.9"
    text = " ".join(lines(compare(first, second, ("a.json", "b.json"))))
    assert "A a.json: Net, on 4x8 float32 B b.json: Net, on 5x8 float32" in text
    assert f"torch {torch.__version__} in A, 9.9 in B" in text


def test_a_convention_that_is_no_more_is_still_shown() -> None:
    first = {**counted("base"), "convention": "of old", "unit": "op"}
    assert "as of old counts, op" in " ".join(lines(compare(first, first)))


def test_colour_tells_added_from_removed() -> None:
    text = compare_text.render(compared("base", "with a head"), width=100, color=True)
    added, removed = (next(line for line in text.splitlines() if how in line) for how in ("added", "removed"))
    assert "\x1b[32m" in added and "\x1b[31m" in removed


def test_what_was_saved_is_seen_under_one_convention(tmp_path: Path) -> None:
    made = flopscan.count(Net(), (4, 8), convention="macs")
    made.save(tmp_path / "report.json.gz")
    made.ledger.save(str(tmp_path / "ledger.json"))
    made.ledger.trace.save(str(tmp_path / "trace.json"))
    kept, ledger, traced = (
        saved.load(tmp_path / f"{name}") for name in ("report.json.gz", "ledger.json", "trace.json")
    )
    assert kept == made.to_dict() and isinstance(ledger, Ledger) and isinstance(traced, Ledger)
    for one in (ledger, traced):
        assert saved.seen([kept, one], ["a", "b"]) == [kept, kept], "a ledger is seen as the saved report was"
        assert saved.seen([one], ["a"])[0]["convention"] == "flops"
        assert saved.seen([one], ["a"], "thop")[0]["value"] == int(made.under("thop"))
    with pytest.raises(
        UsageError, match=r"^a was saved under macs, in MAC, and has no numbers under flops, in FLOP; save"
    ):
        saved.seen([kept, ledger], ["a", "b"], "flops")


def test_a_file_of_another_schema_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text('{"schema": "flopscan.report/0"}')
    with pytest.raises(
        SchemaError, match=r"has schema 'flopscan\.report/0', expected 'flopscan\.report/1' or '.*'; make"
    ):
        saved.load(file)


def test_an_unknown_measure_of_what_is_not_there_is_nothing() -> None:
    change = Change("a", None, {"value": 3})
    assert (change.amount(), change.amount("params"), change.how) == (3, 0, "added")

"""Models side by side: every cell is a number of the report's JSON, and an empty one says why."""

from __future__ import annotations

import csv
import io
from fractions import Fraction

import pytest

from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Module, Record, TensorSpec, Trace
from flopscan.errors import FlopscanError, SchemaError, UsageError
from flopscan.report import columns, sheet_text
from flopscan.report.columns import find
from flopscan.report.figures import Figures
from flopscan.report.formats import csv as as_csv
from flopscan.report.models import Model, Models
from flopscan.report.numbers import scaled
from flopscan.report.report import make
from flopscan.report.speed import Speed

COUNTED = ("input", "params", "macs", "flops", "executed", "exp", "bytes", "scan", "scan-share", "vmamba", "scan:gu")


def ledger(times: int = 1, *, known: bool = True, scans: bool = True) -> Ledger:
    """A product, a scan, and perhaps an operator without a rule, in a model of ``times`` a size."""
    x = TensorSpec((2, 3))
    scan = {"u": TensorSpec((1, 4, 5)), "delta": TensorSpec((1, 4, 5)), "A": TensorSpec((4, 3)),
            "B": TensorSpec((1, 3, 5)), "C": TensorSpec((1, 3, 5)), "D": None, "z": None}  # fmt: skip
    calls = (Call("aten::mm", {"self": x, "mat2": x}, (x,)), Call("x::unknown", {"x": x}))
    prices = (Price(Cost(fma=1000, read=300, written=60)), Price(Cost(add=1) if known else None, note="no rule"))
    if scans:
        calls += (Call("flopscan::selective_scan", scan, (TensorSpec((1, 4, 5)),)),)
        prices += (Price(Cost(fma=120, exp=60, read=70), executed=Cost(fma=150, exp=60, read=70)),)
    records = tuple(Record(i, 0, times) for i in range(len(calls)))
    origin = {"target": "net", "inputs": [f"{times}x3 float32"], "versions": {"flopscan": "0.1.0"}}
    return Ledger(Trace(calls, records, (Module("", "Net", 7),), (), 7 * times, origin), prices)


def table(*ledgers: Ledger, names: str = "ABC", of: tuple[str, ...] = COUNTED, best: bool = False) -> Models:
    rows = [Model(name, "net", Figures(name, one)) for name, one in zip(names, ledgers, strict=False)]
    return Models(tuple(rows), tuple(map(find, of)), best=best)


def test_every_cell_is_a_number_of_the_json() -> None:
    for one in (ledger(3), ledger(3, scans=False)):
        data = make(one).to_dict()
        (row,) = table(one).to_dict()["models"]
        scans = {row["convention"]: row for row in (data["scan"] or {"conventions": []})["conventions"]}
        found = row["columns"]
        assert found["input"] == "3x3 float32" and row["inputs"] == ["3x3 float32"]
        assert (found["params"], found["macs"], found["flops"]) == (data["params"], data["macs"], data["flops"])
        assert found["executed"] == data["executed_flops"] and found["exp"] == data["transcendentals"]
        assert found["bytes"] == data["bytes_read"] + data["bytes_written"]
        assert found["scan"] == (scans["flops"]["value"] if scans else 0)
        assert found["scan-share"] == pytest.approx(scans["flops"]["share"] if scans else 0)
        assert found["scan:gu"] == (scans["gu"]["value"] if scans else 0)
        assert found["vmamba"] == int(make(one).under("vmamba"))


def test_a_saved_report_has_the_same_numbers() -> None:
    one = ledger(3)
    saved = Model("A", "a.json", Figures("a.json", make(one).to_dict()))
    made = Models((saved,), tuple(map(find, COUNTED)))
    *notes, zero, versions = table(one).sheet().footnotes
    assert zero == "A: vmamba counts as zero: x::unknown x3."
    unsaid = "A: what vmamba counts as zero is not in a.json, saved under flops."
    assert made.cells == table(one).cells and made.sheet().footnotes == (*notes, unsaid, versions)
    under = Model("A", "b.json", Figures("b.json", make(one, "vmamba").to_dict()))
    assert Models((under,), (find("vmamba"),)).sheet().footnotes[-2] == zero


def test_a_saved_report_lacks_other_conventions_and_says_so() -> None:
    figures = Figures("a.json", make(ledger()).to_dict())
    made = Models((Model("A", "a.json", figures),), (find("flops"), find("fvcore")))
    assert made.cells[0][1] is None
    assert made.reasons[0][0].startswith(
        "fvcore: a.json is a report that was saved under flops and has no total under fvcore; count it again, or save"
    )
    old = {key: value for key, value in make(ledger()).to_dict().items() if key != "executed_flops"}
    with pytest.raises(UsageError, match="has no executed_flops"):
        Figures("old.json", old).total("executed_flops")
    with pytest.raises(FlopscanError):
        Figures("bad.json", {**old, "scan": {"conventions": [{}]}}).scan("flops")
    assert issubclass(SchemaError, FlopscanError)


def test_units_stand_in_the_header_and_cells_have_four_digits() -> None:
    sheet = table(ledger(1000), ledger(1)).sheet()
    text = sheet_text.render(sheet, width=200)
    head, a, b = text.splitlines()[2:5]
    assert (
        head.split("  ")[0] == "model" and "FLOPs (M)" in head and "vmamba (k mixed)" in head and "bytes (kB)" in head
    )
    for model, line in (("A", a), ("B", b)):
        times = 1000 if model == "A" else 1
        assert scaled(2241 * times, 2) in line and line.startswith(model)
    assert "2.241" in a and "0.002241" in b


def test_what_is_not_counted_makes_at_least() -> None:
    made = table(ledger(known=False), ledger())
    text = sheet_text.render(made.sheet(), width=200)
    a, b = text.splitlines()[3:5]
    assert a.count("≥") == len(COUNTED) - 3, "all but the input, the parameters and the share"
    assert "≥" not in b
    assert "sum with ≥ is the least it can be: A: x::unknown x1 (no rule)." in text
    row = next(csv.DictReader(io.StringIO(as_csv.table(made.data()))))
    assert row["uncounted"] == "1" and row["not_counted"] == "x::unknown x1 (no rule)" and "≥" not in row["flops"]


def test_the_footnote_has_conventions_inputs_and_versions() -> None:
    text = "\n".join(table(ledger(1), ledger(2), of=("flops", "vmamba")).sheet().footnotes)
    assert "FLOPs: multiply-add 2, " in text and "vmamba: fvcore MACs" in text and "unit mixed" in text
    assert "Input: 1x3 float32 (A); 2x3 float32 (B)." in text
    assert "Not counted: nothing." in text and "Counted with flopscan 0.1.0." in text
    assert "Input: 1x3 float32.\n" in "\n".join(table(ledger(1), ledger(1), of=("flops",)).sheet().footnotes)


def test_the_best_is_the_least_cost_of_what_is_known() -> None:
    made = table(ledger(2), ledger(1), ledger(1, known=False), of=("params", "flops", "scan-share"), best=True)
    strong = [entry.strong for entry in made.sheet().entries]
    assert strong == [frozenset(), frozenset({1, 2}), frozenset({1})]
    assert not any(e.strong for e in table(ledger(1), of=("flops",), best=True).sheet().entries), "one has no rival"


def test_order_by_a_column() -> None:
    failed = Model("F", "gone", reasons=("it is gone",))
    made = table(ledger(2), ledger(3), ledger(1), of=("flops",))
    made = Models((failed, *made.models), made.columns)
    assert [model.name for model in made.ordered("flops").models] == ["C", "A", "B", "F"]
    assert [model.name for model in made.ordered("flops", descending=True).models] == ["B", "A", "C", "F"]
    text = sheet_text.render(made.sheet(), width=100)
    assert "\nF              -\n" in text and "No number of F: it is gone" in text


def test_throughput_is_told_as_a_measurement() -> None:
    speed = Speed(8, "images", (0.5, 0.25, 1.0), "cpu: a chip", 2, "2026-01-02")
    other = Speed(64, "tokens", (0.5,), "cpu: a chip", 2, "2026-01-02")
    rows = (Model("A", "a", Figures("A", ledger()), speed), Model("B", "b", Figures("B", ledger(2)), None, ("slow",)))
    made = Models(rows, (find("flops"), find("throughput")))
    assert made.cells[0][1] == 16.0 and made.cells[1][1] is None and made.reasons == ((), ("slow",))
    assert made.headings[-1].header == "throughput (images/s)"
    (told,) = [note for note in made.sheet().footnotes if "Throughput" in note]
    assert "is a measurement on one machine, not a count" in told and "cpu: a chip, torch threads 2, 2026-01-02" in told
    assert "A 8 images a pass, 8 to 32 a second in 3 passes" in told
    mixed = Models((rows[0], Model("B", "b", Figures("B", ledger()), other)), made.columns)
    assert mixed.headings[-1].header == "throughput (items/s)"
    row = next(csv.DictReader(io.StringIO(as_csv.table(made.data()))))
    assert (row["throughput"], row["passes"], row["threads"], row["date"]) == ("16.0", "3", "2", "2026-01-02")


def test_rows_of_one_model_have_a_column_of_what_is_varied() -> None:
    rows = tuple(Model("A", "a", Figures("A", ledger(n)), point=n) for n in (1, 2))
    made = Models(rows, (find("flops"),), "r", best=True)
    assert [entry.cells[:2] for entry in made.sheet().entries] == [("A", 1), ("A", 2)]
    assert [h.key for h in made.headings] == ["model", "r", "flops"]
    assert "Input: 1x3 float32 (r 1); 2x3 float32 (r 2)." in made.sheet().footnotes
    assert not any(entry.strong for entry in made.sheet().entries), "there is no rival at either"


def test_columns_that_there_are_not() -> None:
    with pytest.raises(UsageError, match=r"^there is no column 'flop'; did you mean flops"):
        find("flop")
    with pytest.raises(UsageError, match=r"^there is no column 'zzzz'; expected input, params, macs, flops, "):
        find("zzzz")
    with pytest.raises(UsageError, match="no convention 'nobody'"):
        find("scan:nobody")
    assert set(columns.NAMES) >= {"params", "macs", "flops", "throughput"}
    with pytest.raises(UsageError, match="has no formula of its scans; expected flops"):
        Figures("A", ledger()).scan("torch")


def test_a_share_is_exact() -> None:
    part, whole = Figures("A", ledger()).scan("flops")
    assert find("scan-share").of(Figures("A", ledger())) == Fraction(part, whole)  # type: ignore[misc]

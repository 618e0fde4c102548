"""The text report: every digit of every number at every width, and what it says about what it leaves out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flopscan import conventions
from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Module, Record, TensorSpec, Trace
from flopscan.errors import UsageError
from flopscan.report import formats, selection, tree
from flopscan.report.formats import text
from flopscan.report.layout import Column, Row, guides, middle, plain, table
from flopscan.report.numbers import aligned, exact, percent, si
from flopscan.report.report import Report, make

X = TensorSpec((2, 3))
WIDTHS = range(44, 201)


def ledger(*, big: int = 10**9, known: bool = True, lines: bool = False, **origin: object) -> Ledger:
    """Two identical blocks, a head and a stray operator: all that a report must show."""
    modules = (
        Module("", "Net"),
        Module("blocks", "ModuleList"),
        *(Module(f"blocks.{i}", "Block", 7) for i in range(2)),
        *(Module(f"blocks.{i}.a_projection_with_a_long_name", "Linear", 1234) for i in range(2)),
        Module("head", "Linear", 10),
        Module("nothing", "Identity"),
    )
    calls = (
        Call("aten::mm", {"self": X, "mat2": TensorSpec((3, 3))}, (X,)),
        Call("aten::exp", {"self": X}, (X,)),
        Call("aten::mystery", {"self": X}, (X,)),
        Call("aten::view", {"self": X}, (X,)),
    )
    prices = (
        Price(Cost(fma=big, read=8 * big + 1, written=12)),
        Price(Cost(exp=6, read=24, written=24)),
        Price(Cost(add=1)) if known else Price(None, note="no rule for this operator"),
        Price(Cost()),
    )
    line = 0 if lines else -1
    records = [Record(0, 4, 3, line=line), Record(0, 5, 3, line=line), Record(1, 2, 1), Record(1, 3, 1)]
    records += [Record(2, 6, 2), Record(3, 7, 1)]
    origin = {"target": "a net", "inputs": ["2x3 float32"], "versions": {"flopscan": "0.1.0"}, **origin}
    places = ("package/models/a_rather_long_file_name.py:123 forward",) if lines else ()
    return Ledger(Trace(calls, tuple(records), modules, places, 2502, origin), prices)


def report(convention: str = "flops", **options: object) -> Report:
    return make(ledger(**options), convention)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "short"),
    [
        (0, "0"), (999, "999"), (1000, "1.000 k"), (99_994, "99.99 k"), (99_995, "100.0 k"), (999_949, "999.9 k"),
        (999_950, "1.000 M"), (9_811_123_456, "9.811 G"), (4_905_609_984, "4.906 G"), (-5432, "-5.432 k"),
        (10**27, "1000.0 Y"),
    ],
)  # fmt: skip
def test_short_numbers_have_four_digits(value: int, short: str) -> None:
    assert si(value) == short


@given(st.integers(1000, 10**26))
def test_short_numbers_are_right_within_half_of_their_last_digit(value: int) -> None:
    number, letter = si(value).split()
    unit = 1000 ** ("kMGTPEZY".index(letter) + 1)
    digits, decimals = int(number.replace(".", "")), len(number.partition(".")[2])
    assert 1000 <= digits < 10_000
    assert abs(2 * digits * unit - 2 * value * 10**decimals) <= unit


@pytest.mark.parametrize(
    ("part", "share"),
    [(0, "0%"), (49, "<0.01%"), (50, "0.01%"), (99_949, "9.99%"), (99_950, "10.0%"), (10**6, "100.0%")],
)
def test_shares(part: int, share: str) -> None:
    assert percent(part, 10**6) == share
    assert percent(part, 0) == "-"


@given(
    width=st.integers(44, 200),
    big=st.integers(0, 10**24),
    known=st.booleans(),
    convention=st.sampled_from([name for name in conventions.names() if conventions.get(name).whole is None]),
)
@settings(max_examples=120, deadline=None)
def test_no_digit_is_cut_at_any_width(width: int, big: int, known: bool, convention: str) -> None:
    shown = report(convention, big=big, known=known)
    lines = text.render(shown, width=width).splitlines()
    assert all(len(line) <= width for line in lines)
    total = "\n".join(lines)
    for number in (shown.flops, shown.macs, shown.transcendentals, shown.params):
        assert re.search(rf"(?<![\d,]){exact(number)}(?![\d,])", total)
    assert exact(shown.bytes_read + shown.bytes_written) in total
    assert exact(shown.value) in total
    start = next(i for i, line in enumerate(lines) if line.startswith("module "))
    head = lines[start]
    nodes = tree.visible(tree.build(shown.by_module()))
    for (_, node), line in zip(nodes, lines[start + 1 :], strict=False):
        row, n = node.row, node.times
        if row.uncounted == row.calls and row.uncounted:
            continue
        cells = {
            "MACs": row.macs * n,
            "exp/log": row.transcendentals * n,
            "bytes": (row.cost.read + row.cost.written) * n,
            "params": row.params * n,
        }
        cells["FLOPs" if convention == "flops" else convention] = row.value * n
        for title, value in cells.items():
            if f" {title}" in head:
                end = head.index(f" {title}") + 1 + len(title)
                cell = re.split(r" {2,}", line[:end].rstrip())[-1]
                assert cell.lstrip("≥").strip() == si(value), (title, line)
            elif not (title == "MACs" and convention == "macs"):
                assert title in total[total.index("no room in") :].split("\n\n")[0].replace("\n ", "")


def test_names_shorten_in_the_middle_and_columns_leave_by_name() -> None:
    narrow = text.render(report(big=10**15), width=44)
    assert "a_projection" not in narrow and "…" in narrow
    assert "no room in 44 columns for: MACs, exp/log,\n  bytes, params" in narrow
    wide = text.render(report(big=10**15), width=200)
    assert "a_projection_with_a_long_name" in wide and "no room" not in wide and "…" not in wide


def test_identical_siblings_are_folded_and_add_up() -> None:
    shown = report()
    (root, *rest) = tree.visible(tree.build(shown.by_module()))
    blocks = rest[0][1]
    assert (blocks.label, blocks.times, blocks.row.cls) == ("blocks.0-1", 2, "Block")
    assert sum(node.row.value * node.times for level, node in rest if level == 1) == root[1].row.value
    assert "blocks.0-1" in str(shown) and "2x Block" in text.render(shown, width=120)
    assert "nothing" not in {node.label for _, node in rest}, "modules that cost and hold nothing are left out"


def test_siblings_that_differ_are_not_folded() -> None:
    different = ledger()
    modules = [*different.trace.modules]
    modules[3] = Module("blocks.1", "Block", 8)
    trace = Trace(different.trace.calls, different.trace.records, tuple(modules), params=2503)
    labels = [node.label for _, node in tree.visible(tree.build(make(Ledger(trace, different.prices)).by_module()))]
    assert "blocks.0" in labels and "blocks.1" in labels


def listed(kinds: str, stem: str = "layers.") -> list[str]:
    """The labels of a tree whose root has a child per letter of ``kinds``: alike letters are alike."""
    modules = [Module("", "Net"), *(Module(f"{stem}{i}", f"Block{kind}", 5) for i, kind in enumerate(kinds))]
    records = [Record(0, 1 + i, 1) for i in range(len(kinds))]
    call = Call("aten::exp", {"self": X}, (X,))
    counted = Ledger(Trace((call,), tuple(records), tuple(modules)), (Price(Cost(exp=6, add=1)),))
    (_, *rest) = tree.visible(tree.build(make(counted).by_module()))
    assert sum(node.times for _, node in rest) == len(kinds)
    return [f"{node.label} {node.remark}" for _, node in rest]


@pytest.mark.parametrize(
    ("kinds", "labels"),
    [
        ("AAAA", ["layers.0-3 4x BlockA"]),
        ("ABABABAB", ["layers.0,2,…,6 4x BlockA", "layers.1,3,…,7 4x BlockB"]),
        ("ABBA", ["layers.0,3 2x BlockA", "layers.1-2 2x BlockB"]),
        ("ABABB", ["layers.0,2 2x BlockA", "layers.1,3-4 3x BlockB"]),
        ("AABAABAABAA", ["layers.0-1,3-4,…,9-10 8x BlockA", "layers.2,5,8 3x BlockB"]),
    ],
)
def test_repeated_layers_of_a_list_are_folded_wherever_they_are(kinds: str, labels: list[str]) -> None:
    assert listed(kinds) == labels


def test_attributes_that_only_have_a_number_stay_in_their_place() -> None:
    assert listed("ABA", "norm") == ["norm0 BlockA", "norm1 BlockB", "norm2 BlockA"]
    assert listed("AAB", "norm") == ["norm0-1 2x BlockA", "norm2 BlockB"]


def test_the_tree_is_drawn() -> None:
    assert guides([0, 1, 2, 2, 1, 2, 3]) == ["", "├ ", "│ ├ ", "│ └ ", "└ ", "  └ ", "    └ "]
    assert middle("│ └ a_long_name", 10) == "│ └ a_…ame"
    shown = text.render(report(big=10**15), width=100).splitlines()
    start = next(i for i, line in enumerate(shown) if line.startswith("(model)"))
    assert [line[:4] for line in shown[start : start + 4]] == ["(mod", "├ bl", "│ └ ", "└ he"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("known", [True, False])
def test_columns_of_all_tables_stand_below_one_another(width: int, known: bool) -> None:
    one = ledger(known=known)
    records = (*one.trace.records, Record(0, 4, 6, "backward"))
    lines = text.render(make(Ledger(Trace(one.trace.calls, records, one.trace.modules), one.prices)), width=width)
    heads = [line for line in lines.splitlines() if re.match("(phase|module|operator) ", line)]
    assert len(heads) == 3
    ends = [
        {word.group(): word.end() for word in re.finditer(r"share|FLOPs(?!,)|MACs|exp/log|bytes", h)} for h in heads
    ]
    assert ends[0] == ends[1] == ends[2] and "FLOPs" in ends[0]


def test_a_wide_terminal_has_all_digits_and_intensities_and_no_endless_lines() -> None:
    shown = report(notes=["word " * 60])
    wide = text.render(shown, width=200)
    assert re.search(r"^\(model\).* 0\.25 +12,000,000,002$", wide, re.MULTILINE), "FLOP a byte, then all digits"
    assert max(len(line) for line in wide.splitlines() if line.startswith(("note", "  word"))) <= 120
    narrow = text.render(shown, width=100)
    assert "all digits" not in narrow, "a gift to the wide is not missed by others"


def test_small_modules_hide_and_are_told() -> None:
    whole = text.render(report(), width=100, depth=3)
    assert "head" in whole and "hidden" not in whole
    for width in (44, 100, 200):
        shown = text.render(report(), width=width, depth=3, min_share=1)
        assert re.search(r"^. head", shown, re.MULTILINE) is None
        assert "hidden: 1 module under 1%, 2 (<0.01%)" in shown
    everything = text.render(report(), width=100, depth=3, min_share=100)
    assert "hidden: 3 modules under 100% each, together 12.00 G (100.0%)" in everything
    deep = text.render(report(), width=100, depth=0, min_share=1)
    assert "hidden" not in deep, "what the depth leaves closed hides nothing"


def test_what_hides_and_what_shows_are_all_there_is() -> None:
    shown = report()
    for percentage in (0, 0.00001, 1, 60, 100):
        nodes, hidden = selection.modules(shown, 1, percentage)
        below = [node for level, node in nodes if level == 1]
        assert sum(node.row.value * node.times for node in below) + hidden.value == shown.value
        assert sum(node.times for node in below) + hidden.rows == 3
        rows = list(shown.by_operator().values())
        large, small = selection.rows(rows, shown, percentage, None)
        assert sum(row.value for row in (*large, *small)) == shown.value and len(large) + len(small) == len(rows)


def test_what_was_not_counted_never_hides() -> None:
    shown = text.render(report(known=False), width=100, min_share=50)
    assert re.search(r"^. head", shown, re.MULTILINE) and re.search(r"^aten::mystery +\?", shown, re.MULTILINE)


def test_operators_under_a_share_are_one_row() -> None:
    shown = text.render(report(), width=80, by="operator", min_share=1)
    assert re.search(r"^\(2 more: under 1%\) .* <0.01% .* 4$", shown, re.MULTILINE)
    assert re.search(r"^aten::mm ", shown, re.M) and "aten::mystery" not in shown


@pytest.mark.parametrize(
    ("sort", "modules", "operators"),
    [
        (None, ["blocks.0-1", "head"], ["aten::mm", "aten::mystery", "aten::exp"]),
        ("name", ["blocks.0-1", "head"], ["aten::exp", "aten::mm", "aten::mystery"]),
        ("exp", ["blocks.0-1", "head"], ["aten::exp", "aten::mm", "aten::mystery"]),
        ("calls", ["blocks.0-1", "head"], ["aten::mm", "aten::mystery", "aten::exp"]),
    ],
)
def test_siblings_and_rows_are_sorted(sort: str | None, modules: list[str], operators: list[str]) -> None:
    shown = text.render(report(), width=100, depth=1, sort=sort)
    assert re.findall(r"^[├└] (\S+)", shown, re.M) == modules
    assert re.findall(r"^(aten::(?:mm|mystery|exp)) ", shown, re.M) == operators


def test_the_tree_is_sorted_by_what_siblings_stand_for_together() -> None:
    modules = (Module("", "Net"), Module("a", "Small", 9), *(Module(f"b.{i}", "Many", 5) for i in range(2)))
    call = Call("aten::exp", {"self": X}, (X,))
    records = tuple(Record(0, 1 + i, n) for i, n in enumerate((3, 2, 2)))
    shown = make(Ledger(Trace((call,), records, modules), (Price(Cost(exp=6, add=1)),)))
    labels = lambda sort: [node.label for _, node in selection.modules(shown, 1, 0, sort)[0]][1:]
    assert labels(None) == labels("name") == ["a", "b.0-1"]
    assert labels("value") == labels("params") == labels("calls") == ["b.0-1", "a"]


def test_a_sort_that_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"^cannot sort by 'size'; expected value, macs, exp, bytes, params, calls or"):
        text.render(report(), sort="size")
    with pytest.raises(UsageError, match=r"^operators have no parameters to sort by; sort modules by them"):
        text.render(report(), by="operator", sort="params")


def test_formulas_that_have_no_room_get_lines_of_their_own() -> None:
    rows = [Row((("one", "a formula of some length"), "1")), Row((("two", "short"), "2"))]
    columns = [Column("name", "name", spill=True), Column("n")]
    lines = [plain([line]) for line in table(columns, rows, 20)[0]]
    assert lines == ["name               n", "one                1", "  a formula of some", "    length",
                     "two                2", "  short"]  # fmt: skip
    assert [plain([line]) for line in table(columns, rows, 40)[0]][1:] == [
        "one  a formula of some length  1",
        "two  short                     2",
    ]


def test_a_remark_keeps_how_many_there_are() -> None:
    rows = [Row((("├ attention", "12x ALongClassName"), "1"))]
    shown = lambda width: plain(table([Column("module", "name"), Column("n")], rows, width)[0][1:])
    assert shown(40) == "├ attention  12x ALongClassName  1"
    assert shown(28) == "├ attention  12x ALo…Name  1"
    assert shown(22) == "├ attention  12x     1"


def test_depth_says_how_deep_the_tree_goes() -> None:
    rows = report().by_module()
    assert [level for level, _ in tree.visible(tree.build(rows), 1)] == [0, 1, 1]
    assert [level for level, _ in tree.visible(tree.build(rows), 2)] == [0, 1, 2, 1]


def test_what_is_not_counted_is_listed_and_sums_are_at_least() -> None:
    shown = text.render(report(known=False), width=100)
    assert "FLOPs            ≥12.00 G  ≥12,000,000,000\n" in shown
    assert "not counted, so that a sum with ≥ is the least it can be:\n  aten::mystery x2: no rule for this op" in shown
    assert "for this operator\n    on 2x3 -> 2x3\n    in head\n" in shown
    assert re.search(r"\(model\) +Net .*≥12.00 G", shown)
    assert re.search(r"aten::mystery +\? +\? +\? +\? +\? +2", shown)
    whole = text.render(report(), width=100)
    assert "not counted: nothing" in whole and "≥" not in whole


def test_another_convention_has_its_line_and_its_column() -> None:
    shown = text.render(report("macs"), width=120)
    assert "as macs counts: 6.000 G = 6,000,000,000 MAC (multiply-adds of products" in shown
    head = next(line for line in shown.splitlines() if line.startswith("module"))
    assert "macs" in head and "FLOPs" not in head and "MACs" not in head


def test_a_convention_says_what_it_leaves_out() -> None:
    calls = (Call("my::scan", {"x": X}, (X,)), Call("aten::mm", {"self": X, "mat2": X}, (X,)))
    records = (Record(0, 0, 2), Record(1, 0, 1), Record(1, 0, 1, phase="backward"))
    kept = Ledger(Trace(calls, records, (Module("", "Net"),), (), 0, {}), (Price(Cost(fma=5)), Price(Cost(fma=18))))
    shown = " ".join(text.render(make(kept, "vmamba"), width=300).split())
    assert "MACs and FLOPs mixed); forward only; it counts as zero my::scan x2 " in shown
    assert make(kept, "vmamba").to_dict()["kernels_at_zero"] == {"my::scan": 2}
    assert "only" not in text.render(make(kept, "macs"), width=300).splitlines()[2]
    assert make(kept).kernels_at_zero == {}


def test_operators_that_cost_nothing_are_one_sentence() -> None:
    assert "free of arithmetic and of bytes: aten::view x1" in str(report())


def test_notes_and_origin_come_last() -> None:
    shown = text.render(report(notes=["the einsum is exact"], route="shape-only", again="flopscan count net"), width=80)
    assert shown.endswith(
        "note: the einsum is exact\n\n"
        "flops: multiply-add 2, other arithmetic 1, exp and log and trigonometric apart |\n"
        "  shape-only | flopscan 0.1.0\n"
        "again: flopscan count net"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_command_can_be_pasted_at_any_width(width: int) -> None:
    import shlex

    command = "flopscan count 'a folder/net.py:make' --input x=1x3x224x224:float16 --arg name='two words' --backward"
    shown = text.render(report("macs", again=command), width=width)
    pasted = shown[shown.index("again:") + 6 :].replace("\\\n", " ")
    assert shlex.split(pasted) == shlex.split(f"{command} --convention macs")


def test_without_a_command_nothing_is_said() -> None:
    assert "again" not in str(report())


def test_lines_keep_their_numbers() -> None:
    for width in WIDTHS:
        shown = text.render(report(lines=True), width=width, by="line")
        assert ".py:123 " in shown, width


def test_lines_that_were_not_recorded() -> None:
    with pytest.raises(UsageError, match=r"^this count has no source lines; count with --by line, trace with --lines"):
        text.render(report(), by="line")
    with pytest.raises(UsageError, match=r"^cannot show a report by 'colour'; expected module, operator or line$"):
        text.render(report(), by="colour")


def test_colour_changes_no_letter() -> None:
    shown = report(known=False)
    coloured = text.render(shown, width=90, color=True)
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == text.render(shown, width=90).splitlines()


def test_phases_have_a_table_where_there_are_two() -> None:
    one = ledger()
    records = (*one.trace.records, Record(0, 4, 6, "backward"))
    both = make(Ledger(Trace(one.trace.calls, records, one.trace.modules), one.prices))
    assert re.search(r"phase .*\nforward .* 50.0% .*\nbackward .* 50.0%", text.render(both, width=100))
    assert "phase" not in str(report())


def test_a_padded_number_stands_below_the_digits_of_others() -> None:
    assert [aligned(n) for n in (7, 1234)] == ["7  ", "1.234 k"]


def test_files_know_their_format(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import gzip
    import json

    shown = report()
    for name in ("a.json", "a.json.gz", "a.txt"):
        shown.save(tmp_path / name)
    data = json.loads((tmp_path / "a.json").read_text())
    assert data == json.loads(gzip.decompress((tmp_path / "a.json.gz").read_bytes())) == shown.to_dict()
    assert (tmp_path / "a.txt").read_text() == text.render(shown, width=120) + "\n"


def test_a_path_that_cannot_be_written_is_refused_before(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=r"^cannot tell the format of 'a.pdf'; expected a name that ends in .txt, "):
        formats.check("a.pdf")
    with pytest.raises(UsageError, match=r"expected a name that ends in"):
        formats.check(".json")
    missing = tmp_path / "no" / "a.json"
    with pytest.raises(
        UsageError, match=f"^cannot write {missing}: there is no folder {missing.parent}; make it first$"
    ):
        formats.check(missing)
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(UsageError, match=r"it is a folder; give the name of a file$"):
        formats.check(tmp_path / "b.txt")


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import os

    from flopscan.errors import FlopscanError

    path = tmp_path / "a.json"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        FlopscanError, match=f"^cannot write {path}: No space left on device; choose a path that can be"
    ):
        report().save(path)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.json"]

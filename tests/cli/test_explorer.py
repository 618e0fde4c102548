"""flopscan view: every key, on a ledger and on a saved report, in terminals of several sizes."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flopscan.cli.explorer import pages, subject
from flopscan.cli.explorer.outline import Outline
from flopscan.cli.main import main
from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Module, Record, TensorSpec, Trace
from flopscan.errors import SchemaError, UsageError
from flopscan.report.layout import plain
from flopscan.report.report import make

X = TensorSpec((2, 3))


def ledger(*, known: bool = True) -> Ledger:
    """Two stages of two alike blocks each, and a head."""
    modules = [Module("", "Net")]
    for stage in range(2):
        modules.append(Module(f"stages.{stage}", "Sequential"))
        for block in range(2):
            modules.append(Module(f"stages.{stage}.blocks.{block}", "Block", 5 + stage))
            modules.append(Module(f"stages.{stage}.blocks.{block}.mixer", "Mixer", 50))
    modules.append(Module("head", "Linear", 7))
    place = {module.path: i for i, module in enumerate(modules)}
    calls = (
        Call("aten::mm", {"self": X, "mat2": TensorSpec((3, 3))}, (X,)),
        Call("aten::exp", {"self": X}, (X,)),
        Call("aten::mystery", {"self": X}, (X,)),
    )
    prices = (
        Price(Cost(fma=1000, read=400, written=100)),
        Price(Cost(exp=6, read=24, written=24)),
        Price(Cost(add=1)) if known else Price(None, note="no rule for this operator"),
    )
    records = [Record(0, place[f"stages.{s}.blocks.{b}.mixer"], 1 + s) for s in range(2) for b in range(2)]
    records += [Record(1, place["stages.0.blocks.0"], 1), Record(1, place["stages.0.blocks.1"], 1)]
    records.append(Record(2, place["head"], 2))
    origin = {"target": "a net", "inputs": ["2x3 float32"]}
    return Ledger(Trace(calls, tuple(records), tuple(modules), (), 231, origin), prices)


def opened(*, known: bool = True, saved: bool = False, convention: str | None = None) -> subject.Subject:
    counted = ledger(known=known)
    if not saved:
        return subject.open_("net.ledger.json", counted, convention)
    return subject.open_("net.json", json.loads(json.dumps(make(counted).to_dict())), convention)


def labels(outline: Outline) -> list[str]:
    return [node.label for _, node in outline.shown()]


def test_a_saved_report_has_the_numbers_of_its_ledger() -> None:
    one, two = opened(), opened(saved=True)
    assert (one.title, one.inputs, one.unit, one.chosen) == (two.title, two.inputs, two.unit, two.chosen)
    for metric in subject.METRICS.values():
        assert Outline(one, 9, metric).lines(120) == Outline(two, 9, metric).lines(120)
        assert pages.operators(one, metric, 80) == pages.operators(two, metric, 80)
    assert pages.uncounted(opened(known=False), 80) == pages.uncounted(opened(known=False, saved=True), 80)


def test_numbers_are_those_of_the_report() -> None:
    row = make(ledger()).by_module()[""]
    total = opened().total
    assert {metric: subject.number(total, metric) for metric in subject.METRICS.values()} == {
        "value": int(row.value), "macs": int(row.macs), "exp": row.transcendentals,
        "bytes": row.cost.read + row.cost.written, "params": row.params,
    }  # fmt: skip
    assert subject.number(total, "macs") == 6000 and subject.number(total, "params") == 229


def test_conventions_have_their_totals_and_a_report_has_one() -> None:
    report, found = make(ledger()), {one.name: one for one in opened().conventions()}
    assert found["macs"].total == report.under("macs") and found["macs"].unit == "MAC"
    assert found["6nd"].total is None, "no language model: no total, and no crash"
    assert opened(convention="macs").total.value == report.under("macs")
    with pytest.raises(UsageError, match=r"^net.json is a report, which has the numbers of flops alone; open a ledger"):
        opened(saved=True).conventions()
    with pytest.raises(UsageError, match=r"^net.json is a report, which has the numbers of flops alone"):
        opened(saved=True, convention="macs")
    with pytest.raises(UsageError, match=r"^6nd is a formula for language models"):
        opened(convention="6nd")


def test_a_report_that_is_not_whole_is_a_sentence() -> None:
    data = make(ledger()).to_dict()
    for key in ("by_module", "by_operator", "uncounted", "unit", "inputs"):
        broken = {name: value for name, value in data.items() if name != key}
        with pytest.raises(SchemaError, match=f"^net.json is damaged: .*{key}"):
            subject.open_("net.json", broken)


def test_depth_and_hands() -> None:
    outline = Outline(opened(), depth=1)
    assert labels(outline) == ["", "stages.0", "stages.1", "head"]
    level, node = outline.shown()[1]
    outline.toggle(node, level)
    assert labels(outline)[2] == "blocks.0-1"
    outline.to_depth(0)
    assert labels(outline) == [""]
    outline.to_depth(99)
    assert outline.depth == 9 and labels(outline).count("mixer") == 2
    outline.to_depth(-1)
    assert outline.depth == 0


def test_search_finds_names_and_classes_and_opens_the_way() -> None:
    outline = Outline(opened(), depth=0)
    ways = outline.found("MIXER")
    assert [way[-1].row.name for way in ways] == ["stages.0.blocks.0.mixer", "stages.1.blocks.0.mixer"]
    at = outline.reveal(ways[1])
    assert labels(outline)[at] == "mixer"
    assert labels(outline) == ["", "stages.0", "stages.1", "blocks.0-1", "mixer", "head"]
    assert [way[-1].label for way in outline.found("linear")] == ["head"] and outline.found("nowhere") == []
    assert [way[-1].label for way in outline.found("blocks.1")] == ["blocks.0-1"] * 2, "the second of those folded"


@pytest.mark.parametrize("width", [30, 44, 80, 120, 200])
@pytest.mark.parametrize("metric", subject.METRICS.values())
def test_lines_fit_and_have_the_chosen_metric(width: int, metric: str) -> None:
    outline = Outline(opened(known=False), 9, metric)
    lines = plain(outline.lines(width)).splitlines()
    assert all(len(line) <= width for line in lines) and len(lines) == 1 + len(outline.shown())
    assert subject.TITLES[metric] in lines[0]
    assert "≥" in lines[1] or metric == "params", "a sum that lacks something is the least it can be"


def test_a_page_of_operators_never_shows_zero_for_the_unknown() -> None:
    lines = plain(pages.operators(opened(known=False), "value", 60)).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["aten::mm", "aten::exp", "aten::mystery"]
    assert lines[3].split()[1:] == ["?", "?", "2"]


def test_what_a_convention_has_as_zero_is_said() -> None:
    whole = ledger()
    calls = (dataclasses.replace(whole.trace.calls[0], op="x::kernel"), *whole.trace.calls[1:])
    scan = dataclasses.replace(whole, trace=dataclasses.replace(whole.trace, calls=calls))
    for source in (scan, json.loads(json.dumps(make(scan, "fvcore").to_dict()))):
        one = subject.open_("a.json", source, "fvcore")
        told = plain(pages.uncounted(one, 60))
        assert one.at_zero and all(f"{op} x{calls}" in told for op, calls in one.at_zero.items())
        assert "fvcore counts as zero" in told


# The application

Steps = Callable[[Any, Any], Any]


def drive(steps: Steps, *, size: tuple[int, int] = (100, 30), **options: Any) -> None:
    """Run the application without a terminal, and do ``steps`` with it and its pilot."""
    pytest.importorskip("textual", reason="the extra 'view' is not installed")
    from flopscan.cli.explorer.app import Explorer

    async def go() -> None:
        app = Explorer(opened(**options))
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(go())


def content(app: Any, name: str) -> str:
    return str(app.screen.query_one(name).render())


def lines(app: Any) -> list[str]:
    tree = app.query_one("#tree")
    return [str(tree.get_option_at_index(i).prompt).rstrip() for i in range(tree.option_count)]


@pytest.mark.parametrize("size", [(44, 10), (30, 6), (100, 30), (200, 60)])
def test_it_opens_in_any_terminal_and_quits(size: tuple[int, int]) -> None:
    async def steps(app: Any, pilot: Any) -> None:
        assert "a net" in content(app, "#head") and "12.00 k FLOPs" in content(app, "#head")
        assert lines(app)[0].startswith("▾ (model)") and "12.00 k" in lines(app)[0]
        assert max(map(len, lines(app))) <= max(30, size[0] - 4)
        for key in ("question_mark", "o", "u", "c"):
            await pilot.press(key)
            assert len(app.screen_stack) == 2, key
            await pilot.press("escape")
            assert len(app.screen_stack) == 1, key
        await pilot.press("q")

    drive(steps, size=size)


def test_depth_metric_and_hands_by_keys() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("1")
        assert len(lines(app)) == 4
        await pilot.press("plus")
        assert len(lines(app)) == 6
        await pilot.press("minus", "j", "enter")
        assert len(lines(app)) == 5 and "blocks.0-1" in lines(app)[2]
        await pilot.press("down", "left")
        assert app.query_one("#tree").highlighted == 1, "left on what is closed goes to what it is in"
        await pilot.press("left")
        assert len(lines(app)) == 4
        await pilot.press("right")
        assert len(lines(app)) == 5
        for key, title in zip("mebpf", ("MACs", "exp/log", "bytes", "params", "FLOPs"), strict=True):
            await pilot.press(key)
            assert content(app, "#columns").split()[:3] == ["module", "share", title]
            assert app.query_one("#tree").highlighted == 1

    drive(steps)


def test_closing_what_holds_the_cursor_leaves_it_there() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("9", "down", "down", "down")
        assert "mixer" in lines(app)[3]
        await pilot.press("1")
        assert app.query_one("#tree").highlighted == 1

    drive(steps)


def test_another_convention_by_keys() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("c")
        box = app.screen.query_one("OptionList")
        await pilot.press("j")
        assert box.highlighted is not None and box.get_option_at_index(box.highlighted).id != "6nd", "not for this one"
        box.highlighted = box.get_option_index("macs")
        await pilot.press("enter")
        await pilot.pause()
        assert len(app.screen_stack) == 1 and app.outline.subject.chosen == "macs"
        assert "6.000 k macs" in content(app, "#head")

    drive(steps)


def test_a_saved_report_says_that_it_has_one_convention() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("c")
        await pilot.pause()
        assert len(app.screen_stack) == 1
        (said,) = app._notifications
        assert said.message.startswith("net.json is a report, which has the numbers of flops alone; open a ledger")

    drive(steps, saved=True)


def test_the_theme_by_a_key() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        first = app.current_theme.dark
        await pilot.press("t")
        assert app.current_theme.dark != first
        await pilot.press("t")
        assert app.current_theme.dark == first

    drive(steps)


def test_search_by_keys() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        await pilot.press("n")
        assert content(app, "#foot") == "nothing was searched for; / searches"
        await pilot.press("1", "slash", *"mix", "enter")
        assert content(app, "#foot").startswith("1 of 2") and app.query_one("#tree").highlighted == 3
        await pilot.press("n")
        assert content(app, "#foot").startswith("2 of 2") and app.query_one("#tree").highlighted == 6
        await pilot.press("n", "N")
        assert content(app, "#foot").startswith("2 of 2"), "it starts over at either end"
        await pilot.press("slash", *"zzz", "enter")
        assert content(app, "#foot") == "nothing is called 'zzz'"
        await pilot.press("slash", "q", "escape", "m")
        assert app.outline.metric == "macs", "escape leaves the search, and keys are keys again"

    drive(steps)


def test_what_was_not_counted_is_in_sight() -> None:
    async def steps(app: Any, pilot: Any) -> None:
        assert "not counted: 1 operator (u)" in content(app, "#head") and "≥12.00 k FLOPs" in content(app, "#head")
        await pilot.press("u")
        await pilot.pause()
        page = content(app, "#page")
        assert "aten::mystery x2: no rule for this operator" in page and "in head" in page
        await pilot.press("escape", "o")
        await pilot.pause()
        assert "aten::mm" in content(app, "#page")

    drive(steps, known=False)


# The command


@pytest.fixture
def net(tmp_path: Path) -> str:
    ledger().save(tmp_path / "net.ledger.json")
    return str(tmp_path / "net.ledger.json")


def test_without_textual_it_names_the_extra(net: str, monkeypatch: Any, capsys: Any) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "textual":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "flopscan.cli.explorer.app", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["view", net]) == 1
    assert capsys.readouterr().err == (
        "flopscan: error: flopscan view needs textual, which is not installed: pip install 'flopscan[view]'\n"
    )


def test_it_needs_a_terminal_and_takes_no_options_for_files(net: str, capsys: Any) -> None:
    pytest.importorskip("textual", reason="the extra 'view' is not installed")
    assert main(["view", net]) == 2
    assert "an explorer needs a terminal; flopscan count and flopscan report print the same" in capsys.readouterr().err
    assert main(["view", net, "--backward", "--input", "1x3", "--arg", "a=1"]) == 2
    assert capsys.readouterr().err == (
        f"flopscan: error: {net} was counted already; --arg and --backward and --input cannot change it\n"
    )
    assert main(["view", net, "--convention", "nonsense"]) == 2

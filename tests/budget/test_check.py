"""What grew is found, by how much, where and in which lines; what did not is not."""

from __future__ import annotations

import inspect
from fractions import Fraction
from typing import Any

import pytest
from torch import Tensor, nn

from budget.nets import Block, Net, counted, locked
from flopscan import rules
from flopscan.budget import check, document, measures
from flopscan.budget.check import GREW, SAME, SHRANK, Outcome
from flopscan.budget.lock import Entry

EXACT = Fraction(0)


def checked(entry: Entry, model: nn.Module, tolerance: Fraction = EXACT, **versions: str) -> Outcome:
    return check.check("net", entry, tolerance, counted(model), versions or entry.versions)


def line(cls: type, code: str) -> int:
    """The line of a class in its file that holds ``code``."""
    lines, start = inspect.getsourcelines(cls)
    return start + next(i for i, text in enumerate(lines) if code in text)


def test_numbers_by_hand() -> None:
    found = measures.measure(counted(Net()), ("flops", "macs", "transcendentals", "params", "bytes"))
    assert found.total["macs"] == 2 * (2 * 8 * 16) + 8 * 10 == found.total["params"]
    assert found.modules["blocks.1.up"][0]["flops"] == 2 * 8 * 16 and found.modules["blocks.1.up"][1] == "Linear"
    assert found.modules["blocks.0"][0]["macs"] == 2 * 8 * 16
    assert found.operators["aten::relu"][0]["calls"] == 2 and "aten::t" not in found.operators
    assert measures.own(found, "params") == {
        name: 0 if name in ("", "blocks", "blocks.0", "blocks.1") or name.endswith("act") else sizes["params"]
        for name, sizes in {"": found.total, **{n: s for n, (s, _) in found.modules.items()}}.items()
    }
    assert set(measures.measure(counted(Net()), ("flops",), 1).modules) == {"blocks", "head"}
    assert not measures.measure(counted(Net()), ("flops",), 0).modules


@pytest.mark.parametrize("conventions", [("flops",), ("macs", "fvcore"), ("flops", "thop", "torch-2.13")])
def test_what_is_locked_is_the_same(conventions: tuple[str, ...]) -> None:
    found = checked(locked(Net(), *conventions), Net())
    assert found.ok and found.status == SAME and not found.sources and not found.versions
    assert found.total.first == found.total.second


def test_what_grew() -> None:
    found = checked(locked(Net(), "macs"), Net((16, 20)))
    assert not found.ok and found.status == GREW and found.grown.measures == ("macs", "params")
    assert found.total.amount("macs") == found.total.amount("params") == 2 * 8 * 4
    assert [change.name for change in found.grown.modules] == ["blocks", "blocks.1", "blocks.1.up", "blocks.1.down"]
    assert [change.name for change in found.grown.operators] == ["aten::mm"]
    assert not found.shrunk.measures


def test_growth_of_each_module_sums_to_that_of_the_model() -> None:
    found = checked(locked(Net(), "flops"), Net((24, 16), nn.GELU, classes=12))
    grown = {change.name: change for change in found.grown.modules}
    for key in found.grown.measures:
        top = sum(change.amount(key) for name, change in grown.items() if "." not in name)
        assert top == found.total.amount(key)


def test_an_activation_with_exponentials_is_growth() -> None:
    found = checked(locked(Net(), "macs"), Net(act=nn.SiLU))
    assert found.grown.measures == ("transcendentals",), "its divisions are no MACs"
    (source,) = found.sources
    assert (source.operators, source.modules) == (("aten::silu",), ("blocks.0.act", "blocks.1.act"))
    assert source.value == 2 * 16 and source.line == line(Block, "self.act(self.up(x))")


def test_lines_of_what_grew_are_those_that_run_it() -> None:
    found = checked(locked(Net(), "flops"), Net((16, 20)))
    assert [(source.line, source.modules) for source in found.sources] == [
        (line(Block, "self.act(self.up(x))"), ("blocks.1.up", "blocks.1.act")),
        (line(Block, "return self.down(y)"), ("blocks.1.down",)),
    ]
    assert found.sources[0].value == 2 * 8 * 20 + 20 and found.sources[1].value == 2 * 8 * 20
    assert all(source.file.endswith("nets.py") and source.function == "forward" for source in found.sources)


def test_a_module_that_grew_in_a_part_of_it_alone_has_no_lines_of_its_own() -> None:
    class Around(nn.Module):
        def __init__(self, hidden: int) -> None:
            super().__init__()
            self.block = Block(8, hidden)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x @ x.mT @ x)  # the same operator as in the block, at the cost that it had

    found = checked(locked(Around(16)), Around(20))
    assert [source.modules for source in found.sources] == [("block.up", "block.act"), ("block.down",)]


def test_lines_where_modules_are_locked_to_a_depth() -> None:
    found = checked(locked(Net(), "flops", depth=1), Net(classes=20))
    assert [(source.line, source.modules) for source in found.sources] == [
        (line(Net, "get_submodule(self.name)(x)"), ("head",))
    ]


def test_lines_where_no_module_is_locked_are_those_of_the_operators_that_grew() -> None:
    found = checked(locked(Net(), "flops", depth=0), Net(act=nn.GELU))
    assert not found.grown.modules and [(source.line, source.operators) for source in found.sources] == [
        (line(Block, "self.act(self.up(x))"), ("aten::gelu",))
    ]


def test_parameters_that_nothing_runs_have_no_line() -> None:
    found = checked(locked(Net(), "flops"), Net(wide=100))
    assert found.grown.measures == ("params",) and found.sources == ()
    assert [change.name for change in found.grown.modules] == ["unused"]


def test_a_function_in_the_model_itself() -> None:
    class More(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.exp())

    found = checked(locked(Net(), "flops"), More())
    assert found.grown.measures == ("transcendentals",) and not found.grown.modules
    assert [(source.operators, source.modules) for source in found.sources] == [(("aten::exp",), ("",))]


@pytest.mark.parametrize(("tolerance", "ok"), [((1, 4), True), ((249, 1000), False)])
def test_the_tolerance_is_exact_and_of_each_number_itself(tolerance: tuple[int, int], ok: bool) -> None:
    found = checked(locked(Net(), "macs"), Net((16, 20)), Fraction(*tolerance))
    assert found.total.amount("macs") * 100 < 12 * (found.total.first or {})["macs"], "the model grew by less"
    assert found.ok is ok, "blocks.1.up has 25 % more"


def test_what_shrank_is_a_note() -> None:
    found = checked(locked(Net(), "macs"), Net((16, 12)))
    assert found.ok and found.status == SHRANK and found.shrunk.measures == ("macs", "params")
    assert [change.name for change in found.shrunk.modules] == ["blocks", "blocks.1", "blocks.1.up", "blocks.1.down"]
    assert checked(locked(Net(), "macs"), Net((16, 12)), Fraction(1, 4)).status == SAME


def test_another_name_is_no_growth() -> None:
    assert checked(locked(Net()), Net(head="classifier")).status == SAME


def test_cost_that_moves_between_modules_grew_where_it_went() -> None:
    found = checked(locked(Net((16, 20))), Net((20, 16)))
    assert found.total.amount("flops") == 0 and found.status == GREW
    assert [change.name for change in found.grown.modules] == ["blocks.0"] + [
        f"blocks.0.{n}" for n in ("up", "act", "down")
    ]
    assert found.sources[0].modules == ("blocks.0.up", "blocks.0.act")


def test_limits() -> None:
    limits = {"macs": "<=592", "params": "590 +-1", "bytes": ">1", "fvcore": "<= 1k"}
    found = checked(locked(Net(), limits=limits), Net())
    assert [(held.measure, held.value, held.ok) for held in found.limits][:2] == [
        ("macs", 592, True), ("params", 592, False),
    ]  # fmt: skip
    assert [held.measure for held in found.broken] == ["params"] and not found.ok and not found.grown.measures


def test_a_limit_by_another_spelling_of_a_convention() -> None:
    found = checked(locked(Net(), limits={"torch_2_13": "<= 2k"}), Net())
    assert found.ok and found.limits[0].measure == "torch-2.13"


@pytest.fixture
def no_relu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Without a rule for aten::relu, and again with it."""
    find = rules.find
    monkeypatch.setattr(rules, "find", lambda op: None if op == "aten::relu" else find(op))
    return lambda: monkeypatch.setattr(rules, "find", find)


def test_what_is_newly_uncounted_fails_though_the_total_shrank(no_relu: Any) -> None:
    blind = counted(Net())
    no_relu()
    entry = locked(Net())
    found = check.check("net", entry, EXACT, blind, entry.versions)
    assert not found.ok and found.newly_uncounted == {"aten::relu": (0, 2)}
    assert found.total.amount("flops") < 0 and found.shrunk.measures
    assert [source.line for source in found.blind] == [line(Block, "self.act(self.up(x))")]


def test_what_was_uncounted_may_stay_so_and_not_get_more(no_relu: Any) -> None:
    entry = locked(Net())
    assert entry.numbers.uncounted == {"aten::relu": 2} and checked(entry, Net()).ok
    assert checked(entry, Net((16, 16, 16))).newly_uncounted == {"aten::relu": (2, 3)}
    no_relu()
    found = checked(entry, Net())
    assert not found.ok and found.newly_counted == ("aten::relu",), "the growth is explained"


def test_versions_that_differ_are_told() -> None:
    found = checked(locked(Net()), Net(), flopscan="1", torch="3", timm="1.0")
    assert found.ok and found.versions == {"torch": ("2", "3"), "timm": ("not there", "1.0")}


def test_a_backward_pass_has_the_lines_of_the_model() -> None:
    from flopscan import analysis, api

    def ledger(model: nn.Module) -> Any:
        return analysis.price(api.trace_of(model, (1, 8), lines=True, backward=True))

    entry = locked(Net())
    found = check.check("net", entry, EXACT, ledger(Net()), entry.versions)
    assert found.sources and all(source.file.endswith("nets.py") for source in found.sources)


def test_it_is_json_ready() -> None:
    import json

    grown = checked(locked(Net(), limits={"macs": "<=600"}), Net((16, 20)))
    failed = Outcome("gone", Entry("gone.py:Net"), "there is no file gone.py")
    data = json.loads(json.dumps(document.to_dict([grown, failed], "flops.lock")))
    assert (data["schema"], data["ok"], [one["status"] for one in data["targets"]]) == (
        "flopscan.check/1", False, ["grew", "failed"],
    )  # fmt: skip
    first, second = data["targets"]
    assert first["now"]["flops"] - first["locked"]["flops"] == grown.total.amount("flops")
    assert first["limits"] == [{"measure": "macs", "limit": "<=600", "value": 656, "ok": False}]
    assert [source["line"] for source in first["sources"]] == [source.line for source in grown.sources]
    assert second["error"] == "there is no file gone.py"

"""How a convention finds what counts a call, what it looks through, and what it does with the counts at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flopscan import conventions
from flopscan.core.convention import Bug, Convention
from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Frame, Module, Record, TensorSpec, Trace
from flopscan.errors import UsageError

OUT = (TensorSpec((2, 3)),)
LAYER, FUNCTION, PRODUCT = Call("module::a.Layer", {"leaf": True}, OUT), Call("torch::f", {}, OUT), Call("aten::mm", {})


def ledger() -> Ledger:
    """A product in a function in a layer, the layer called twice, and a product by itself."""
    records = (
        Record(0, 1, 2, envelope=True),
        Record(1, 1, 2, inside=0, envelope=True),
        Record(2, 1, 2, inside=1),
        Record(2, 0, 1),
    )
    frames = (Frame(0), Frame(1, 0))
    modules = (Module("", "Model"), Module("layer", "Layer"))
    return Ledger(Trace((LAYER, FUNCTION, PRODUCT), records, modules, frames=frames), (Price(None),) * 3)


def of(handles: Mapping[str, int], **more: Any) -> Convention:
    return Convention(
        "c", "u", "", "", handles={op: lambda call, n=n: n for op, n in handles.items()}, **more
    )  # fmt: skip


@pytest.mark.parametrize(
    ("handles", "through", "counts"),
    [
        ({"aten::mm": 1}, (), [0, 0, 2, 1]),
        ({"aten::mm": 1, "torch::f": 10}, (), [0, 20, 0, 1]),
        ({"aten::mm": 1, "torch::f": 10, "module::a.Layer": 100}, (), [200, 0, 0, 1]),
        ({"aten::mm": 1, "torch::f": 10, "module::a.Layer": 100}, ("module::a.Layer",), [200, 20, 0, 1]),
        ({"aten::mm": 1, "module::a.Layer": 100}, ("module::",), [200, 0, 2, 1]),
    ],
)
def test_what_is_inside_of_a_counted_call(handles: dict[str, int], through: Any, counts: list[int]) -> None:
    assert of(handles, through=frozenset(through)).counts(ledger()) == counts


@pytest.mark.parametrize(
    ("convention", "at_zero"),
    [
        (of({"aten::mm": 1}), {"my::scan": 5, "my::norm": 1}),
        (of({"my::scan": 7}), {"my::norm": 1}),
        (of({"my::scan": 0, "my::norm": 0}, phases=("backward",)), {"my::scan": 2}),
        (of({"torch::f": 1}), {"my::scan": 2, "my::norm": 1}),  # three of the scans are inside of what it takes
        (of({}, weights={"fma": 2}), {}),  # a norm without a multiply-add has none to count
        (of({"my::scan": 0}, weights={"fma": 2}), {"my::scan": 5}),
        (of({}, whole=lambda ledger: [0] * 6), {}),
    ],
)
def test_kernels_that_a_convention_counts_as_zero(convention: Convention, at_zero: dict[str, int]) -> None:
    calls = (Call("torch::f", {}, OUT), Call("my::scan", {}), Call("my::norm", {}), Call("aten::add", {}),
             Call("my::copy", {}))  # fmt: skip
    records = (
        Record(0, 0, 1, envelope=True), Record(1, 0, 3, inside=0), Record(1, 0, 2, phase="backward"), Record(2, 0, 1),
        Record(3, 0, 1), Record(4, 0, 1),
    )  # fmt: skip
    prices = tuple(map(Price, (None, Cost(fma=1), Cost(mul=1), Cost(add=1), Cost(read=4))))
    kept = Ledger(Trace(calls, records, (Module("", "Model"),), frames=(Frame(0),)), prices)
    assert convention.kernels_at_zero(kept) == at_zero


def test_a_fallback_takes_modules_that_have_no_handle_by_name() -> None:
    leaf = of({"aten::mm": 1}, fallback=lambda call: (lambda c: c.out.numel) if call.get("leaf") else None)
    assert leaf.counts(ledger()) == [12, 0, 0, 1]
    assert of({"module::a.Layer": 5}, fallback=lambda call: lambda c: 1).counts(ledger())[0] == 10


def test_the_counts_are_settled_at_the_end_step_by_step() -> None:
    steps = {"double": lambda trace, counts: [2 * c for c in counts], "one less": lambda _, cs: [c - 1 for c in cs]}
    counted = of({"aten::mm": 3}, settle=steps, bugs=(Bug("twice", "double", "a source"),))
    assert counted.counts(ledger()) == [-1, -1, 11, 5]
    assert counted.without("double").counts(ledger()) == counted.without("twice").counts(ledger()) == [-1, -1, 5, 2]
    assert counted.without().bugs == ()


def test_mistakes_are_taken_out_one_by_one_or_all_whatever_their_order() -> None:
    two = (Bug("a", "first", "s", {"aten::mm": lambda call: 1}), Bug("b", "second", "s", {"aten::mm": lambda call: 2}))
    counted = of({"aten::mm": 3}, bugs=two)
    assert [counted.without(*keys).counts(ledger())[-1] for keys in ((), ("a",), ("b",), ("b", "a"))] == [2, 1, 2, 2]
    again = counted.without("b").without("a")
    assert (again.name, again.counts(ledger())[-1], again.bugs) == (f"{counted.name}~a~b", 2, ())
    with pytest.raises(KeyError):
        counted.without("c")


def test_a_name_takes_mistakes_out() -> None:
    assert conventions.get("torch~groups").name == "torch~groups"
    assert conventions.get("fvcore~einsum~broadcast").name == "fvcore~broadcast~einsum"
    assert conventions.get("torch-2.13~all").mended == ("groups", "cpu")
    assert conventions.get("fvcore~all").bugs == ()
    with pytest.raises(UsageError, match=r"^fvcore has no mistake 'ensum'; did you mean einsum\? \(it has attention, "):
        conventions.get("fvcore~ensum")
    with pytest.raises(UsageError, match=r"^flops has no known mistakes to take out with ~; write flops"):
        conventions.get("flops~all")
    with pytest.raises(UsageError, match=r"^there is no convention 'fvcor'; did you mean fvcore"):
        conventions.get("fvcor~all")


def test_an_operator_counts_as_the_functions_that_it_is_written_with() -> None:
    seen = {"aten::mm": lambda call: ((3, FUNCTION), (1, Call("torch::unknown", {})))}
    assert of({"torch::f": 7}, written_out=seen).counts(ledger()) == [0, 14, 0, 21]
    bug = Bug("k", "b", "s", {"torch::f": lambda call: 1})
    mended = of({"torch::f": 7}, written_out=seen, bugs=(bug,)).without("b")
    assert mended.counts(ledger()) == [0, 2, 0, 3]


def test_a_whole_formula_says_what_each_record_adds() -> None:
    one = of({"aten::mm": 7}, whole=lambda ledger: [len(ledger.prices) - 2, 0, 4, 0])
    assert one.counts(ledger()) == [1, 0, 4, 0]
    assert one.total(ledger()) == 5


def test_conventions_are_found_by_their_own_names() -> None:
    found = conventions.names()
    assert found[0] == "flops" and found[1:] == sorted(found[1:]) and {"6nd", "torch-2.13", "vmamba-v0"} <= set(found)
    assert all(conventions.get(name).name == name for name in found)
    assert conventions.get("torch_2_13") is conventions.get("torch-2.13")
    assert conventions.get("vmamba_v0").name == "vmamba-v0"
    with pytest.raises(UsageError, match=r"^there is no convention 'fvcor'; did you mean fvcore"):
        conventions.get("fvcor")
    with pytest.raises(UsageError, match="there is no convention 'six-nd'"):
        conventions.get("six-nd")


@pytest.mark.parametrize("name", conventions.names())
def test_every_bug_says_where_it_stands_and_what_would_be_right(name: str) -> None:
    one = conventions.get(name)
    assert (
        one.unit
        and one.summary
        and all(bug.name and bug.source and (bug.right or bug.name in one.settle) for bug in one.bugs)
    )
    assert len({bug.name for bug in one.bugs}) == len({bug.key for bug in one.bugs}) == len(one.bugs)

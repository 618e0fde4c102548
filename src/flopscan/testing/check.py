"""Prove a rule: run the operator on real numbers, run the reference on tallying ones, compare values and counts."""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from typing import Any

from flopscan import rules
from flopscan.core.pointwise import Pointwise
from flopscan.core.rule import parameters
from flopscan.core.tally import Array, Num, Pair, Tally
from flopscan.core.trace import Call, TensorSpec

TOLERANCE = 1e-9  # float64 against Python floats


def example_of(op: str) -> Any:
    """The function that makes operands for ``op`` from sizes: the rule's own, or one derived from its contract."""
    rule = rules.find(op)
    assert rule is not None, f"{op} has no rule"
    if rule.example is not None:
        return rule.example
    if isinstance(rule, Pointwise):
        required = [name for name, default in rule.wants if default is inspect.Parameter.empty]
        dtypes = {"condition": "bool", "mask": "bool"}
        return lambda m, n: {name: TensorSpec((m, n), dtypes.get(name, "float64")) for name in required}
    contract = rule.contract
    assert contract is not None, f"the rule of {op} has no example and no contract to make one from"
    letters = sorted({t.lstrip("*") for o in contract.operands for t in o.forms[0]})

    def example(**sizes: int) -> dict[str, TensorSpec]:
        return {
            o.name: TensorSpec(tuple(sizes[t.lstrip("*")] for t in o.forms[0]), "float64") for o in contract.operands
        }

    example.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(letter, inspect.Parameter.KEYWORD_ONLY) for letter in letters]
    )
    return example


def draw_sizes(op: str, generator: random.Random) -> dict[str, Any]:
    """Random sizes for the example of ``op``: 1 to 4, or one of the values in a parameter's default tuple."""
    return {
        name: generator.choice(default) if isinstance(default, tuple) else generator.randint(1, 4)
        for name, default in parameters(example_of(op))
    }


def check_rule(op: str, seed: int = 0) -> None:
    """Raise AssertionError unless the rule of ``op`` costs exactly what its reference tallies, at random sizes.

    The reference must also compute what torch computes.
    """
    import torch

    generator = random.Random(seed)
    torch.manual_seed(seed)
    sizes = draw_sizes(op, generator)
    real = _real_operands(example_of(op)(**sizes), op)
    named = _renamed(op, real)
    func, result = _run(op, named)
    call = _as_call(op, named, result, func)
    rule = rules.find(op)
    assert rule is not None and rule.reference is not None, f"{op} has no reference"
    price = rule.price(call)
    assert price.ideal is not None, f"{op} {sizes}: {price.note}"
    tally: Tally[str] = Tally()
    wanted = {k: v for k, v in real.items() if k in dict(parameters(rule.reference))}
    run = _elementwise if isinstance(rule, Pointwise) else _whole
    computed = run(rule.reference, wanted, tally, torch)
    stated = {k: v for k, v in price.ideal.arithmetic().items() if v}
    counted = {k: v for k, v in tally.items() if v}
    assert stated == counted, f"{op} {sizes}: the rule says {stated}, its reference does {counted}"
    _compare(op, sizes, computed, result, torch)


def _renamed(op: str, real: dict[str, Any]) -> dict[str, Any]:
    """``real`` by the names of this torch: a version may have renamed an operand, which keeps its place."""
    import torch

    namespace, name = op.split("::")
    packet = getattr(getattr(torch.ops, namespace), name)
    schemas = [[a.name for a in getattr(packet, o)._schema.arguments] for o in packet.overloads()]
    if any(set(real) <= set(names) for names in schemas):
        return real
    old = [key for key in real if key not in schemas[0]]
    new = [key for key in schemas[0] if key not in real]
    names = dict(zip(old, new, strict=False))
    return {names.get(key, key): value for key, value in real.items()}


def _run(op: str, real: Mapping[str, Any]) -> tuple[Any, Any]:
    """The overload that torch picks for the operands, and its result."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    namespace, name = op.split("::")
    with Spy():
        result = getattr(getattr(torch.ops, namespace), name)(**real)
    named = [func for func in seen if func._schema.name == op]
    assert named, f"{op} is not dispatched under its own name: torch runs {[str(f) for f in seen]}"
    return named[0], result


def _real_operands(operands: Any, op: str) -> dict[str, Any]:
    import torch

    assert isinstance(operands, Mapping), f"the example of {op} must be a dict from operand names"
    return {k: _real(v, torch) for k, v in operands.items()}


def _real(value: Any, torch: Any) -> Any:
    if isinstance(value, TensorSpec):
        dtype = getattr(torch, value.dtype)
        if value.dtype == "bool":
            return torch.rand(value.shape) < 0.5
        if not value.is_float:
            return torch.zeros(value.shape, dtype=dtype)
        scaled = torch.rand(value.shape, dtype=torch.float64) * 0.7 + 0.2
        if value.is_complex:
            return torch.complex(scaled, torch.rand(value.shape, dtype=torch.float64)).to(dtype)
        return scaled.to(dtype)
    if isinstance(value, (list, tuple)):
        return [_real(v, torch) for v in value]
    return value


def _as_call(op: str, real: Mapping[str, Any], result: Any, func: Any) -> Call:
    from flopscan.capture.operators import Operator, outputs_of, plain

    operator = Operator(func)
    named = {**operator.defaults, **real}
    return Call(op, {k: plain(v) for k, v in named.items() if v is not None}, outputs_of(result))


def _numbers(value: Any, tally: Tally[str], torch: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            flat: Sequence[Any] = [Pair(Num(x.real, tally), Num(x.imag, tally)) for x in value.flatten().tolist()]
        elif value.is_floating_point():
            flat = [Num(x, tally) for x in value.flatten().tolist()]
        else:
            flat = value.flatten().tolist()
        return Array(value.shape, flat)
    if isinstance(value, list) and any(isinstance(v, torch.Tensor) for v in value):
        return [_numbers(v, tally, torch) for v in value]
    return value


def _whole(reference: Any, real: Mapping[str, Any], tally: Tally[str], torch: Any) -> Any:
    return reference(**{k: _numbers(v, tally, torch) for k, v in real.items()})


def _elementwise(reference: Any, real: Mapping[str, Any], tally: Tally[str], torch: Any) -> Any:
    tensors = {k: v for k, v in real.items() if isinstance(v, torch.Tensor)}
    shaped = dict(zip(tensors, torch.broadcast_tensors(*tensors.values()), strict=True))
    rest = {k: v for k, v in real.items() if k not in shaped}
    arrays = {k: _numbers(v, tally, torch).data for k, v in shaped.items()}
    size = len(next(iter(arrays.values())))
    results = [reference(**{k: a[i] for k, a in arrays.items()}, **rest) for i in range(size)]
    return Array(next(iter(shaped.values())).shape, results)


def _compare(op: str, sizes: Any, computed: Any, result: Any, torch: Any) -> None:
    if isinstance(computed, tuple):
        pairs = list(zip(computed, result, strict=False))
    else:  # an operator may give scratch besides
        pairs = [(computed, result[0] if isinstance(result, tuple) else result)]
    for mine, theirs in pairs:
        if mine is None:
            continue
        data = mine.data if isinstance(mine, Array) else [mine]
        flat = [_plain(x) for x in data]
        expected = theirs.flatten().tolist()
        assert len(flat) == len(expected), f"{op} {sizes}: {len(flat)} results, torch has {len(expected)}"
        for got, want in zip(flat, expected, strict=True):
            close = abs(complex(got) - complex(want)) <= TOLERANCE * max(1.0, abs(complex(want)))
            assert close, f"{op} {sizes}: the reference computes {got}, torch {want}"


def _plain(x: Any) -> Any:
    if isinstance(x, Pair):
        return complex(float(x.re), float(x.im))
    return float(x) if isinstance(x, Num) else getattr(x, "value", x)

"""Operators on lists of tensors: each costs what its plain form costs on every tensor of the list."""

from __future__ import annotations

from typing import Any

from flopscan import rules
from flopscan.core.cost import Cost, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule

_UNARY = (
    "abs", "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "expm1", "floor", "frac", "lgamma",
    "log", "log10", "log1p", "log2", "neg", "reciprocal", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt",
    "tan", "tanh", "trunc",
)  # fmt: skip
_BINARY = {
    "add": "other", "sub": "other", "mul": "other", "div": "other", "maximum": "other", "minimum": "other",
    "clamp_max": "max", "clamp_min": "min", "pow": "exponent", "addcdiv": "value", "addcmul": "value",
}  # fmt: skip
_PLAIN = {"tensors1": "end", "weights": "weight"}  # what lerp calls its operands
_REDUCED = {"norm": "aten::linalg_vector_norm", "max": "aten::max"}


def _each(call: Call, plain: str, second: str = "") -> Cost:
    """The sum over the list of the price of ``plain``; a scalar or a list of scalars is its operand ``second``."""
    names = {"scalar": second, "scalars": second, "other": second, **_PLAIN}
    lists = [v for v in call.args.values() if isinstance(v, tuple) and v and isinstance(v[0], TensorSpec)]
    costs = []
    for n, first in enumerate(lists[0]):
        args = {
            names.get(name, name): value[n] if isinstance(value, tuple) else value for name, value in call.args.items()
        }
        out = first if plain not in _REDUCED.values() else TensorSpec((), first.dtype)
        found = rules.find(plain)
        price = None if found is None else found.price(Call(plain, args, (out,)))
        if price is None or price.ideal is None:
            raise ContractError(f"{call.op}: {price.note if price else f'no rule for {plain}'}")
        costs.append((price.ideal, 1))
    return total(costs)


def _declare(name: str, plain: str, second: str = "") -> None:
    def cost(call: Call) -> Cost:
        return _each(call, plain, second)

    rule(f"aten::_foreach_{name}", source=f"{plain} on each tensor", complex=lambda cost: cost)(cost)


for _name in _UNARY:
    _declare(_name, f"aten::{_name}")
for _name, _second in _BINARY.items():
    _declare(_name, f"aten::{_name}", _second)
for _name, _reduction in _REDUCED.items():
    _declare(_name, _reduction)
_declare("lerp", "aten::lerp", "weight")
_declare("mm", "aten::mm")


def _sizes_unscale(call: Call) -> dict[str, Any]:
    return {"n": sum(t.numel for t in call["self"])}


def _moved_unscale(call: Call) -> tuple[int, int]:
    size = sum(t.nbytes for t in call["self"])
    return size, size


@rule("aten::_amp_foreach_non_finite_check_and_unscale", sizes=_sizes_unscale, moves=_moved_unscale)
def unscale(n: Any) -> Cost:
    """Each gradient is checked (1 cmp) and multiplied by the inverse scale."""
    return Cost(cmp=n, mul=n)


@rule("aten::_amp_update_scale")
def update_scale() -> Cost:
    """Two decisions and a product on one number."""
    return Cost(cmp=2, mul=1)

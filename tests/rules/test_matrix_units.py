"""Which multiply-adds may run on matrix units: said by the rules, summed by composites."""

from __future__ import annotations

import pytest

from flopscan import analysis, rules
from flopscan.core.cost import Cost
from flopscan.core.ledger import Price
from flopscan.core.rule import Rule
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import RuleError


def on_matrix(op: str, *outputs: TensorSpec, **operands: object) -> tuple[Price, tuple[int, int]]:
    call = Call(op, operands, outputs)
    price = analysis.price_call(call)
    assert price.ideal is not None, price.note
    return price, analysis.on_matrix_units(call, price)


def spec(*sizes: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(sizes, dtype)


def scan(n: int) -> dict[str, object]:
    return {
        "u": spec(2, 6, 8), "delta": spec(2, 6, 8), "A": spec(6, n), "B": spec(2, n, 8), "C": spec(2, n, 8),
        "delta_softplus": True,
    }  # fmt: skip


def test_all_of_a_product_and_of_a_convolution() -> None:
    _, found = on_matrix("aten::mm", spec(3, 5), self=spec(3, 4), mat2=spec(4, 5))
    assert found == (60, 60)
    price, found = on_matrix(
        "aten::convolution", spec(1, 8, 4, 4), input=spec(1, 3, 4, 4), weight=spec(8, 3, 3, 3), bias=None,
        stride=(1, 1), padding=(1, 1), dilation=(1, 1), transposed=False, output_padding=(0, 0), groups=1,
    )  # fmt: skip
    assert price.ideal is not None and found == (price.ideal.fma, price.ideal.fma) and found[0] > 0


def test_attention_with_its_causal_half_and_as_executed() -> None:
    q = spec(1, 2, 8, 4)
    price, found = on_matrix(
        "flopscan::scaled_dot_product_attention", q, query=q, key=q, value=q, attn_mask=None, dropout_p=0.0,
        is_causal=True,
    )  # fmt: skip
    assert price.ideal is not None and price.executed is not None
    assert found == (price.ideal.fma, price.executed.fma) and 0 < found[0] < found[1]


def test_nothing_of_a_selective_scan_and_of_what_is_elementwise() -> None:
    price, found = on_matrix("flopscan::selective_scan", spec(2, 6, 8), **scan(4))
    assert price.ideal is not None and price.ideal.fma > 0
    assert found == (0, 0)
    assert on_matrix("aten::silu", spec(4, 4), self=spec(4, 4))[1] == (0, 0)


def test_of_mamba2_the_products_of_its_chunks_and_not_its_recurrence() -> None:
    x, dt, bc = spec(1, 512, 4, 64), spec(1, 512, 4), spec(1, 512, 1, 64)
    price, found = on_matrix("flopscan::ssd", x, x=x, dt=dt, A=spec(4), B=bc, C=bc, chunk_size=256)
    assert price.executed is not None and found == (0, price.executed.fma)
    assert found[1] > 0


def test_a_delta_rule_step_by_step_has_no_products() -> None:
    q, v, gate = spec(1, 128, 2, 32), spec(1, 128, 2, 32), spec(1, 128, 2)
    operands = {"query": q, "key": q, "value": v, "decay": gate, "beta": gate}
    price, found = on_matrix("flopscan::gated_delta_rule", v, **operands, chunk_size=64)
    assert price.executed is not None and found == (0, price.executed.fma)
    assert on_matrix("flopscan::gated_delta_rule", v, **operands)[1] == (0, 0)


def test_a_composite_is_what_its_parts_are() -> None:
    from flopscan.rules import mamba_inner

    b, d, l, n, r, m = 1, 8, 16, 4, 2, 4
    operands = {
        "xz": spec(b, 2 * d, l), "conv1d_weight": spec(d, 1, 4), "conv1d_bias": spec(d),
        "x_proj_weight": spec(r + 2 * n, d), "delta_proj_weight": spec(d, r), "out_proj_weight": spec(m, d),
        "A": spec(d, n), "D": spec(d), "delta_bias": spec(d), "delta_softplus": True,
    }  # fmt: skip
    call = Call(mamba_inner.INNER, operands, (spec(b, l, m),))
    price = analysis.price_call(call)
    assert price.ideal is not None, price.note
    products = b * l * (d * (r + 2 * n) + r * d + d * m)
    assert analysis.on_matrix_units(call, price)[0] == products
    assert price.ideal.fma > products  # the convolution and the scan are not products


def test_without_the_rule_everything_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger priced with another package's rules: only the rule could say that something may not."""
    monkeypatch.setattr(rules, "find", lambda op: None)
    assert analysis.on_matrix_units(Call("their::op", {}), Price(Cost(fma=7), Cost(fma=9))) == (7, 9)


def test_a_wrong_word_is_refused() -> None:
    with pytest.raises(RuleError, match="matrix is 'all', 'executed' or ''; my::op has 'some'"):
        Rule(("my::op",), lambda: Cost(), matrix="some")

"""A ledger as if every floating tensor had another dtype, counted again: bytes follow, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flopscan import analysis
from flopscan.core.ledger import Ledger
from flopscan.core.trace import Call, TensorSpec

# How a number of each dtype is stored. TF32 is a way to compute with float32. Numbers of 8 bits take a byte, and are
# floating here even for int8, so that what a float model does is still counted as arithmetic.
STORED_AS: Mapping[str, str] = {
    "fp64": "float64", "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16",
    "fp8": "float8_e4m3fn", "int8": "float8_e4m3fn",
}  # fmt: skip
REPLACED = ("float64", "float32", "float16", "bfloat16")  # packed and complex numbers stay what they are


def recast(ledger: Ledger, dtype: str) -> Ledger:
    """``ledger`` priced again with every real floating tensor stored as ``dtype`` asks; integers stay."""
    stored = STORED_AS[dtype]
    calls = tuple(_recast_call(call, stored) for call in ledger.trace.calls)
    return analysis.price(replace(ledger.trace, calls=calls))


def _recast_call(call: Call, stored: str) -> Call:
    args = {name: _recast(value, stored) for name, value in call.args.items()}
    return Call(call.op, args, tuple(_recast(output, stored) for output in call.outputs))


def _recast(value: Any, stored: str) -> Any:
    if isinstance(value, TensorSpec):
        return replace(value, dtype=stored) if value.dtype in REPLACED else value
    if isinstance(value, (list, tuple)):
        return type(value)(_recast(item, stored) for item in value)
    return value

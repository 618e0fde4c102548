"""Arguments and inputs as the command line writes them: ``depth=12``, ``input_ids=1x128:int64``. Needs no torch."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from typing import Any

from flopscan.core.trace import TensorSpec
from flopscan.errors import UsageError

_FORM = re.compile(r"(?:(?P<name>[^=]*)=)?(?P<sizes>[^:=]*)(?::(?P<dtype>.*))?")
_SIZES = re.compile(r"\d+(x\d+)*")
_WORDS = {"true": True, "false": False}
DTYPES = (
    "float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool",
    "complex64", "complex128", "complex32", "uint16", "uint32", "uint64",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip


def options(texts: Iterable[str]) -> dict[str, Any]:
    """The arguments of a factory from ``key=value`` texts; a value is a Python literal, or else a string."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--arg {text!r} is not KEY=VALUE; write it as in --arg num_classes=10")
        if key in found:
            raise UsageError(f"--arg {key} is given twice ({found[key]!r} and {value!r}); keep one")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _WORDS.get(text, text)


def inputs(texts: Iterable[str]) -> tuple[tuple[TensorSpec, ...], dict[str, TensorSpec]]:
    """Inputs by position and by name from texts such as ``1x3x224x224``, ``ids=1x128:int64``, ``t=scalar:float32``."""
    args: list[TensorSpec] = []
    kwargs: dict[str, TensorSpec] = {}
    for text in texts:
        name, spec = _input(text)
        if name is None:
            args.append(spec)
        elif name in kwargs:
            raise UsageError(f"--input {name} is given twice; keep one")
        else:
            kwargs[name] = spec
    return tuple(args), kwargs


def _input(text: str) -> tuple[str | None, TensorSpec]:
    match = _FORM.fullmatch(text)
    sizes = match["sizes"] if match else ""
    if match is None or not (sizes == "scalar" or _SIZES.fullmatch(sizes)):
        what = f"{sizes!r} is not a shape" if sizes else "it has no shape"
        raise UsageError(
            f"--input {text!r}: {what}; expected sizes with an x between them and, if wanted, a name before and a dtype"
            " after, as in 1x3x224x224, input_ids=1x128:int64 or scale=scalar:float32"
        )
    if match["name"] is not None and not match["name"].isidentifier():
        raise UsageError(f"--input {text!r}: {match['name']!r} is not the name of an argument; write name=1x3x224x224")
    shape = () if sizes == "scalar" else tuple(map(int, sizes.split("x")))
    return match["name"], TensorSpec(shape, _dtype(match["dtype"], text))


def _dtype(name: str | None, text: str) -> str:
    if name is None:
        return "float32"
    name = name.removeprefix("torch.")
    if name not in DTYPES:
        near = difflib.get_close_matches(name, DTYPES, n=3) or DTYPES[:5]
        raise UsageError(f"--input {text!r}: {name!r} is not a dtype of torch; did you mean {' or '.join(near)}?")
    return name

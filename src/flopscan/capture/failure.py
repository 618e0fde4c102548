"""What a failed capture says: the operator, the module, the line, what was expected and what to do."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from flopscan.capture.attribution import Attribution, is_ours, short
from flopscan.errors import CaptureError, DataDependentError, FlopscanError, UsageError

RUN_IT = "count it while it really runs: `with flopscan.counting() as c: model(...)`, or --run on the command line"


@contextlib.contextmanager
def explained(engine: Any, attribution: Attribution, model: Any, inputs: Any) -> Iterator[None]:
    """Turn what the model raises into one sentence that says where and what to do, the original chained."""
    try:
        yield
    except DataDependentError as error:
        where = _where(error, attribution)
        raise DataDependentError(
            f"{where}: {error}; expected code that depends on shapes alone, since a shape-only count has no values;"
            f" pass the real tensor as input if it is small and integer, or {RUN_IT}"
        ) from error
    except FlopscanError:
        raise
    except TypeError as error:
        if _in_signature(error, model):
            raise UsageError(f"{_name(model)} does not take these inputs: {error}; got {_describe(inputs)}") from error
        raise CaptureError(_raised(error, engine, attribution, model, inputs)) from error
    except Exception as error:
        if "cannot be called on meta tensors" in str(error):
            where = _where(error, attribution)
            raise DataDependentError(f"{where}: the value of a shape-only tensor was asked for; {RUN_IT}") from error
        raise CaptureError(_raised(error, engine, attribution, model, inputs)) from error


def _raised(error: Exception, engine: Any, attribution: Attribution, model: Any, inputs: Any) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else ""
    where = _where(error, attribution)
    operator = ""
    if engine.last is not None and _deep_in_torch(error):
        operator = f" in {_op(engine.last)}"
    if isinstance(error, NotImplementedError) and any(word in str(error).lower() for word in ("meta", "fake impl")):
        op = _op(engine.last)
        return (
            f"{where}: {op} has no shape-only (meta) kernel; register one with torch.library.register_fake, or {RUN_IT}"
        )
    return (
        f"{where}: {_name(model)} raised {type(error).__name__}{operator}: {first};"
        f" the inputs were {_describe(inputs)}; check them against what the model expects"
    )


def _where(error: BaseException, attribution: Attribution) -> str:
    path = ""
    if attribution.failed_in is not None:
        module = attribution.recorder.modules[attribution.failed_in]
        path = f"module {module.path or '(the model)'} ({module.cls})" if module.cls else module.path
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not is_ours(frame.filename):
            line = f"{short(frame.filename)}:{frame.lineno}"
            return f"{path}, {line}" if path else line
    return path or "the model"


def _deep_in_torch(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and is_ours(frames[-1].filename)


def _in_signature(error: TypeError, model: Callable[..., Any]) -> bool:
    text = str(error)
    return "argument" in text and any(
        s in text for s in ("missing", "unexpected keyword", "positional", "multiple values")
    )


def _op(func: Any) -> str:
    name = getattr(getattr(func, "_schema", None), "name", None)
    return str(name or func)


def _name(model: Any) -> str:
    return getattr(model, "__name__", None) or type(model).__name__


def _describe(inputs: Any) -> str:
    args, kwargs = inputs
    parts = [_short(a) for a in args] + [f"{k}={_short(v)}" for k, v in kwargs.items()]
    return f"({', '.join(parts)})" if parts else "none at all"


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype)[6:]}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_short(v) for v in value)}]"
    text = repr(value)
    return text if len(text) < 40 else f"{text[:37]}..."

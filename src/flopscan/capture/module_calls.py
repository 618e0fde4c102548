"""Calls of modules as envelopes: what class was called, on what shapes, with what settings and parameters.

Nothing here is priced: it is what counters see that hook modules.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from flopscan.capture import written
from flopscan.capture.operators import describe, outputs_of, plain
from flopscan.capture.recorder import Recorder
from flopscan.core.trace import Call

_unwatched = torch._C.DisableTorchFunction  # a look at a shape goes through every function mode otherwise
_PLAIN = {bool, int, float, str, type(None)}
_NOT_A_SETTING = object()
_WRITTEN = {function: name for function, (name, _, _) in written.functions().items()}


class ModuleCalls:
    """The distinct module calls of a capture, kept by module and by the shapes of its operands."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._by_operands: dict[Any, int] = {}
        self._by_content: dict[Any, int] = {}

    def index(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> int:
        """The index of the call that is about to be made."""
        with _unwatched():
            operands: list[Any] = [module.training]
            for a in (*args, *kwargs.values()) if kwargs else args:
                operands.append(_look(a))
            key = (id(module), *operands)
            found = self._by_operands.get(key)
            if found is None:
                found = self._by_operands[key] = self._new(module, args, kwargs, tuple(operands))
        return found

    def returned(self, index: int, output: Any) -> None:
        """Keep the shapes of the results of a call."""
        call = self._recorder.calls[index]
        if not call.outputs:
            with _unwatched():
                outputs = outputs_of(output)
            self._recorder.calls[index] = Call(call.op, call.args, outputs)

    def _new(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], operands: tuple[Any, ...]) -> int:
        """The call of a module that was not yet called on such operands; twins share one."""
        own = [(n, p) for n, p in module._parameters.items() if _has_shape(p)]
        settings = _settings(module)
        content = (module.__class__, settings, tuple((n, p.shape, p.dtype, p.requires_grad) for n, p in own), operands)
        found = self._by_content.get(content)
        if found is None:
            found = self._by_content[content] = self._recorder.call(_call(module, args, kwargs, settings, own))
        return found


def _call(module: nn.Module, args: Any, kwargs: Mapping[str, Any], settings: Any, own: Any) -> Call:
    """The call as data: ``settings`` are what the constructor kept, ``parameters`` the module's own."""
    cls = type(module)
    return Call(
        f"module::{cls.__module__}.{cls.__qualname__}",
        {
            "operands": tuple(plain(a) for a in args if _is_operand(a)),
            "named": tuple((k, plain(v)) for k, v in kwargs.items() if _is_operand(v)),
            "settings": settings,
            "parameters": tuple((name, describe(p), p.requires_grad) for name, p in own),
            "leaf": not module._modules,
            "bases": tuple(c.__name__ for c in cls.__mro__[:-2] if c.__module__.startswith("torch.nn.modules")),
        },
    )


def _look(operand: Any) -> Any:
    """What tells an operand from another, quickly: shape and dtype of tensors, also in a list or a packed sequence."""
    if isinstance(operand, Tensor):
        return operand.shape, operand.dtype
    if isinstance(operand, (tuple, list)):
        return operand.__class__, *(_look(item) for item in operand)
    return operand.__class__


def _settings(module: nn.Module) -> tuple[tuple[str, Any], ...]:
    """What the constructor kept, by name."""
    found: list[tuple[str, Any]] = []
    for name, value in module.__dict__.items():
        if name[0] != "_":
            if value.__class__ in _PLAIN:
                found.append((name, value))
            elif (kept := _setting(value)) is not _NOT_A_SETTING:
                found.append((name, kept))
    return tuple(found)


def _setting(value: Any) -> Any:
    """``value`` if it is plain, a function of torch by its name: who patches torch later does not see it called."""
    if value.__class__ in _PLAIN or (value.__class__ is tuple and _is_plain(value)):
        return value
    if isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return _WRITTEN.get(value, _NOT_A_SETTING)
    return _NOT_A_SETTING


def _is_operand(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(isinstance(v, Tensor) for v in value)
    return isinstance(value, Tensor) or value.__class__ in _PLAIN


def _is_plain(values: tuple[Any, ...]) -> bool:
    return _PLAIN.issuperset(map(type, values))


def _has_shape(parameter: Any) -> bool:
    return parameter is not None and not isinstance(parameter, nn.parameter.UninitializedTensorMixin)

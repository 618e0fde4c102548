"""Functions as the user wrote them, seen above the dispatcher: what the dispatcher would show only in pieces.

Three kinds: leaves become one operator on every backend (attention); envelopes are recorded beside their pieces, for
conventions that count functions and not operators; readers ask for values (`.tolist()`, `.numpy()`).
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from flopscan.capture import cuda, shadow, written
from flopscan.capture.engine import key_of
from flopscan.capture.operators import outputs_of, plain
from flopscan.capture.recorder import Recorder
from flopscan.core.trace import Call
from flopscan.errors import DataDependentError

_ENVELOPES = written.functions()
_READERS = {Tensor.numpy: "numpy", Tensor.tolist: "tolist", Tensor.__array__: "__array__"}


class FunctionWatch(TorchFunctionMode):
    """Watches function calls while an engine watches operators."""

    def __init__(self, recorder: Recorder, engine: Any, *, shapes: bool) -> None:
        super().__init__()
        self._shapes = shapes
        self.recorder = recorder
        self.engine = engine
        self._envelopes: dict[Any, int] = {}
        self._watched: dict[Any, Callable[..., Any]] = {
            **{f: self._envelope(f, *names) for f, names in _ENVELOPES.items()},
            **{f: self._reader(f, name) for f, name in _READERS.items()},
            F.scaled_dot_product_attention: engine.attention,
            F.multi_head_attention_forward: self._opened(F.multi_head_attention_forward),
            **(cuda.WATCHED if shapes else {}),
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        watched = self._watched.get(func)
        if watched is not None:
            return watched(*args, **(kwargs or {}))
        if self._shapes and kwargs and cuda.is_cuda(kwargs.get("device")):
            args, kwargs = cuda.redirected(args, kwargs)
        return func(*args, **kwargs) if kwargs else func(*args)

    def _envelope(self, function: Any, name: str, operands: tuple[str, ...], spelled: str) -> Callable[..., Any]:
        recorder, where = self.recorder, self.engine.attribution.where
        silent = None if self._shapes else self.engine.silent
        may_be_operator, seen = written.may_be_operator(name, spelled), written.is_seen_as_operator(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if silent is not None and silent():
                return function(*args, **kwargs)
            sign = may_be_operator and written.by_sign(sys._getframe(2))
            if sign and not seen:
                return function(*args, **kwargs)
            key = key_of((function, sign), args, kwargs)
            index = self._envelopes.get(key) if key is not None else None
            if index is None:
                named = {**dict(zip(operands, args, strict=False)), **kwargs}
                if name == "torch::einsum":
                    named = {"equation": args[0], "operands": args[1:]}
                data = {k: plain(v) for k, v in named.items() if v is not None}
                data["spelled"] = "operator" if sign else spelled
                index = recorder.call(Call(name, data))
                if key is not None:
                    self._envelopes[key] = index
            before = recorder.enter(index, *where())
            try:
                output = function(*args, **kwargs)
            finally:
                recorder.leave(before)
            known = recorder.calls[index]
            if not known.outputs:
                recorder.calls[index] = Call(name, known.args, outputs_of(output))
            return output

        return call

    def _reader(self, function: Any, name: str) -> Callable[..., Any]:
        def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not tensor.is_meta:
                return function(tensor, *args, **kwargs)
            real = shadow.value(tensor)
            if real is None:
                shape = ", ".join(map(str, tensor.shape))
                raise DataDependentError(
                    f"the values of a shape-only tensor were asked for (.{name}() of {str(tensor.dtype)[6:]}[{shape}])"
                )
            return function(real, *args, **kwargs)

        return read

    def _opened(self, function: Any) -> Callable[..., Any]:
        """``function`` as if no mode were on, so that the functions it calls are watched in turn."""
        names = {**function.__globals__, "has_torch_function": lambda *_: False}
        body = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
        body.__kwdefaults__ = function.__kwdefaults__

        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return body(*args, **kwargs)

        return call

"""The shape-only engine: runs a model on meta tensors and records every operator that it dispatches.

Fast because an operator's outputs depend on its operands' shapes alone: they are computed once per distinct call
(`shapes.py` answers the common ones without torch's Python meta kernels, which take 0.1 to 1.6 ms each) and made from
the cache afterwards. Truthful because small integer tensors carry their real values (`shadow.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from flopscan.capture import shadow, shapes
from flopscan.capture.attribution import Attribution
from flopscan.capture.operators import Does, Operator, call_of
from flopscan.capture.recorder import Recorder
from flopscan.errors import DataDependentError

_empty_strided = torch.empty_strided
_OPERATORS: dict[Any, Operator] = {}
_META = torch.device("meta")


def operator_of(func: Any) -> Operator:
    """What the engine knows of ``func``, kept for the life of the process."""
    known = _OPERATORS.get(func)
    if known is None:
        known = _OPERATORS[func] = Operator(func)
    return known


def key_of(func: Any, args: Any, kwargs: Any) -> tuple[Any, ...] | None:
    """A hashable key of a call: the operator, shapes, strides, dtypes, scalars with types; None if there is no such."""
    parts: list[Any] = [func]
    try:
        for a in args:
            cls = a.__class__
            if cls is Tensor or cls is Parameter:
                parts += (a.size(), a.stride(), a.dtype)
            elif cls is list or cls is tuple:
                parts.append(len(a))
                for b in a:
                    parts += (b.size(), b.stride(), b.dtype) if isinstance(b, Tensor) else (b.__class__, b)
            elif isinstance(a, Tensor):
                parts += (cls, a.size(), a.stride(), a.dtype)
            else:
                parts += (cls, a)
        if kwargs:
            for name, a in kwargs.items():
                parts += (name, (a.size(), a.stride(), a.dtype) if isinstance(a, Tensor) else a, a.__class__)
        key = tuple(parts)
        hash(key)
    except (TypeError, RuntimeError):  # an operand cannot be hashed, or has no strides (a sparse tensor)
        return None
    return key


class ShapeEngine(TorchDispatchMode):
    """Records what is dispatched, answering with meta tensors."""

    supports_higher_order_operators = True

    def __init__(self, recorder: Recorder, attribution: Attribution) -> None:
        super().__init__()
        self.recorder = recorder
        self.attribution = attribution
        self.last: Any = None  # the operator that ran last, for error texts
        self._cache: dict[Any, tuple[Any, int]] = {}
        self._bare: dict[Any, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.last = func
        operator = _OPERATORS.get(func)
        if operator is None:
            if isinstance(func, torch._ops.HigherOrderOperator):
                return self._higher_order(func, args, kwargs or {})
            operator = operator_of(func)
        does = operator.does
        if does is Does.COMPUTE or does is Does.MUTATE:
            for first in args:
                if first.__class__ is Tensor or first.__class__ is Parameter:
                    break
            else:
                first = None
            if first is None or not first.is_meta or "_flopscan_shadow" in first.__dict__ or does is Does.MUTATE:
                return self._careful(func, operator, args, kwargs or {})
            return self._compute(func, operator, args, kwargs)
        if does is Does.VIEW:
            return self._view(func, operator, args, kwargs or {})
        if does is Does.CREATE:
            return self._create(func, operator, args, kwargs or {})
        if does is Does.READ:
            return self._read(func, operator, args)
        return self._other(func, operator, args, kwargs or {})

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import its compiler (a second) only to switch it off around every call."""
        return False

    def record(self, call: int) -> None:
        """Count one more call ``call`` from where the code is now."""
        module, phase = self.attribution.where()
        line = self.attribution.line() if self.attribution.lines else -1
        self.recorder.add(call, module, phase, line)

    def _compute(self, func: Any, operator: Operator, args: Any, kwargs: Any) -> Any:
        """Fresh outputs that depend on shapes alone: from the cache, or computed once."""
        key = key_of(func, args, kwargs)
        found = self._cache.get(key) if key is not None else None
        if found is None:
            args, kwargs = _all_on_meta(args, kwargs or {})
            guess = shapes.guess(func, operator, args, kwargs) if key is not None else None
            if guess is None:
                output = func(*args, **kwargs)
                layout = _layout(output)
            else:
                layout = guess
                output = _make(layout)
            index = self.recorder.call(call_of(operator, args, kwargs, output, bare=False))
            if key is not None and layout is not None:
                self._cache[key] = (layout, index)
            self.record(index)
            return output
        layout, index = found
        self.record(index)
        if layout.__class__ is tuple:
            return _empty_strided(layout[0], layout[1], dtype=layout[2], device=_META)
        return _make(layout)

    def _careful(self, func: Any, operator: Operator, args: Any, kwargs: Any) -> Any:
        """An operator whose operands may have known values, or that writes one of them."""
        tensors = _tensors(args, kwargs)
        known = bool(tensors) and all(shadow.value(t) is not None for t in tensors) and not operator.random
        if operator.does is Does.MUTATE:
            return self._mutate(func, operator, args, kwargs, known)
        if not known:
            return self._compute(func, operator, args, kwargs)
        real = func(*shadow.real_tree(args), **_on_cpu(shadow.real_tree(kwargs)))
        output = _shadowed(real) if any(t.is_meta for t in tensors) else real
        self.record(self._intern(func, operator, args, kwargs, output))
        return output

    def _mutate(self, func: Any, operator: Operator, args: Any, kwargs: Any, known: bool) -> Any:
        target = args[0]
        if not target.is_meta and not known:
            if any(t.is_meta for t in _tensors(args[1:], kwargs)):
                raise DataDependentError(
                    f"{operator.name}: a shape-only value is written into a tensor that lives on"
                    f" {target.device} with its values ({'x'.join(map(str, target.shape))}); expected a tensor made"
                    " inside the forward, or a registered parameter or buffer; register it with register_buffer"
                )
            known = True
        if known:
            func(*shadow.real_tree(args), **shadow.real_tree(kwargs))
        else:
            shadow.forget(target)
        self.record(self._intern(func, operator, args, kwargs, target))
        return target

    def _intern(self, func: Any, operator: Operator, args: Any, kwargs: Any, output: Any, *, bare: bool = False) -> int:
        """The index of a call whose outputs are made elsewhere."""
        key: Any
        if bare:
            first = args[0] if args and isinstance(args[0], Tensor) else None
            out = output if isinstance(output, Tensor) else None
            key = (func, first is not None and (first.size(), first.dtype), out is not None and out.size())
        else:
            key = key_of(func, args, kwargs)
        index = self._bare.get(key) if key is not None else None
        if index is None:
            index = self.recorder.call(call_of(operator, args, kwargs, output, bare=bare))
            if key is not None:
                self._bare[key] = index
        return index

    def _view(self, func: Any, operator: Operator, args: Any, kwargs: Any) -> Any:
        base = args[0] if args else None
        if operator.name == "aten::lift_fresh" and not base.is_meta:  # torch.tensor(...): a constant
            output = _shadowed(base)
        else:
            output = func(*args, **kwargs)
            real = shadow.value(base) if isinstance(base, Tensor) and base.is_meta else None
            if real is not None:
                views = func(shadow.real_tree(args[0]), *shadow.real_tree(args[1:]), **_on_cpu(kwargs))
                _attach(output, views, shadow.token(base))
        self.record(self._intern(func, operator, args, kwargs, output, bare=True))
        return output

    def _create(self, func: Any, operator: Operator, args: Any, kwargs: Any) -> Any:
        kwargs = {**kwargs, "device": _META} if "device" in operator.names else kwargs
        kwargs.pop("pin_memory", None)
        if operator.random or "empty" in operator.name:  # no values that anybody could know
            return self._compute(func, operator, args, kwargs)
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            limit = shadow.LIMIT_FLOAT if output.is_floating_point() or output.is_complex() else shadow.LIMIT
            if output.numel() <= limit:
                shadow.attach(output, func(*args, **_on_cpu(kwargs)))
        self.record(self._intern(func, operator, args, kwargs, output))
        return output

    def _read(self, func: Any, operator: Operator, args: Any) -> Any:
        for tensor in _tensors(args, {}):
            if shadow.value(tensor) is None:
                how = "torch.equal" if operator.name == "aten::equal" else ".item(), bool(), int() or float()"
                shape = ", ".join(map(str, tensor.shape))
                raise DataDependentError(
                    f"the value of a shape-only tensor was asked for ({how} of {str(tensor.dtype)[6:]}[{shape}])"
                )
        return func(*shadow.real_tree(args))

    def _other(self, func: Any, operator: Operator, args: Any, kwargs: Any) -> Any:
        tensors = _tensors(args, kwargs)
        known = bool(tensors) and all(shadow.value(t) is not None for t in tensors) and not operator.random
        if operator.dynamic:
            if not known and operator.name == "aten::index":
                return self._index(func, operator, args)
            if not known:
                raise DataDependentError(f"the shape of the result of {operator.name} depends on values")
            output = _shadowed(func(*shadow.real_tree(args), **_on_cpu(shadow.real_tree(kwargs))))
        else:
            args, kwargs = _all_on_meta(args, kwargs)
            output = func(*args, **kwargs)
            for tensor in tensors:
                shadow.forget(tensor)
        self.record(self._intern(func, operator, args, kwargs, output))
        return output

    def _index(self, func: Any, operator: Operator, args: Any) -> Any:
        """``x[i, mask]``: a mask whose values are known stands for the positions that it selects."""
        indices: list[Any] = []
        for index in args[1]:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                indices.append(index)
                continue
            real = shadow.value(index)
            if real is None:
                raise DataDependentError("the shape of the result of indexing by a mask depends on values")
            indices += [_shadowed(positions) for positions in real.nonzero(as_tuple=True)]
        return self._compute(func, operator, (args[0], indices), {})

    def _higher_order(self, func: Any, args: Any, kwargs: Any) -> Any:
        from flopscan.capture import control

        return control.dispatched(self, func, args, kwargs)


def _tensors(args: Any, kwargs: Any) -> list[Tensor]:
    found = []
    for a in (*args, *kwargs.values()):
        if isinstance(a, Tensor):
            found.append(a)
        elif isinstance(a, (list, tuple)):
            found += [b for b in a if isinstance(b, Tensor)]
    return found


def _all_on_meta(args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Operands with every tensor that lives elsewhere replaced by one of its shape, and devices by meta."""

    def move(a: Any) -> Any:
        if isinstance(a, Tensor):
            return a if a.is_meta or a.dim() == 0 else shadow.on_meta(a, known=False)
        if isinstance(a, (list, tuple)):
            return type(a)(move(b) for b in a)
        return a

    kwargs = {k: _META if k == "device" and v is not None else move(v) for k, v in kwargs.items()}
    return tuple(move(a) for a in args), kwargs


def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.device("cpu") if k == "device" and v is not None else v for k, v in kwargs.items()}


def _shadowed(real: Any) -> Any:
    """Meta tensors of the shapes of ``real``, with its values."""
    if isinstance(real, Tensor):
        meta = _empty_strided(real.size(), real.stride(), dtype=real.dtype, device=_META)
        return shadow.attach(meta, real)
    if isinstance(real, (list, tuple)):
        return type(real)(_shadowed(r) for r in real)
    return real


def _attach(output: Any, real: Any, token: list[bool] | None) -> None:
    if isinstance(output, Tensor) and isinstance(real, Tensor):
        shadow.attach(output, real, token)
    elif isinstance(output, (list, tuple)):
        for o, r in zip(output, real, strict=True):
            _attach(o, r, token)


def _layout(output: Any) -> Any:
    """(size, stride, dtype) of a tensor, a list of such for several results, None where it cannot be made again."""
    if isinstance(output, Tensor):
        if type(output) is not Tensor or output.layout is not torch.strided:
            return None
        return (output.size(), output.stride(), output.dtype)
    if isinstance(output, (list, tuple)):
        layouts = [_layout(o) if isinstance(o, Tensor) else [o] for o in output]
        return None if any(x is None for x in layouts) else layouts
    return None


def _make(layout: Any) -> Any:
    if layout.__class__ is tuple:
        return _empty_strided(layout[0], layout[1], dtype=layout[2], device=_META)
    return [_empty_strided(x[0], x[1], dtype=x[2], device=_META) if x.__class__ is tuple else x[0] for x in layout]

"""Leaves: a call of a package's function recorded as the one operator that it is, on shapes or around a real run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from flopscan.capture.engine import ShapeEngine
from flopscan.capture.operators import plain
from flopscan.core.composite import Parts
from flopscan.core.seam import Seam
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError, FlopscanError


class Recording:
    """What takes the calls while a capture runs: the engine, and the distinct calls that it has seen."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.runs = not isinstance(engine, ShapeEngine)
        self._calls: dict[Any, int] = {}

    def record(self, call: Call, parts: Parts | None = None) -> None:
        """Count one more ``call`` from where the code is now; with ``parts``, these, and the call around them.

        Operands that do not fit together have no parts: the call itself is then there to say so.
        """
        try:
            found = parts(call) if parts else None
        except ContractError:
            found = None
        if found is None:
            self.engine.record(self._index(call))
            return
        with self.inside(call):
            for part in found:
                self.engine.record(self._index(part))

    @contextlib.contextmanager
    def inside(self, call: Call) -> Iterator[None]:
        """What is recorded inside is made in ``call``, which is an envelope."""
        recorder = self.engine.recorder
        before = recorder.enter(self._index(call), *self.engine.attribution.where())
        try:
            yield
        finally:
            recorder.leave(before)

    def _index(self, call: Call) -> int:
        key = (call.op, repr(call.args), call.outputs)
        if key not in self._calls:
            self._calls[key] = self.engine.recorder.call(call)
        return self._calls[key]


class Unrecorded:
    """In the place of a recording where nobody counts: shapes are answered, and that is all."""

    runs = False

    def record(self, *call: Any) -> None:
        """Nothing."""


Taker = Recording | Unrecorded
_active: list[Recording] = []


def active() -> Recording | None:
    """The recording of the capture that is going on, the innermost one."""
    return _active[-1] if _active else None


@contextlib.contextmanager
def recording(engine: Any) -> Iterator[None]:
    """Inside, calls of seams are recorded by ``engine``."""
    _active.append(Recording(engine))
    try:
        yield
    finally:
        _active.pop()


def on_shapes(args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a tensor operand is shape-only."""
    return any(isinstance(a, Tensor) and a.is_meta for a in (*args, *kwargs.values()))


def operands_of(seam: Seam, bound: Mapping[str, Any]) -> dict[str, Any]:
    """The operands as the trace has them: plain data, named as the rule names them, absent ones left out.

    ``callee`` is the path of the seam: a counter may see into one function that computes the operator, not another.
    """
    named = seam.named({name: plain(value) for name, value in bound.items()})
    return {**{name: value for name, value in named.items() if value is not None}, "callee": seam.path}


def numbered(args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The operands of a callee whose parameters nobody knows."""
    return {k: plain(v) for k, v in ({f"arg{i}": a for i, a in enumerate(args)} | dict(kwargs)).items()}


def gradients(operands: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """The results of a gradient operator: one for each floating-point operand but ``grad``."""
    return tuple(v for k, v in operands.items() if k != "grad" and isinstance(v, TensorSpec) and v.is_float)


def answered(taker: Taker, seam: Seam, bound: dict[str, Any]) -> Any:
    """What the callee would return, on shapes, after recording the call."""
    call, outputs = call_of(seam, bound)
    tensors = [name for name, value in bound.items() if isinstance(value, Tensor)]
    if seam.backward is None:
        return _made(taker, seam, call, outputs)
    return Leaf.apply(taker, seam, call, outputs, *(bound[name] for name in tensors))


def ran(taker: Recording, seam: Seam, bound: dict[str, Any], run: Callable[[], Any]) -> Any:
    """What ``run`` returns, recorded as the operator of ``seam``, its pieces muted."""
    operands = operands_of(seam, bound)

    def gradient(output: tuple[TensorSpec, ...]) -> Call | None:
        named = {"grad": output[0], **operands}
        return Call(seam.backward, named, gradients(named)) if seam.backward else None

    return taker.engine.leaf(run, seam.op, operands, results=seam.results, gradient=gradient)


def call_of(seam: Seam, bound: Mapping[str, Any]) -> tuple[Call, Any]:
    """The call of the operator of ``seam``, and the specs of all that the callee returns. Raises FlopscanError."""
    try:
        operands = operands_of(seam, bound)
        outputs = seam.outputs({name: plain(value) for name, value in bound.items()})
    except (AttributeError, TypeError, LookupError, ValueError) as error:
        given = ", ".join(f"{name}={plain(value)}" for name, value in bound.items() if value is not None)
        raise FlopscanError(f"{seam.path}: these operands have no result ({error}); got {given}") from error
    specs = (outputs,) if isinstance(outputs, TensorSpec) else outputs
    return Call(seam.op, operands, tuple(s for s in specs[: seam.results] if s is not None)), outputs


def _made(taker: Taker, seam: Seam, call: Call, outputs: Any) -> Any:
    taker.record(call, seam.parts)
    if isinstance(outputs, TensorSpec):
        return _empty(outputs)
    return tuple(None if s is None else _empty(s) for s in outputs)


def _empty(spec: TensorSpec) -> Tensor:
    """A shape-only tensor, made unseen."""
    with torch._C._DisableTorchDispatch():  # type: ignore[attr-defined]
        dtype = getattr(torch, spec.dtype)
        if spec.strides is None:
            return torch.empty(spec.shape, dtype=dtype, device="meta")
        return torch.empty_strided(spec.shape, spec.strides, dtype=dtype, device="meta")


class Leaf(torch.autograd.Function):
    """One operator forward, one backward."""

    @staticmethod
    def forward(ctx: Any, taker: Taker, seam: Seam, call: Call, outputs: Any, *tensors: Tensor) -> Any:
        """The empty outputs; those after the first have no gradient."""
        made = _made(taker, seam, call, outputs)
        first, *others = (made,) if isinstance(made, Tensor) else made
        ctx.mark_non_differentiable(*(t for t in others if t is not None))
        ctx.set_materialize_grads(False)
        ctx.call = taker, seam, {"grad": plain(first), **call.args}
        ctx.specs = [plain(t) for t in tensors]
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> Any:
        """Empty gradients of the operands that need one."""
        nothing = (None,) * 4
        if grad is None:
            return (*nothing, *(None for _ in ctx.specs))
        taker, seam, operands = ctx.call
        taker.record(Call(seam.backward, operands, gradients(operands)), seam.backward_parts)
        needs = ctx.needs_input_grad[4:]
        return (*nothing, *(_empty(s) if need else None for s, need in zip(ctx.specs, needs, strict=True)))

"""The running route: count what really executes, on whatever device, without changing any result."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from flopscan.capture import attention, control, extensions, triton
from flopscan.capture.attribution import Attribution
from flopscan.capture.borrow import borrowed
from flopscan.capture.build import not_compiled, same_random_state
from flopscan.capture.ends import elements, leaves
from flopscan.capture.engine import key_of, operator_of
from flopscan.capture.failure import explained
from flopscan.capture.functions import FunctionWatch
from flopscan.capture.inputs import materialize
from flopscan.capture.operators import Does, call_of, outputs_of, plain
from flopscan.capture.recorder import Recorder
from flopscan.capture.seams import installed
from flopscan.capture.shape_only import differentiate
from flopscan.core.seam import Seam
from flopscan.core.trace import Call, TensorSpec, Trace

ROUTE = "running"
_VERSION = tuple(int(n) for n in torch.__version__.split(".")[:2])


class RunningEngine(TorchDispatchMode):
    """Records what is dispatched and lets it run."""

    supports_higher_order_operators = True

    def __init__(self, recorder: Recorder, attribution: Attribution) -> None:
        super().__init__()
        self.recorder = recorder
        self.attribution = attribution
        self.last: Any = None
        self._calls: dict[Any, int] = {}
        self._muted = 0
        self._regions: list[tuple[int, int, int]] = []  # autograd numbers [first, last) made inside a leaf, its call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.last = func
        if isinstance(func, torch._ops.HigherOrderOperator):
            return control.dispatched(self, func, args, kwargs)
        output = func(*args, **kwargs)
        if not self._muted and not self._in_region():
            operator = operator_of(func)
            bare = operator.does is Does.VIEW
            key = key_of(func, args[:1] if bare else args, {} if bare else kwargs)
            index = self._calls.get(key) if key is not None else None
            if index is None:
                index = self.recorder.call(call_of(operator, args, kwargs, output, bare=bare))
                if key is not None:
                    self._calls[key] = index
            self.record(index)
        return output

    def record(self, call: int) -> None:
        """Count one more call ``call`` from where the code is now."""
        module, phase = self.attribution.where()
        line = self.attribution.line() if self.attribution.lines else -1
        self.recorder.add(call, module, phase, line)

    def attention(self, *args: Any, **kwargs: Any) -> Any:
        """Run scaled-dot-product attention with its pieces muted, and record it as the one operator that it is."""
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        given.pop("scale", None)
        defaults = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "enable_gqa": False}
        operands = {k: plain(v) for k, v in {**defaults, **given}.items() if v is not None}

        def gradient(output: tuple[TensorSpec, ...]) -> Call:
            grads = tuple(plain(given[n]) for n in names[:3] if n in given)
            needs = tuple(n in given and getattr(given[n], "requires_grad", False) for n in names[:4])
            return Call(attention.BACKWARD, {"grad": output[0], **operands, "needs": needs}, grads)

        return self.leaf(
            lambda: F.scaled_dot_product_attention(*args, **kwargs), attention.FORWARD, operands, gradient=gradient
        )

    def leaf(
        self,
        run: Callable[[], Any],
        op: str,
        operands: Mapping[str, Any],
        *,
        results: int | None = None,
        gradient: Callable[[tuple[TensorSpec, ...]], Call | None],
    ) -> Any:
        """What ``run`` returns, its pieces muted, recorded as the one operator ``op``; so is its gradient, if any.

        ``results``: how many of the outputs are the operator's own; ``gradient`` makes the gradient's call from them.
        """
        if self._muted or self._in_region():
            return run()
        first = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
        self._muted += 1
        try:
            output = run()
        finally:
            self._muted -= 1
        last = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
        outputs = outputs_of(output)[:results]
        key = (op, repr(operands), outputs)
        if key not in self._calls:
            self._calls[key] = self.recorder.call(Call(op, operands, outputs))
        self.record(self._calls[key])
        if last > first and any(t.requires_grad for t in leaves(output)):
            call = gradient(outputs)
            if call is not None:
                self._regions.append((first, last, self.recorder.call(call)))
        return output

    def _in_region(self) -> bool:
        """Whether this is backward work of a leaf; its first operator stands for all of it."""
        if not self._regions:
            return False
        node = torch._C._current_autograd_node()  # type: ignore[attr-defined]
        if node is None:
            return False
        number = node._sequence_nr()
        for i, (first, last, call) in enumerate(self._regions):
            if first <= number < last:
                if call >= 0:
                    self.record(call)
                    self._regions[i] = (first, last, -1)
                return True
        return False


class Counting:
    """Count what runs between enter and exit: ``trace`` is what was seen, ``report`` its price."""

    def __init__(
        self,
        root: Any = None,
        *,
        lines: bool = False,
        origin: Mapping[str, Any] | None = None,
        seams: Sequence[Seam] = (),
    ) -> None:
        self._recorder = Recorder()
        self._seams = seams
        self.attribution = Attribution(self._recorder, root, lines=lines)
        self.engine = RunningEngine(self._recorder, self.attribution)
        self._origin = {"target": "code that ran", **(origin or {}), "route": ROUTE}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Counting:
        if _VERSION < (2, 9):  # there a checkpoint imports the compiler, which computes with tensors
            importlib.import_module("torch._dynamo")
        with contextlib.ExitStack() as stack:
            stack.enter_context(not_compiled())
            stack.enter_context(self.attribution.watching())
            stack.enter_context(control.intercepted(self.engine))
            stack.enter_context(installed(self._seams, self.engine))
            stack.enter_context(extensions.guarded(frozenset((s.module, s.attribute) for s in self._seams)))
            stack.enter_context(triton.watched(self.engine))
            stack.enter_context(self.engine)
            stack.enter_context(FunctionWatch(self._recorder, self.engine, shapes=False))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    @property
    def trace(self) -> Trace:
        """What was seen so far."""
        return self._recorder.trace(self.attribution.params(), self._origin)


def trace(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    backward: bool = False,
    training: bool | None = None,
    lines: bool = False,
    origin: Mapping[str, Any] | None = None,
    seams: Sequence[Seam] = (),
) -> Trace:
    """The trace of one real run of ``model``; parameters, buffers, gradients, mode and random state are put back."""
    root = model if isinstance(model, torch.nn.Module) else None
    inputs = (
        tuple(materialize(a, device="cpu") for a in args),
        {k: materialize(v, device="cpu") for k, v in kwargs.items()},
    )
    counting = Counting(root, lines=lines, origin=origin, seams=seams)
    with contextlib.ExitStack() as stack:
        stack.enter_context(same_random_state())
        stack.enter_context(torch.enable_grad() if backward else torch.no_grad())
        if root is not None:
            stack.enter_context(borrowed(root, training=training, gradients=backward, shapes=False))
        stack.enter_context(explained(counting.engine, counting.attribution, model, inputs))
        stack.enter_context(counting)
        output = model(*inputs[0], **inputs[1])
        held = elements(model, inputs, output)
        if backward:
            differentiate(output)
    seen = counting.trace
    return replace(seen, origin={**seen.origin, "held": held})

"""The shape-only route: a model and its inputs in, a Trace out, nothing computed and nothing changed."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from flopscan.capture import attention, control, cuda, extensions, triton
from flopscan.capture.attribution import Attribution
from flopscan.capture.borrow import borrowed
from flopscan.capture.build import not_compiled, same_random_state
from flopscan.capture.ends import elements, leaves
from flopscan.capture.engine import ShapeEngine
from flopscan.capture.failure import explained
from flopscan.capture.functions import FunctionWatch
from flopscan.capture.inputs import materialize
from flopscan.capture.recorder import Recorder
from flopscan.capture.seams import installed
from flopscan.core.seam import Seam
from flopscan.core.trace import Trace
from flopscan.errors import CaptureError

ROUTE = "shape-only"


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
    """The trace of ``model(*args, **kwargs)`` on shapes; with ``backward`` also of the gradient of its outputs' sum."""
    recorder = Recorder()
    root = model if isinstance(model, nn.Module) else None
    guests = contextlib.ExitStack()  # modules that a function brings along: borrowed when they are first called

    def adopt(module: nn.Module) -> None:
        guests.enter_context(borrowed(module, training=training, gradients=backward))

    attribution = Attribution(recorder, root, lines=lines, adopt=adopt)
    engine = ShapeEngine(recorder, attribution)
    engine.attention = attention.shape_only
    inputs = tuple(materialize(a) for a in args), {k: materialize(v) for k, v in kwargs.items()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_garbage_collection())
        stack.enter_context(same_random_state())
        stack.enter_context(not_compiled())
        stack.enter_context(_gradients(backward))
        if root is not None:
            stack.enter_context(borrowed(root, training=training, gradients=backward))
        stack.enter_context(guests)
        stack.enter_context(explained(engine, attribution, model, inputs))
        stack.enter_context(attribution.watching())
        stack.enter_context(control.intercepted(engine))
        stack.enter_context(installed(seams, engine))
        stack.enter_context(extensions.guarded(frozenset((s.module, s.attribute) for s in seams)))
        stack.enter_context(triton.watched(engine))
        stack.enter_context(cuda.answered())
        stack.enter_context(engine)
        with FunctionWatch(recorder, engine, shapes=True):
            output = model(*inputs[0], **inputs[1])
        held = elements(model, inputs, output)
        if backward:
            differentiate(output)
    return recorder.trace(attribution.params(), {**(origin or {}), "route": ROUTE, "held": held})


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Inside, Python does not look for cycles: in a process with large libraries one look takes up to 0.1 s."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _gradients(wanted: bool) -> Iterator[None]:
    with torch.enable_grad() if wanted else torch.no_grad():
        yield


def differentiate(output: Any) -> None:
    """Backpropagate ones into every floating-point output that has a gradient."""
    tensors = [t for t in leaves(output) if t.requires_grad and (t.is_floating_point() or t.is_complex())]
    if not tensors:
        raise CaptureError(
            "backward was asked for, but no output has a gradient; expected one that depends on a parameter, or on an"
            " input, with requires_grad=True (a shape has none: give torch.empty(..., requires_grad=True))"
        )
    scalars = [t for t in tensors if t.dim() == 0]
    roots = scalars[:1] or tensors  # a loss among the outputs is what training differentiates
    torch.autograd.backward(roots, [torch.empty_like(t) for t in roots])

"""The calls that people make: `count`, `counting`, `shape`."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flopscan import analysis, rules
from flopscan.core.trace import TensorSpec, Trace
from flopscan.errors import IncompleteError, UsageError
from flopscan.report import report as reports
from flopscan.report.report import Report


def shape(*sizes: int, dtype: str = "float32") -> TensorSpec:
    """An input by its shape: ``flopscan.shape(1, 3, 224, 224, dtype="float16")``."""
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise UsageError(
            f"shape{sizes} has a size that is not a whole number of 0 or more; write shape(1, 3, 224, 224)"
        )
    return TensorSpec(sizes, str(dtype).removeprefix("torch."))


def count(
    model: Callable[..., Any] | str,
    /,
    *args: Any,
    convention: str = "flops",
    backward: bool = False,
    training: bool | None = None,
    lines: bool = False,
    run: bool = False,
    strict: bool = False,
    options: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Report:
    """The cost of ``model(*args, **kwargs)``, as a report; the model is left exactly as it was.

    ``model`` is a module, any function of tensors, or a target of the command line (``"vmamba_tiny"``,
    ``"timm:resnet50"``, ``"hf:mamba"``), for which ``options`` are the arguments of its factory. Inputs are shapes
    (a tuple of ints), `shape(...)` specs or real tensors; none for a target means its own default. An input whose name
    is one of the options here goes into ``inputs``.

    ``backward``: count also the gradient of the outputs. ``training``: set the mode for the count (a module is
    counted in the mode that it is in, a target in eval mode). ``lines``: record source lines. ``run``: really run the
    model, on the tensors given (for models that depend on values). ``strict``: raise IncompleteError if an operator
    was not counted.
    """
    trace = trace_of(
        model, *args, backward=backward, training=training, lines=lines, run=run, options=options,
        inputs={**(inputs or {}), **kwargs},
    )  # fmt: skip
    report = reports.make(analysis.price(trace), convention)
    if strict:
        require_complete(report)
    return report


def trace_of(
    model: Callable[..., Any] | str,
    *args: Any,
    backward: bool = False,
    training: bool | None = None,
    lines: bool = False,
    run: bool = False,
    options: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Trace:
    """The trace of a model or target: what `count` prices."""
    from flopscan.capture import running, shape_only
    from flopscan.capture.build import unwrapped

    seams = rules.seams()
    inputs = dict(inputs or {})
    origin = dict(origin or {})
    is_target = isinstance(model, str)
    if isinstance(model, str):
        from flopscan.capture import targets
        from flopscan.capture.seams import installed

        with installed(seams):
            target = targets.build(model, options or {}, with_weights=run)
        origin = {"target": model, **origin}
        if target.note:
            origin.setdefault("notes", [target.note])
        model = target.model
        training = False if training is None else training
        if not args and not inputs:
            args, inputs = target.args, dict(target.kwargs)
        if not args and not inputs:
            raise UsageError(f"{origin['target']} has no default input; give one, as in --input 1x3x224x224")
    else:
        model = unwrapped(model)
    if not callable(model):
        raise UsageError(f"expected a model, a function or a target name to count, got {type(model).__name__}")
    if options and not is_target:
        raise UsageError("options are for a target's factory; here the model is already made")
    origin = {"target": type(model).__name__ if not hasattr(model, "__name__") else model.__name__, **origin}
    origin["inputs"] = [describe(a) for a in args] + [f"{k}={describe(v)}" for k, v in inputs.items()]
    origin.update(versions=versions(), backward=backward)
    route = running.trace if run else shape_only.trace
    return route(model, args, inputs, backward=backward, training=training, lines=lines, origin=origin, seams=seams)


class counting:
    """Count what really runs inside: a training step, a generate loop. ``report`` is the count so far.

    with flopscan.counting() as c:
        loss(model(x), y).backward()
        optimizer.step()
    print(c.report)
    """

    def __init__(self, *, convention: str = "flops", lines: bool = False) -> None:
        from flopscan.capture.running import Counting

        self._counting = Counting(lines=lines, origin={"versions": versions()}, seams=rules.seams())
        self._convention = convention

    def __enter__(self) -> counting:
        self._counting.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._counting.__exit__(*error)

    @property
    def trace(self) -> Trace:
        """What was seen so far."""
        return self._counting.trace

    @property
    def report(self) -> Report:
        """The price of what was seen so far."""
        return reports.make(analysis.price(self.trace), self._convention)


def stand_ins() -> contextlib.AbstractContextManager[None]:
    """A context in which code that imports a missing CUDA package finds a stand-in with shapes only.

    For a model that is imported and made before it is counted; a target is built in this context anyway. On a machine
    without a CUDA device, a model that asks for one (``.cuda()``, ``device="cuda"``) gets the CPU.

        with flopscan.stand_ins():
            from my_project.models import VMamba
            model = VMamba().cuda()
        flopscan.count(model, (1, 3, 224, 224))
    """
    return _standing_in()


@contextlib.contextmanager
def _standing_in() -> Iterator[None]:
    from flopscan.capture import cuda
    from flopscan.capture.seams import installed

    with installed(rules.seams()), cuda.building():
        yield


def require_complete(report: Report) -> None:
    """Raise IncompleteError if an operator of ``report`` was not counted."""
    if report.uncounted:
        raise IncompleteError("not everything was counted: " + "; ".join(map(str, report.uncounted)))


def describe(value: Any) -> str:
    """An input in a few letters: ``1x3x224x224 float32``."""
    if isinstance(value, tuple) and value and all(type(n) is int for n in value):
        value = TensorSpec(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        sizes = "x".join(map(str, value.shape)) or "scalar"
        return f"{sizes} {str(value.dtype).removeprefix('torch.')}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def versions() -> dict[str, str]:
    """The versions that a number depends on."""
    import torch

    from flopscan import __version__

    return {"flopscan": __version__, "torch": torch.__version__, "python": platform.python_version()}

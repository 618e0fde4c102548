"""Speed: a target really runs, with random weights, and a clock says how long a forward pass takes."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from flopscan.capture import targets
from flopscan.capture.build import same_random_state, too_large
from flopscan.capture.inputs import materialize
from flopscan.capture.seams import installed
from flopscan.core.seam import Seam
from flopscan.core.trace import TensorSpec
from flopscan.errors import CaptureError, FlopscanError, UsageError


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of each pass on ``items`` images, tokens or samples (``unit``), the device, and torch's threads."""

    seconds: tuple[float, ...]
    items: int
    unit: str
    device: str
    threads: int


def measure(
    target: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    batch: int | None = None,
    device: str = "cpu",
    passes: int = 5,
    seams: Sequence[Seam] = (),
) -> Timed:
    """The time of ``passes`` forward passes after a first one, in eval mode, without gradients.

    ``batch`` replaces the first axis of every input. Raises FlopscanError where the target cannot run here.
    """
    where = device_called(device)
    with installed(seams):
        if reason := too_large(targets.build(target, options, with_weights=False).model):
            raise FlopscanError(reason)
        built = targets.build(target, options, with_weights=True)
    if not args and not kwargs:
        args, kwargs = built.args, built.kwargs
    given = [*args, *kwargs.values()]
    if not given:
        raise UsageError(f"{target} has no default input; give one, as in --input 1x3x224x224")
    if batch is not None:
        args = tuple(_resized(value, batch) for value in args)
        kwargs = {name: _resized(value, batch) for name, value in kwargs.items()}
    items, unit = _items([*args, *kwargs.values()][0])
    with same_random_state():
        seconds = _timed(built.model, args, kwargs, where, passes)
    return Timed(tuple(seconds), items, unit, _name(where), torch.get_num_threads())


def _timed(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], device: torch.device, passes: int
) -> list[float]:
    """Seconds of each pass but the first."""
    try:
        if isinstance(model, torch.nn.Module):
            model = model.to(device).eval()
        moved = [_moved(materialize(value, device="cpu"), device) for value in args]
        named = {name: _moved(materialize(value, device="cpu"), device) for name, value in kwargs.items()}
        seconds = []
        with torch.inference_mode():
            for _ in range(1 + passes):
                start = time.perf_counter()
                model(*moved, **named)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds.append(time.perf_counter() - start)
        return seconds[1:]
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise CaptureError(f"it does not run on {device}: {text}") from error


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _resized(value: Any, batch: int) -> Any:
    """An input with another first axis; a scalar stays as it is."""
    if isinstance(value, torch.Tensor):
        value = TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch."))
    if isinstance(value, TensorSpec):
        return replace(value, shape=(batch, *value.shape[1:])) if value.shape else value
    raise UsageError(f"--batch sets the first axis of inputs that are tensors, and one is {type(value).__name__}")


def _items(value: Any) -> tuple[int, str]:
    """What a pass is of, by its first input: whole numbers are tokens, four axes are images, else samples."""
    shape, dtype = tuple(getattr(value, "shape", ())), str(getattr(value, "dtype", ""))
    if len(shape) == 2 and "int" in dtype:
        return shape[0] * shape[1], "tokens"
    return (shape[0] if shape else 1), "images" if len(shape) == 4 else "samples"


def device_called(name: str) -> torch.device:
    """A device of torch that works here. Raises UsageError for another."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:
        text = " ".join(str(error).split())
        why = f" ({text})" if len(text) < 100 else ""  # a device that there is not lists all that there are
        raise UsageError(f"torch has no device {name!r} here{why}; expected one such as cpu or cuda") from error
    return device


def _name(device: torch.device) -> str:
    """What the device is called: a GPU by its model, a CPU by what the system says of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            found = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:  # there is no such file but on Linux
        found = platform.processor()
    return f"{device.type}: {found}" if found else device.type

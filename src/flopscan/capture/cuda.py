"""Code that asks for a CUDA device, on a machine without one: it gets tensors and answers as on one.

What is asked of ``torch.cuda`` is answered for one device; what is to live there lives where it is. A tensor says that
it is on CUDA (``.is_cuda``) and keeps its true ``.device``; ``torch.cuda.is_available()`` stays truthful.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_CPU = torch.device("cpu")

# what kernels tune themselves by: an H100 SXM, by torch.cuda.get_device_properties
_PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132, total_memory=85_024_112_640,
    warp_size=32, max_threads_per_multi_processor=2048, regs_per_multiprocessor=65_536,
    shared_memory_per_block=49_152, shared_memory_per_block_optin=232_448,
    shared_memory_per_multiprocessor=233_472, L2_cache_size=52_428_800, gcnArchName="", is_integrated=0,
)  # fmt: skip


class _Nothing:
    """A device guard, stream or event: does nothing, and what is asked of it likewise."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Takes what the real one takes."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing to end."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: 0


def _saying(answer: Any) -> Callable[..., Any]:
    """A function of its own, whatever it is called with: the compiler keeps a table of torch's functions."""
    return lambda *args, **kwargs: answer


_ANSWERS: Mapping[str, Any] = {
    **{n: type(n, (_Nothing,), {}) for n in ("device", "device_of", "stream", "Stream", "Event", "StreamContext")},
    **{n: _saying(_Nothing()) for n in ("current_stream", "default_stream")},
    **{n: _saying(None) for n in ("synchronize", "set_device", "empty_cache", "set_stream")},
    "current_device": _saying(0),
    "get_device_name": _saying(_PROPERTIES.name),
    "get_device_capability": _saying((_PROPERTIES.major, _PROPERTIES.minor)),
    "get_device_properties": _saying(_PROPERTIES),
}


@functools.cache
def _is_there() -> bool:
    return torch.cuda.is_available()


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Inside, ``torch.cuda`` answers as on a machine with one device, unless there is a real one."""
    if _is_there():
        yield
        return
    saved = {name: getattr(torch.cuda, name) for name in _ANSWERS if hasattr(torch.cuda, name)}
    for name in saved:
        setattr(torch.cuda, name, _ANSWERS[name])
    try:
        yield
    finally:
        for name, value in saved.items():
            setattr(torch.cuda, name, value)


def is_cuda(device: Any) -> bool:
    """Whether ``device`` (a name, an index, a torch.device) means a CUDA device."""
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    if isinstance(device, int) and not isinstance(device, bool):
        return True
    return isinstance(device, torch.device) and device.type == "cuda"


def redirected(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The operands with every CUDA device among them replaced by that of the tensor that comes first, or the CPU.

    What is made on the CPU keeps its values: the engine gives it a shape and remembers them.
    """
    here = args[0].device if args and isinstance(args[0], Tensor) else _CPU
    named = {k: here if k == "device" and is_cuda(v) else v for k, v in kwargs.items()}
    return tuple(here if isinstance(a, (str, torch.device)) and is_cuda(a) else a for a in args), named


def _to(*args: Any, **kwargs: Any) -> Tensor:
    args, kwargs = redirected(args, kwargs)
    return Tensor.to(*args, **kwargs)


def _cuda(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    """What ``tensor.cuda()`` gives: itself."""
    return tensor


def _seems(tensor: Tensor) -> bool:
    """What ``tensor.is_cuda`` says: yes where it has a shape alone."""
    return tensor.is_meta or bool(_IS_CUDA(tensor))


_IS_CUDA = Tensor.is_cuda.__get__  # type: ignore[attr-defined]
WATCHED: Mapping[Any, Callable[..., Any]] = {Tensor.cuda: _cuda, Tensor.to: _to, _IS_CUDA: _seems}


class _Redirecting(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cuda:
            return args[0]
        args, kwargs = redirected(args, kwargs or {})
        return func(*args, **kwargs)


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Inside, a model that is made for a CUDA device gets the CPU, and answers as there, unless there is a real one."""
    if _is_there():
        yield
        return
    to = nn.Module.to

    def anywhere(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        args = tuple(a for a in args if not (isinstance(a, (str, torch.device)) and is_cuda(a)))
        kwargs = {k: v for k, v in kwargs.items() if not (k == "device" and is_cuda(v))}
        return to(module, *args, **kwargs) if args or kwargs else module

    cuda = nn.Module.cuda
    nn.Module.to = anywhere  # type: ignore[method-assign,assignment]
    nn.Module.cuda = lambda module, device=None: module  # type: ignore[method-assign,assignment]
    try:
        with answered(), _Redirecting():
            yield
    finally:
        nn.Module.to, nn.Module.cuda = to, cuda  # type: ignore[method-assign]

"""Borrow a model: run it with shape-only parameters and buffers, and give it back exactly as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from flopscan.capture import shadow


@contextlib.contextmanager
def borrowed(model: nn.Module, *, training: bool | None, gradients: bool) -> Iterator[None]:
    """Inside, every parameter and buffer of ``model`` is a meta tensor and its mode is ``training`` (None: as it is).

    Afterwards parameters, buffers, gradients, attributes, hooks and mode are the very objects that they were.
    """
    modules = list(model.modules())
    saved = [_save(module) for module in modules]
    swapped: dict[int, Any] = {}
    try:
        for module in modules:
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = _swap(swapped, parameter, gradients)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = _swap(swapped, buffer, False)
            if training is not None:
                module.__dict__["training"] = training
        yield
    finally:
        for module, state in zip(modules, saved, strict=True):
            _restore(module, state)


def _swap(swapped: dict[int, Any], tensor: Tensor, gradients: bool) -> Any:
    found = swapped.get(id(tensor))
    if found is None:
        if isinstance(tensor, nn.Parameter):
            if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
                return tensor
            data = tensor.data if tensor.is_meta else torch.empty_strided(
                tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
            )
            found = nn.Parameter(data, requires_grad=tensor.requires_grad and gradients)
            found.__dict__.update(tensor.__dict__)
        else:
            found = shadow.on_meta(tensor.detach())
        swapped[id(tensor)] = found
    return found


_CONTAINERS = (list, dict, set)


def _save(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Each attribute with, for a plain container, a shallow copy of what is in it."""
    return {
        name: (value, value.copy() if isinstance(value, _CONTAINERS) else None)
        for name, value in module.__dict__.items()
    }


def _restore(module: nn.Module, state: dict[str, tuple[Any, Any]]) -> None:
    attributes = module.__dict__
    for name in [n for n in attributes if n not in state]:
        del attributes[name]
    for name, (value, content) in state.items():
        if content is not None:
            if isinstance(value, list):
                value[:] = content
            else:
                value.clear()
                value.update(content)
        attributes[name] = value

"""Borrow a model: run it with shape-only parameters and buffers, and give it back exactly as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from flopscan.capture import shadow
from flopscan.capture.attribution import below


@contextlib.contextmanager
def borrowed(model: nn.Module, *, training: bool | None, gradients: bool, shapes: bool = True) -> Iterator[None]:
    """Inside, ``model`` has parameters and buffers of its own and its mode is ``training`` (None: as it is).

    With ``shapes`` they are meta tensors; without, the parameters are new ones over the same storage (so that a
    gradient does not land on the model) and the buffers copies. Afterwards parameters, buffers, gradients,
    attributes, hooks and mode are the very objects that they were.
    """
    modules = list({id(module): module for _, module in below(model)}.values())
    saved = [_save(module) for module in modules]
    swapped: dict[int, Any] = {}
    try:
        for module in modules:
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    if tensor is not None:
                        if id(tensor) not in swapped:
                            swapped[id(tensor)] = _stand_in(tensor, gradients, shapes)
                        table[name] = swapped[id(tensor)]
            if training is not None:
                module.__dict__["training"] = training
        yield
    finally:
        for module, state in zip(modules, saved, strict=True):
            _restore(module, state)


def _stand_in(tensor: Tensor, gradients: bool, shapes: bool) -> Any:
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        return tensor
    if not isinstance(tensor, nn.Parameter):
        return shadow.on_meta(tensor.detach()) if shapes else tensor.detach().clone()
    if shapes and not tensor.is_meta:
        data = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    else:
        data = tensor.detach()
    stand_in = nn.Parameter(data, requires_grad=tensor.requires_grad and gradients)
    stand_in.__dict__.update(tensor.__dict__)
    return stand_in


_CONTAINERS = (list, dict, set)
_EMPTY: tuple[()] = ()


def _save(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Each attribute with, for a plain container, a shallow copy of what is in it."""
    return {
        name: (value, (value.copy() if value else _EMPTY) if isinstance(value, _CONTAINERS) else None)
        for name, value in module.__dict__.items()
    }


def _restore(module: nn.Module, state: dict[str, tuple[Any, Any]]) -> None:
    attributes = module.__dict__
    for name in [n for n in attributes if n not in state]:
        del attributes[name]
    for name, (value, content) in state.items():
        if content is not None and (value or content):
            if isinstance(value, list):
                value[:] = content
            else:
                value.clear()
                value.update(content)
        attributes[name] = value

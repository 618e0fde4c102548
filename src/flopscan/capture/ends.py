"""What a run holds at its ends, whatever happens between: the elements of parameters, inputs and outputs, by dtype."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def elements(model: Any, inputs: Any, outputs: Any) -> dict[str, dict[str, int]]:
    """The elements by dtype of ``parameters``, ``inputs``, ``outputs`` and ``gradients``; for a trace's origin.

    Each tensor counts once; gradients are those that the parameters ask for.
    """
    held = model.parameters() if isinstance(model, nn.Module) else ()
    parameters = [p for p in held if not isinstance(p, nn.parameter.UninitializedTensorMixin)]
    return {
        "parameters": _by_dtype(parameters),
        "gradients": _by_dtype(p for p in parameters if p.requires_grad),
        "inputs": _by_dtype(leaves(inputs)),
        "outputs": _by_dtype(leaves(outputs)),
    }


def _by_dtype(tensors: Iterable[Tensor]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor in {id(tensor): tensor for tensor in tensors}.values():
        name = str(tensor.dtype).removeprefix("torch.")
        found[name] = found.get(name, 0) + tensor.numel()
    return found


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from leaves(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from leaves(value)

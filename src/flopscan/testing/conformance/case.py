"""A case of the suite: a small model, inputs for it, and how many multiply-adds it is, derived beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """``macs`` multiply-adds, worked out in ``derivation``; ``also`` are other numbers that are right too.

    A scan's two multiply-adds a state and step, and every product, convolution and attention count; bias, norms and
    activations do not. An input of integers is given by its number of words.
    """

    name: str
    group: str
    make: Callable[[], nn.Module]
    shapes: tuple[Shape, ...]
    macs: int
    derivation: str
    also: tuple[int, ...] = ()
    words: int = 0

    def model(self) -> nn.Module:
        """The model, with weights, in eval mode."""
        return self.make().eval()

    def inputs(self) -> tuple[Tensor, ...]:
        """Small random numbers, or random words."""
        if self.words:
            return tuple(torch.randint(self.words, shape) for shape in self.shapes)
        return tuple(torch.rand(shape) * 0.1 for shape in self.shapes)

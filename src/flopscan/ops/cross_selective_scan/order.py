"""The four orders in which VMamba reads an image, in plain torch: sequences of an image, and the image of sequences.

Row by row, column by column, and both from the end. Axis letters: b batch, c channels, h height, w width, l = h w.
Source: MzeroMiko/VMamba, classification/models/csm_triton.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTIONS = 4


def cross_scan(x: Tensor) -> Tensor:
    """An image (b c h w) as four sequences (b 4 c l): row by row, column by column, and both from the end."""
    onward = torch.stack((x.flatten(2), x.transpose(2, 3).flatten(2)), dim=1)
    return torch.cat((onward, onward.flip(-1)), dim=1)


def cross_merge(sequences: Tensor, height: int, width: int) -> Tensor:
    """The image (b c h w) of four sequences (b 4 c l) in the order of `cross_scan`, summed: 3 additions an element."""
    both = sequences[:, :2] + sequences[:, 2:].flip(-1)
    rows = both[:, 0].unflatten(-1, (height, width))
    columns = both[:, 1].unflatten(-1, (width, height))
    return rows + columns.transpose(2, 3)


def each_in_order(images: Tensor, height: int, width: int) -> Tensor:
    """Four images (b 4 c l) row by row, each in its own order: what is made pixel by pixel and differs by direction."""
    rows, columns, back, back_columns = images.unbind(1)

    def by_column(x: Tensor) -> Tensor:
        return x.unflatten(-1, (height, width)).transpose(2, 3).flatten(2)

    onward = torch.stack((rows, by_column(columns)), dim=1)
    return torch.cat((onward, torch.stack((back, by_column(back_columns)), dim=1).flip(-1)), dim=1)

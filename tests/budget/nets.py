"""Networks of known cost that tests lock, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from flopscan import analysis, api
from flopscan.budget import measures
from flopscan.budget.lock import Entry
from flopscan.core.ledger import Ledger


class Block(nn.Module):
    """Two products of a row of ``width``, of 2 * width * hidden multiply-adds, with an activation between them."""

    def __init__(self, width: int, hidden: int, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        self.act = act()
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.up(x))
        return self.down(y)


class Net(nn.Module):
    """Blocks in a row, and a head."""

    def __init__(
        self,
        hidden: Sequence[int] = (16, 16),
        act: type[nn.Module] = nn.ReLU,
        head: str = "head",
        classes: int = 10,
        wide: int = 0,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(8, size, act) for size in hidden)
        self.name = head
        self.add_module(head, nn.Linear(8, classes, bias=False))
        if wide:
            self.unused = nn.Linear(8, wide, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.get_submodule(self.name)(x)


def counted(model: nn.Module, *shape: int) -> Ledger:
    """The price of ``model`` on one row, or on ``shape``, with source lines."""
    return analysis.price(api.trace_of(model, shape or (1, 8), lines=True))


def locked(
    model: nn.Module, *conventions: str, depth: int | None = None, limits: dict[str, str] | None = None
) -> Entry:
    """The entry of a lock for ``model``."""
    entry = Entry("nets.py:Net", ("1x8",), conventions=conventions or ("flops",), depth=depth, limits=limits or {})
    numbers = measures.measure(counted(model), entry.measures, depth)
    return Entry(
        entry.target, entry.inputs, conventions=entry.conventions, depth=depth, limits=entry.limits, numbers=numbers,
        versions={"flopscan": "1", "torch": "2"},
    )  # fmt: skip

"""What a format of a report is, and what a person can ask of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flopscan.report.report import Report
    from flopscan.report.roofline import Roofline
    from flopscan.report.sheet import Sheet


@dataclass(frozen=True)
class Shown:
    """How a report is to be shown; a format takes of it what it knows.

    ``width``: columns of text (None: the terminal's). ``depth``: levels of the module tree (None: as many as fit a
    screen). ``by``: what the main table lists, ``module``, ``operator`` or ``line``. ``color``: with terminal colours.
    ``roofline``: the report on a device, where one was asked for. ``min_share``: rows with less than that many percent
    of the total hide, and how much they are is said. ``sort``: what siblings and rows are sorted by, a key of
    `choices.SORTS` (None: modules in the model's order, the others the largest first). JSON and CSV, which programs
    read, have every row in its own order.
    """

    width: int | None = None
    depth: int | None = None
    by: str = "module"
    color: bool = False
    roofline: Roofline | None = None
    min_share: float = 0.0
    sort: str | None = None

    def but(self, **changes: Any) -> Shown:
        """The same but for ``changes``."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Format:
    """A format: its name on the command line, the suffixes of its files, and the text of a report in it.

    ``sheet`` gives any other table in it, where the format has tables; ``data`` says that programs read them, who want
    whole numbers and every fact in its row.
    """

    name: str
    suffixes: tuple[str, ...]
    render: Callable[[Report, Shown], str]
    sheet: Callable[[Sheet], str] | None = None
    data: bool = False

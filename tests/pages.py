"""Ledgers, a reader of pages, and what their data say: shared by the tests of the HTML report."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import torch
from torch import Tensor, nn

import flopscan
from flopscan import devices
from flopscan.core.cost import Cost
from flopscan.core.ledger import Ledger, Price
from flopscan.core.trace import Call, Frame, Module, Record, TensorSpec, Trace
from flopscan.report.report import Report
from flopscan.report.roofline import Roofline

EVIL = '</script><img src=x onerror="window.pwned=1">\'&`${1}\u202e\u2028é漢'
VOID = {"meta", "input", "img", "br", "hr", "link", "rect", "wbr"}


class Block(nn.Module):
    """A residual block with a function, modules, and a part that no module holds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.act, self.lin = nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.lin(self.act(self.norm(x))) @ torch.ones(x.shape[-1], x.shape[-1], device=x.device).exp()


class Net(nn.Module):
    """Twelve equal blocks between a stem and a head that names its layers differently."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(Block(8) for _ in range(12))
        self.head = nn.Sequential(nn.Linear(8, 4), nn.Softmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Turns(nn.Module):
    """Six layers, every second one wider inside, as where two kinds of attention take turns."""

    def __init__(self) -> None:
        super().__init__()
        wide = (8, 16) * 3
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, n), nn.GELU(), nn.Linear(n, 8)) for n in wide)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Wide(nn.Module):
    """As many blocks as asked for, no two alike."""

    def __init__(self, count: int) -> None:
        super().__init__()
        steps = (1 + i // 61 for i in range(count))  # from width to width: 61 is a prime, so that no pair comes twice
        widths = [8 + at % 61 for at in itertools.accumulate(steps, initial=0)]
        pairs = itertools.pairwise(widths)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(a), nn.Linear(a, b), nn.GELU()) for a, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def net(*, backward: bool = False, lines: bool = False) -> Report:
    """The small net, counted."""
    return flopscan.count(Net(), (2, 3, 16), backward=backward, lines=lines)


def evil() -> Report:
    """A report in which every text that a model or its author can choose is an attack, or far too long."""
    names = EVIL, EVIL.replace(".", "") + "1", "x" * 10_000
    calls = (
        Call(EVIL, {"x": TensorSpec((2, 3))}, (TensorSpec((2, 3)),)),
        Call("aten::mm", {"self": TensorSpec((2, 3)), "mat2": TensorSpec((3, 4))}, (TensorSpec((2, 4)),)),
        Call(f"torch::{EVIL}", {}),
        Call(f"x::{EVIL}", {"x": TensorSpec((2, 4))}),
    )
    modules = Module("", EVIL, 3), *(Module(name, EVIL, 5) for name in names), Module("\ud800\x00\x1b", "\ud800", 1)
    records = (
        Record(0, 1, 2, line=0), Record(1, 2, 3, inside=0), Record(1, 3, 1, phase=EVIL), Record(2, 2, 3, envelope=True),
        Record(3, 2, 4), Record(1, 4, 1),
    )  # fmt: skip
    origin = {
        "target": EVIL, "inputs": [EVIL], "notes": [EVIL], "versions": {EVIL: EVIL}, "route": EVIL, "again": EVIL,
    }  # fmt: skip
    trace = Trace(calls, records, modules, (EVIL,), 24, origin, (Frame(2),))
    prices = Price(Cost(fma=2, add=6)), Price(Cost(fma=24, read=72), note=EVIL), Price(None), Price(None, note=EVIL)
    return flopscan.report.report.make(Ledger(trace, prices))


def huge(report: Report | None = None) -> Report:
    """A report (default: of the net) with numbers that are beyond what a double holds."""
    whole = (report or net()).ledger
    records = tuple(dataclasses.replace(record, count=record.count * (2**60 + 1)) for record in whole.trace.records)
    return flopscan.report.report.make(Ledger(dataclasses.replace(whole.trace, records=records), whole.prices))


def on_a_device(report: Report) -> Roofline:
    """The report on a device whose name is an attack."""
    return report.on(dataclasses.replace(devices.get("h100-sxm"), title=EVIL))


class Element:
    """An element of a page, with what is in it."""

    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes, self.parts = tag, attributes, []  # type: ignore[var-annotated]

    def __getitem__(self, name: str) -> str | None:
        return self.attributes.get(name)

    @property
    def classes(self) -> list[str]:
        """Its classes."""
        return (self["class"] or "").split()

    @property
    def text(self) -> str:
        """All text in it, with single blanks."""
        return " ".join(self.raw.split())

    @property
    def raw(self) -> str:
        """All text in it as it stands."""
        return "".join(part if isinstance(part, str) else part.raw for part in self.parts)

    def find(self, tag: str = "", **attributes: str) -> Iterator[Element]:
        """The elements in it with a tag and attributes, in order."""
        for part in self.parts:
            if isinstance(part, Element):
                fits = all(part[name.rstrip("_")] == value for name, value in attributes.items())
                if fits and tag in ("", part.tag):
                    yield part
                yield from part.find(tag, **attributes)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].parts.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def read(html: str) -> Element:
    """The page as a tree; every element must be closed in its turn."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert len(reader.open) == 1, reader.open[-1].tag
    return reader.open[0]


def data_of(root: Element) -> dict[str, Any]:
    """The data that the page carries."""
    (script,) = root.find("script", id="data")
    return dict(json.loads(script.raw))


def report_of(data: dict[str, Any], convention: int) -> dict[str, Any]:
    """What the data of a page say under a convention, as `Report.to_dict` says it."""
    pool, measured = data["pool"], data["pool"]["measures"]
    names = "value", "flops", "macs", "transcendentals", "bytes_read", "bytes_written", "params", "calls", "uncounted"

    def line(place: int) -> dict[str, int]:
        pattern, distinct, numbers = pool["lines"][place]
        known = {name: int(n) for name, n in zip(measured, numbers, strict=True)}
        known["value"] = int(distinct[pool["patterns"][pattern][convention]])
        return {name: known[name] for name in names}

    def table(rows: list[list[Any]]) -> dict[str, dict[str, int]]:
        return {row[0]: line(row[-1]) for row in rows}

    return {
        "total": line(data["total"]),
        "by_module": table(data["modules"]),
        "by_operator": {n: v for n, v in table(data["operators"]).items() if v["calls"] or v["value"]},
        "by_phase": {n: v for n, v in table(data["phases"]).items() if v["calls"] or v["value"]},
    }

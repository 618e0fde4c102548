"""The counters that flopscan is compared with: one adapter each. Their packages are imported only when they run."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flopscan.peers import tools

Count = Callable[[Any, Mapping[str, Any]], float]  # (model, inputs by name) -> the total that the tool gives


@dataclass(frozen=True)
class Tool:
    """A counter: its distribution, the unit of its total, the tensors that it runs on, and what imports it."""

    name: str
    package: str
    unit: str
    tensors: str
    load: Callable[[], Count]


def of(name: str) -> Callable[[], Count]:
    """What imports the counter called ``name`` and gives its count, as `flopscan compare --tools` asks it."""

    def load() -> Count:
        (tool,) = tools.find(name)
        for module in _MODULES.get(name, (tool.module or name,)):
            importlib.import_module(module)

        def count(model: Any, inputs: Mapping[str, Any]) -> float:
            return tool.ask(model, *tool.call(model, (), dict(inputs)))[0]

        return count

    return load


_MODULES = {"torch": ("torch.utils.flop_counter",), "fvcore": ("fvcore.nn",)}  # where it is not called as the counter
TOOLS = (
    Tool("FlopCounterMode real", "torch", "FLOP", "real", of("torch")),
    Tool("FlopCounterMode meta", "torch", "FLOP", "meta", of("torch")),
    Tool("FlopCounterMode fake", "torch", "FLOP", "fake", of("torch")),
    Tool("fvcore", "fvcore", "MAC and FLOP mixed", "real", of("fvcore")),
    Tool("ptflops", "ptflops", "MAC", "real", of("ptflops")),
    Tool("ultralytics-thop", "ultralytics-thop", "MAC", "real", of("ultralytics-thop")),
    Tool("calflops", "calflops", "FLOP", "real", of("calflops")),
    Tool("torchprofile", "torchprofile", "MAC", "real", of("torchprofile")),
)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Inside, what the tools print, log and warn goes nowhere."""
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)

"""The counters that flopscan is compared with: one adapter each. Their packages are imported only when they run."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Count = Callable[[Any, Mapping[str, Any]], float]  # (model, inputs by name) -> the total that the tool gives


@dataclass(frozen=True)
class Tool:
    """A counter: its distribution, the unit of its total, the tensors that it runs on, and what imports it."""

    name: str
    package: str
    unit: str
    tensors: str
    load: Callable[[], Count]


def flop_counter_mode() -> Count:
    """torch's own counter of dispatched operators."""
    from torch.utils.flop_counter import FlopCounterMode

    def count(model: Any, inputs: Mapping[str, Any]) -> float:
        with FlopCounterMode(display=False) as counter:
            model(**inputs)
        return counter.get_total_flops()

    return count


def fvcore() -> Count:
    """fvcore: handlers over a torch.jit graph."""
    from fvcore.nn import FlopCountAnalysis

    def count(model: Any, inputs: Mapping[str, Any]) -> float:
        analysis = FlopCountAnalysis(model, tuple(inputs.values()))
        return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()

    return count


def ptflops() -> Count:
    """ptflops with its default backend: hooks by module class and patched functions."""
    from ptflops import get_model_complexity_info

    def count(model: Any, inputs: Mapping[str, Any]) -> float:
        total, _ = get_model_complexity_info(
            model, (1,), as_strings=False, print_per_layer_stat=False, input_constructor=lambda _: dict(inputs)
        )
        if total is None:
            raise RuntimeError("gave no total")
        return total

    return count


def thop() -> Count:
    """ultralytics-thop: module hooks and a function mode."""
    from thop import profile

    def count(model: Any, inputs: Mapping[str, Any]) -> float:
        return profile(model, tuple(inputs.values()), verbose=False)[0]

    return count


def calflops() -> Count:
    """calflops: patched functions."""
    from calflops import calculate_flops

    def count(model: Any, inputs: Mapping[str, Any]) -> float:
        return calculate_flops(model, kwargs=dict(inputs), print_results=False, output_as_string=False)[0]

    return count


def torchprofile() -> Count:
    """torchprofile: handlers over a torch.jit graph."""
    from torchprofile import profile_macs

    def count(model: Any, inputs: Mapping[str, Any]) -> float:
        return profile_macs(model, tuple(inputs.values()))

    return count


TOOLS = (
    Tool("FlopCounterMode real", "torch", "FLOP", "real", flop_counter_mode),
    Tool("FlopCounterMode meta", "torch", "FLOP", "meta", flop_counter_mode),
    Tool("FlopCounterMode fake", "torch", "FLOP", "fake", flop_counter_mode),
    Tool("fvcore", "fvcore", "MAC and FLOP mixed", "real", fvcore),
    Tool("ptflops", "ptflops", "MAC", "real", ptflops),
    Tool("ultralytics-thop", "ultralytics-thop", "MAC", "real", thop),
    Tool("calflops", "calflops", "FLOP", "real", calflops),
    Tool("torchprofile", "torchprofile", "MAC", "real", torchprofile),
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

"""The conventions of counters that hook modules and patch functions beside these counters, each that is installed.

thop 0.1.1 and ultralytics-thop are one package by name: whichever is found first is compared. To compare both, install
the other one into a folder of its own (`pip install --target`) and name that in PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flopscan
from conventions.module_level_layers import LAYERS, build
from conventions.module_level_models import IN_PLAIN_TORCH, MODELS
from flopscan import conventions
from flopscan.report.report import Report

pytestmark = pytest.mark.peers
Inputs = tuple[Tensor, ...]


def ptflops(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    """Several inputs go by name, as it takes one by place alone."""
    named = {f"x{i}": x for i, x in enumerate(inputs)}
    given: Any = inputs[0] if len(inputs) == 1 else named
    count = importlib.import_module("ptflops").get_model_complexity_info
    total, _ = count(model, (1,), False, False, input_constructor=lambda _: given)
    if total is None:
        raise RuntimeError("it printed an error and gave no total")
    return (total,)


def thop(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    """Either of the two packages of this name."""
    return (importlib.import_module("thop").profile(model, inputs, verbose=False)[0],)


def calflops(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    """FLOPs and multiply-adds."""
    count = importlib.import_module("calflops").calculate_flops
    return count(model, args=list(inputs), print_results=False, output_as_string=False)[:2]


def deepspeed(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    """FLOPs and multiply-adds."""
    count = importlib.import_module("deepspeed.profiling.flops_profiler").get_model_profile
    return count(model, args=list(inputs), print_profile=False, as_string=False, warm_up=0)[:2]


def torchinfo(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    """The total of its column mult_adds."""
    return (importlib.import_module("torchinfo").summary(model, input_data=list(inputs), verbose=0).total_mult_adds,)


def flopth(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    """Its command line alone needs torchvision, which stands empty while it is imported."""
    if "flopth" not in sys.modules:
        empty = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.models")}
        empty["torchvision"].models = empty["torchvision.models"]  # type: ignore[attr-defined]
        missing = {name: module for name, module in empty.items() if name not in sys.modules}
        sys.modules.update(missing)
        try:
            importlib.import_module("flopth")
        finally:
            for name in missing:
                del sys.modules[name]
    return (importlib.import_module("flopth").flopth(model, inputs=inputs, bare_number=True)[0],)


def torchscan(model: nn.Module, inputs: Inputs) -> tuple[int, ...]:
    """Its formulas of modules; what it counts of operators beside these is torch's own counter."""
    report = importlib.import_module("torchscan").crawl_module(model, args=inputs)
    return (sum(layer["metrics"].get("module_flops", {}).get("known_value") or 0 for layer in report["layers"]),)


Tool = Callable[[nn.Module, Inputs], tuple[int, ...]]
TOOLS: dict[str, tuple[Tool, tuple[str, ...]]] = {
    "ptflops": (ptflops, ("ptflops",)),
    "thop": (thop, ("thop",)),
    "ultralytics-thop": (thop, ("ultralytics-thop",)),
    "calflops": (calflops, ("calflops", "calflops-macs")),
    "deepspeed": (deepspeed, ("deepspeed", "deepspeed-macs")),
    "torchinfo": (torchinfo, ("torchinfo",)),
    "flopth": (flopth, ("flopth",)),
    "torchscan": (torchscan, ("torchscan",)),
}
# where a counter stops with an error
_PACKED = {"LSTM packed", "LSTMCell, one row"}
STOPS: dict[str, set[str]] = {
    "ptflops": {*_PACKED, "MultiheadAttention by name", "MultiheadAttention, one sequence"},
    "thop": {"Softmax, axis not said, 2-D", "Softmax, axis not said, 3-D"},
    "calflops": {*_PACKED, "Conv1d, one sequence"},
    "deepspeed": {*_PACKED, "Conv1d, one sequence"},
    "flopth": {
        *(name for name in LAYERS if name.startswith(("RNN", "LSTM", "GRU")) and "Cell" not in name),
        *(name for name in LAYERS if name.startswith("LSTMCell")),
        *(f"MaxPool{n}d with indices" for n in (1, 2, 3)),
        "Conv1d, one sequence", "ConvTranspose1d, one sequence", "weight norm", "Swin", "Llama", "Qwen2-MoE",
        "Qwen3-Next",
    },
}  # fmt: skip
RUN = {"LSTM packed"}  # depends on values


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Quiet inside; after it every function of torch is as before, also where the counter stopped with an error."""
    holders = [(holder, dict(vars(holder))) for holder in (F, torch, Tensor)]
    logging.disable(logging.CRITICAL)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        for holder, before in holders:
            for name in [name for name, value in vars(holder).items() if name in before and before[name] is not value]:
                setattr(holder, name, before[name])
        for cls in {kind for kind in _classes(nn.Module) if "__call__" in vars(kind)} - {nn.Module}:
            if vars(cls)["__call__"].__name__ == "forward_with_hook":  # flopth's, on every class that it met
                del cls.__call__
        for module in ("calflops.calculate_pipline", "deepspeed.profiling.flops_profiler.profiler"):
            for name in ("module_flop_count", "module_mac_count"):
                getattr(sys.modules.get(module), name, []).clear()


def _classes(cls: type) -> Iterator[type]:
    yield cls
    for derived in cls.__subclasses__():
        yield from _classes(derived)


def model_of(name: str) -> tuple[nn.Module, Inputs]:
    """The model of a case, in evaluation mode, and its inputs."""
    if name in LAYERS:
        return build(name)
    torch.manual_seed(0)
    model, x = MODELS[name]()
    return model.eval(), (x,)


@functools.cache
def reports(name: str) -> tuple[Report, Report]:
    """flopscan's, with operands by place and by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = model_of(name)
        by_place = flopscan.count(model, *inputs, run=name in RUN)
        if len(inputs) == 1:
            return by_place, by_place
        return by_place, flopscan.count(model, **{f"x{i}": x for i, x in enumerate(inputs)})


def needs(tool: str) -> None:
    """Skip where it is not installed, or in another version than the convention is of."""
    wanted = conventions.get(tool).version
    try:
        shown = metadata.version(tool)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{tool} {wanted} is not installed")
    if tool.endswith("thop"):  # two packages of one name
        shown = importlib.import_module("thop").__version__
    if not shown.startswith(wanted):
        pytest.skip(f"the convention is of {tool} {wanted}, found is {shown}")


@pytest.mark.parametrize("name", [*LAYERS, *MODELS])
@pytest.mark.parametrize("tool", TOOLS)
def test_totals_agree(tool: str, name: str) -> None:
    count, names = TOOLS[tool]
    needs(tool)
    if name in MODELS and name not in IN_PLAIN_TORCH:
        pytest.importorskip("transformers")
    ours = reports(name)[tool == "ptflops"]
    model, inputs = model_of(name)
    with left_alone():
        if name in STOPS.get(tool, ()):
            with pytest.raises(Exception):  # noqa: B017
                count(model, inputs)
            return
        theirs = count(model, inputs)
    assert tuple(int(ours.under(convention)) for convention in names) == theirs


def test_deepspeed_in_training() -> None:
    """Its profiler counts a norm in the mode that the model is in; `get_model_profile` sets evaluation mode."""
    needs("deepspeed")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False))
    with left_alone():
        profiler = importlib.import_module("deepspeed.profiling.flops_profiler").FlopsProfiler(model)
        profiler.start_profile()
        model(torch.randn(2, 3, 8, 8))
        theirs = profiler.get_total_flops(), profiler.get_total_macs()
        profiler.end_profile()
    ours = flopscan.count(model, (2, 3, 8, 8))
    assert (int(ours.under("deepspeed")), int(ours.under("deepspeed-macs"))) == theirs


def test_thop_and_a_layer_under_three_parents() -> None:
    """Hooked three times and read three times."""
    needs("thop")
    shared = nn.Linear(4, 4)
    model = nn.Sequential(*(nn.Sequential(shared) for _ in range(3)))
    with left_alone():
        theirs = thop(model, (torch.randn(2, 4),))
    assert theirs == (3 * 32 * 3 * 3,)
    assert flopscan.count(model, (2, 4)).under("thop") == theirs[0]

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
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flopscan
from conventions.module_level_layers import LAYERS, build
from conventions.module_level_models import IN_PLAIN_TORCH, MODELS
from flopscan import conventions
from flopscan.peers import tools
from flopscan.peers.tools import Tool
from flopscan.report.report import Report

pytestmark = pytest.mark.peers
Inputs = tuple[Tensor, ...]


TOOLS = ("ptflops", "thop", "ultralytics-thop", "calflops", "deepspeed", "torchinfo", "flopth", "torchscan")
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
def report(name: str, by_name: bool) -> Report:
    """flopscan's, with operands by place, or by name where there are several."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = model_of(name)
        args, kwargs = (tools.one_or_named if by_name else tools.as_given)(model, inputs, {})
        return flopscan.count(model, *args, **kwargs, run=name in RUN)


def needs(name: str) -> Tool:
    """The tool; skips where it is not installed, or in another version than the convention is of."""
    (tool,) = tools.find(name)
    wanted, found = conventions.get(name).version, tools.version(tool)
    if found is None:
        pytest.skip(f"{name} {wanted} is not installed")
    if tool.module:  # two packages of one name
        found = importlib.import_module(tool.module).__version__
    if not found.startswith(wanted):
        pytest.skip(f"the convention is of {name} {wanted}, found is {found}")
    if name == "flopth":
        without_torchvision()
    return tool


def without_torchvision() -> None:
    """Import flopth where torchvision is not, which its command line alone needs."""
    empty = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.models")}
    empty["torchvision"].models = empty["torchvision.models"]  # type: ignore[attr-defined]
    missing = {name: module for name, module in empty.items() if name not in sys.modules}
    sys.modules.update(missing)
    try:
        importlib.import_module("flopth")
    finally:
        for name in missing:
            del sys.modules[name]


@pytest.mark.parametrize("name", [*LAYERS, *MODELS])
@pytest.mark.parametrize("counter", TOOLS)
def test_totals_agree(counter: str, name: str) -> None:
    tool = needs(counter)
    if name in MODELS and name not in IN_PLAIN_TORCH:
        pytest.importorskip("transformers")
    ours = report(name, tool.call is tools.one_or_named)
    model, inputs = model_of(name)
    with left_alone():
        if name in STOPS.get(counter, ()):
            with pytest.raises(Exception):  # noqa: B017
                tools.run(tool, model, inputs)
            return
        theirs = tools.run(tool, model, inputs)
    assert tuple(int(ours.under(convention)) for convention in tool.conventions) == theirs


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
    tool = needs("thop")
    shared = nn.Linear(4, 4)
    model = nn.Sequential(*(nn.Sequential(shared) for _ in range(3)))
    ours = flopscan.count(model, (2, 4)).under("thop")  # first, as thop leaves hooks on such a layer
    with left_alone():
        theirs = tools.run(tool, model, (torch.randn(2, 4),))
    assert theirs == (ours,) == (3 * 32 * 3 * 3,)

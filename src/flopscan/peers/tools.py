"""The other counters themselves: one adapter each, which hands a model to the tool and returns the numbers it says.

An adapter imports its tool when it runs. Some tools leave torch patched, or end the process: `asking` runs one in a
process of its own; `run` here runs it in this one.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flopscan import conventions
from flopscan.errors import FlopscanError, UsageError

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Given = tuple[Args, Kwargs]
Count = Callable[[Any, Args, Kwargs], Sequence[float]]


class ToolError(FlopscanError):
    """A tool gave no number, for the reason that it told itself."""


@dataclass(frozen=True)
class Tool:
    """A counter: its distribution on PyPI, its numbers, how it is asked for them and how it calls the model.

    ``conventions`` reproduce the numbers that ``ask`` returns, one each. ``call`` turns the inputs as they were given
    into those that the tool hands to the model: flopscan counts the same call. ``module`` is what is imported, where
    two distributions have one of the same name.
    """

    name: str
    distribution: str
    conventions: tuple[str, ...]
    ask: Count
    call: Callable[[Any, Args, Kwargs], Given]
    module: str = ""


def as_given(model: Any, args: Args, kwargs: Kwargs) -> Given:
    """The inputs as they are."""
    return args, kwargs


def by_place(model: Any, args: Args, kwargs: Kwargs) -> Given:
    """All inputs by place, with defaults between them; raises ToolError for one that goes by name alone."""
    if not kwargs:
        return args, {}
    parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p.name for p in places]
    strange = [name for name in kwargs if name not in named]
    if strange:
        raise ToolError(f"it gives inputs by place, and the model takes {strange[0]!r} by name alone")
    last = max(named.index(name) for name in kwargs)
    return (*args, *(kwargs.get(p.name, p.default) for p in places[len(args) : last + 1])), {}


def one_or_named(model: Any, args: Args, kwargs: Kwargs) -> Given:
    """A single input as it is, several by name; raises ToolError where the model has no names for them."""
    if len(args) + len(kwargs) < 2:
        return args, kwargs
    parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        names += [f"input_{i}" for i in range(len(names), len(args))]
    if len(names) < len(args):
        raise ToolError("it gives several inputs by name, and the model takes them by place alone")
    return (), {**dict(zip(names, args, strict=False)), **kwargs}


def _torch(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(*args, **kwargs)
    return [counter.get_total_flops()]


def _fvcore(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, args)
    return [analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()]


def _ptflops(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    return _ask_ptflops(model, args[0] if args else kwargs, "pytorch")


def _ptflops_aten(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    return _ask_ptflops(model, args[0] if args else kwargs, "aten")


def _ask_ptflops(model: Any, inputs: Any, backend: str) -> Sequence[float]:
    """Its number; what it prints where it gives none."""
    from ptflops import get_model_complexity_info

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        total, _ = get_model_complexity_info(
            model, (1,), as_strings=False, print_per_layer_stat=False, input_constructor=lambda _: inputs,
            backend=backend,
        )  # fmt: skip
    if total is None:
        raise ToolError(said.getvalue().rpartition("exception:")[2] or "it gave no number")
    return [total]


def _thop(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from thop import profile

    return [profile(model, args, verbose=False)[0]]


def _calflops(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from calflops import calculate_flops

    found = calculate_flops(model, args=[*args], kwargs=dict(kwargs), print_results=False, output_as_string=False)
    return list(found[:2])


def _deepspeed(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from deepspeed.profiling.flops_profiler import get_model_profile

    found = get_model_profile(
        model, args=[*args], kwargs=dict(kwargs), print_profile=False, as_string=False, warm_up=0
    )  # fmt: skip
    return list(found[:2])


def _torchprofile(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from torchprofile import profile_macs

    return [profile_macs(model, args)]


def _torchinfo(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from torchinfo import summary

    return [summary(model, input_data=[*args], verbose=0, device="cpu").total_mult_adds]


def _torch_flops(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    import torch
    from torch_flops import TorchFLOPsByFX

    counter = TorchFLOPsByFX(model, mem_func_name="memory_allocated")  # the default fails without a GPU
    if not any(True for _ in counter.graph_model.parameters()):  # it asks the first one for its device
        counter.graph_model.register_parameter("asked_for_a_device", torch.nn.Parameter(torch.zeros(1)))
    counter.propagate(*args)
    return [counter.print_total_flops(show=False)]


def _flopth(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    from flopth import flopth

    return [flopth(model, inputs=args, bare_number=True)[0]]


def _torchscan(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    """The sum of what it says of modules by its own formulas."""
    from torchscan import crawl_module

    layers = crawl_module(model, args=args, kwargs=kwargs)["layers"]
    return [sum(layer["metrics"].get("module_flops", {}).get("known_value") or 0 for layer in layers)]


def _onnx_tool(model: Any, args: Args, kwargs: Kwargs) -> Sequence[float]:
    """The multiply-adds of the graph that torch's exporter by TorchScript makes at opset 17."""
    import onnx
    import onnx_tool
    import torch

    class Called(torch.nn.Module):  # type: ignore[misc]
        """The exporter hands a model every operand that it has a default for, by place, which transformers refuses."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return self.model(*given)

    file = io.BytesIO()
    torch.onnx.export(Called().eval(), args, file, opset_version=17, dynamo=False)
    graph = onnx_tool.Model(onnx.load_from_string(file.getvalue()), {"verbose": False}).graph
    graph.shape_infer(None)
    graph.profile()
    return [graph.macs[0]]


TOOLS = (
    Tool("torch", "torch", ("torch",), _torch, as_given),
    Tool("fvcore", "fvcore", ("fvcore",), _fvcore, by_place),
    Tool("ptflops", "ptflops", ("ptflops",), _ptflops, one_or_named),
    Tool("ptflops-aten", "ptflops", ("ptflops-aten",), _ptflops_aten, one_or_named),
    Tool("thop", "thop", ("thop",), _thop, by_place, module="thop"),
    Tool("ultralytics-thop", "ultralytics-thop", ("ultralytics-thop",), _thop, by_place, module="thop"),
    Tool("calflops", "calflops", ("calflops", "calflops-macs"), _calflops, as_given),
    Tool("deepspeed", "deepspeed", ("deepspeed", "deepspeed-macs"), _deepspeed, as_given),
    Tool("torchprofile", "torchprofile", ("torchprofile",), _torchprofile, by_place),
    Tool("torchinfo", "torchinfo", ("torchinfo",), _torchinfo, by_place),
    Tool("torch-flops", "torch-flops", ("torch-flops",), _torch_flops, by_place),
    Tool("flopth", "flopth", ("flopth",), _flopth, by_place),
    Tool("torchscan", "torchscan", ("torchscan",), _torchscan, as_given),
    Tool("onnx-tool", "onnx-tool", ("onnx-tool",), _onnx_tool, by_place),
)


def find(names: str) -> list[Tool]:
    """The tools in a comma-separated list, each once; "all" is every one. Raises UsageError for another name."""
    known = {tool.name: tool for tool in TOOLS}
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted:
        raise UsageError(f"--tools names no tool; expected some of {', '.join(known)}, or all")
    for name in wanted:
        if name not in (*known, "all"):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"expected {', '.join(known)}, or all"
            raise UsageError(f"there is no tool {name!r}; {hint}")
    return list(TOOLS) if "all" in wanted else [known[name] for name in wanted]


def version(tool: Tool) -> str | None:
    """The version that is installed; None where the tool is not."""
    try:
        return importlib.metadata.version(tool.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def same_version(one: str, other: str) -> bool:
    """Whether two texts name one release: ``2.13.0+cpu`` and ``2.13.0``."""
    return conventions.digits(one) == conventions.digits(other)


def run(tool: Tool, model: Any, args: Args = (), kwargs: Mapping[str, Any] | None = None) -> tuple[int, ...]:
    """What ``tool`` says of ``model(*args, **kwargs)``, in this process: a number for each of its conventions.

    Nothing keeps a gradient, and the fused path of `nn.MultiheadAttention`, which no tool looks into, is off as it is
    where gradients are on. Raises ToolError where another distribution holds the tool's module, else whatever the tool
    raises. A tool that fails may leave torch patched.
    """
    import torch

    args, kwargs = tool.call(model, args, dict(kwargs or {}))
    with _silenced(), torch.no_grad(), _without_fused_attention():
        if tool.module:
            _check_module(tool)
        return tuple(round(number) for number in tool.ask(model, args, kwargs))


def _check_module(tool: Tool) -> None:
    """Refuse another distribution's module of the same name: its numbers are not this tool's."""
    found = str(importlib.import_module(tool.module).__version__)
    wanted = version(tool) or ""
    if not same_version(found, wanted):
        raise ToolError(f"the module {tool.module} is another package's, of version {found} and not {wanted}")


@contextlib.contextmanager
def _without_fused_attention() -> Iterator[None]:
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Inside, what a tool prints, logs and warns goes nowhere."""
    before, sink = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

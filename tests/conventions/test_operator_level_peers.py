"""Conventions of tools that see operators, functions or the nodes of a graph, beside the tools themselves."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import pytest
from torch import nn

import flopscan
import torchvision_operators
from conventions import layer_cases, small_models
from flopscan import conventions
from flopscan.peers import tools

pytestmark = pytest.mark.peers


TOOLS = ("fvcore", "ptflops-aten", "torchprofile", "torch-flops")
DECLARED = {  # (case, convention): how much more the tool says, and the line that it comes from
    ("multi-head attention", "torchprofile"): 4,  # handlers.py, _mul: batch times heads is a product of tensors to jit
    ("encoder layer", "torchprofile"): 4,  # the same
    ("multi-head attention with weights", "torchprofile"): 4 - 2 * 9 * 9,  # and jit drops the unused mean of weights
    ("llama", "torchprofile"): 4,  # handlers.py, _mul: heads times repeats, for keys and values in two layers
    # aten_ops.py, addmm_flop: a batch-first sequence is not contiguous, and torch adds its bias apart on a CPU
    ("gru", "ptflops-aten"): -2 * 9 * 48,
    ("rnn", "ptflops-aten"): -2 * 9 * 16,
    ("bert", "fvcore"): -32 * 32,  # jit drops the pooler, whose result is not used
    ("bert", "torchprofile"): -32 * 32,  # trace.py, _get_trace_graph: jit drops the pooler, whose result is not used
    ("mamba2", "torchprofile"): 2,  # the same: a size in each layer
    ("swin", "torchprofile"): 5,  # handlers.py, _mul: batch times windows is a product of tensors to jit
    ("mambavision_t", "torch-flops"): -3 * 256,  # flops_ops.py: METHOD_FLOPs_MAPPING alone has exp
    ("swin_t", "torch-flops"): 26,  # flops_ops.py, FunctionFLOPs_elemwise: sums and products of sizes
}
RAISES = {  # where the tool does: AttributeError of flops_ops.py, ModuleFLOPs_Norm, for a norm without a weight
    ("batch norm 2d, not affine", "torch-flops"),
    ("instance norm", "torch-flops"),
    # IndexError of jit_handles.py, matmul_flop_jit, for a vector on the right
    ("matmul with a vector", "fvcore"),
    ("dot product", "fvcore"),
    # fx: what cannot be traced
    *((name, "torch-flops") for name in ("vit_b", "swin", "convnext", "vmamba_t", *small_models.TOKENS)),
}


def asked(convention: str, model: nn.Module, operands: tuple[Any, ...]) -> int:
    """The tool's number."""
    (tool,) = tools.find(convention)
    if tools.version(tool) is None:
        pytest.skip(f"{convention} is not installed")
    return tools.run(tool, model, operands)[0]


def compared(name: str, convention: str, model: nn.Module, operands: tuple[Any, ...]) -> None:
    """Compare the tool with its convention, or see that it raises where that is known."""
    torchvision_operators.defined()  # ptflops imports it where it is installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (name, convention) in RAISES:
            with pytest.raises(Exception):  # noqa: B017 any: it is the tool's
                asked(convention, model, operands)
            return
        args, kwargs = tools.find(convention)[0].call(model, operands, {})
        ours = flopscan.count(model, *args, **kwargs).under(convention)
        assert ours == asked(convention, model, operands) - DECLARED.get((name, convention), 0)


@pytest.mark.parametrize("convention", TOOLS)
@pytest.mark.parametrize("case", layer_cases.CASES)
def test_layers(case: str, convention: str) -> None:
    compared(case, convention, *layer_cases.made(case))


@pytest.mark.parametrize("convention", TOOLS)
@pytest.mark.parametrize("name", small_models.MODELS)
def test_models(name: str, convention: str) -> None:
    compared(name, convention, *small_models.made(name))


@pytest.mark.parametrize("convention", TOOLS)
def test_the_version_is_the_one_that_the_handles_are_of(convention: str) -> None:
    import importlib.metadata

    package = {"ptflops-aten": "ptflops", "torch-flops": "torch_flops"}.get(convention, convention)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        assert conventions.get(convention).version == importlib.metadata.version(package)

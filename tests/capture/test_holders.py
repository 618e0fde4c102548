"""Compiled functions are found by whom they are held, for a count to see them; and everything is put back."""

from __future__ import annotations

import functools
import importlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flopscan
from flopscan.capture import extensions
from flopscan.capture.holders import Replaced, escaping
from flopscan.errors import CaptureError, FlopscanWarning


def kernel() -> Any:
    """A compiled function that nothing but its module holds."""
    return importlib.import_module("_statistics")._normal_dist_inv_cdf


def in_a_module() -> Callable[..., Any]:
    module = types.ModuleType("holds_a_kernel")
    vars(module)["fwd"] = kernel()
    return lambda *args: module.fwd(*args)


def in_a_class() -> Callable[..., Any]:
    class Function(torch.autograd.Function):
        fwd = kernel()

        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            return Function.fwd(*args)

    return Function.apply  # type: ignore[no-any-return]


def in_a_layer() -> Callable[..., Any]:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fwd = kernel()

        def forward(self, *args: Any) -> Any:
            return self.fwd(*args)

    return Layer()


def in_an_object() -> Callable[..., Any]:
    class Holder:
        def __init__(self) -> None:
            self.fwd = kernel()

    holder = Holder()
    return lambda *args: holder.fwd(*args)


def in_a_closure() -> Callable[..., Any]:
    fwd = kernel()
    return lambda *args: fwd(*args)


def in_a_dictionary() -> Callable[..., Any]:
    kernels = {"oflex": kernel()}
    return lambda *args: kernels["oflex"](*args)


def in_a_list() -> Callable[..., Any]:
    kernels = [None, kernel()]
    return lambda *args: kernels[1](*args)


HELD = (in_a_module, in_a_class, in_a_layer, in_an_object, in_a_closure, in_a_dictionary, in_a_list)


@pytest.mark.parametrize("held", HELD)
def test_a_function_is_another_one_wherever_it_is_held(held: Callable[[], Callable[..., Any]]) -> None:
    call = held()
    replaced = Replaced()
    replaced.replace([kernel()], lambda original: lambda *args: ("seen", args), lambda _: "kernel")
    try:
        seen = call(torch.ones(1))
    finally:
        replaced.put_back()
    assert seen == ("seen", (torch.ones(1),))
    assert kernel()(0.5, 0.0, 1.0) == call(0.5, 0.0, 1.0) == 0


def test_what_cannot_be_changed_is_warned_of() -> None:
    held: Any = functools.partial(kernel(), 0.5), (kernel(),)
    replaced = Replaced()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        replaced.replace([kernel()], lambda original: lambda *args: None, lambda _: "package.kernel")
    replaced.put_back()
    said = sorted(str(w.message) for w in caught if isinstance(w.message, FlopscanWarning))
    assert said == [
        f"a {kind} holds package.kernel itself, and what is called through it is not counted; call"
        " package.kernel(...) through its module [FS203]"
        for kind in ("partial", "tuple")
    ]
    assert {type(holder) for _, holder in escaping([kernel()])} == {functools.partial, tuple}
    assert held[1][0] is kernel()


@pytest.fixture
def scan() -> Iterator[None]:
    """The kernel stands for a compiled one of the scan."""
    module = types.ModuleType("selective_scan_cuda_oflex")
    vars(module)["fwd"] = kernel()
    sys.modules["selective_scan_cuda_oflex"] = module
    yield
    del sys.modules["selective_scan_cuda_oflex"]


@pytest.mark.parametrize("held", HELD)
def test_a_kernel_with_a_seam_is_counted_wherever_it_is_held(held: Callable[[], Any], scan: None) -> None:
    call = held()

    def run(u: Tensor, A: Tensor) -> Tensor:
        return call(u, u, A, A, A, None, None, False, 1, True)[0]  # type: ignore[no-any-return]

    report = flopscan.count(run, (2, 6, 9), (6, 4), strict=True)
    assert report.by_operator()["flopscan::selective_scan"].calls == 1
    assert sys.modules["selective_scan_cuda_oflex"].fwd is kernel()


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel stands for one that takes tensors, without a seam."""
    module = importlib.import_module("_statistics")
    assert extensions._is_extension(module)
    monkeypatch.setattr(extensions, "_takes_tensors", lambda value: value is kernel_itself)
    monkeypatch.setattr(extensions, "_with_tensors", {module})
    kernel_itself = kernel()


@pytest.mark.parametrize("held", HELD)
def test_a_kernel_without_one_is_refused_or_listed_wherever_it_is_held(held: Callable[[], Any], unknown: None) -> None:
    call = held()
    with pytest.raises(CaptureError, match=r"_statistics\._normal_dist_inv_cdf is a compiled kernel that flopscan"):
        flopscan.count(lambda x: call(x), (3,))
    with flopscan.counting() as counted:
        call(0.5, 0.0, 1.0)
    assert [(u.op, u.count) for u in counted.report.uncounted] == [("_statistics::_normal_dist_inv_cdf", 1)]

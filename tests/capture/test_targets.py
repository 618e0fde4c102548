"""Targets: what a name becomes, and what is said where it becomes nothing."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import flopscan
from flopscan.capture import arguments, targets
from flopscan.core.trace import TensorSpec
from flopscan.errors import FlopscanError, UsageError

NET = """
    import torch
    from torch import nn

    import beside_the_net


    class Net(nn.Module):
        def __init__(self, width=4, *, name="a"):
            super().__init__()
            self.layer = nn.Linear(3, width)

        def forward(self, x):
            return self.layer(x)


    class WithTables(nn.Module):
        # its table is computed on the device of its weights, as those of Swin V2 are
        def __init__(self, read=False):
            super().__init__()
            self.layer = nn.Linear(3, 4)
            self.register_buffer("table", torch.empty(3))
            self.table.copy_(torch.arange(3, device=self.layer.weight.device))
            self.least = self.layer.weight.abs().min().item() if read else 0

        def forward(self, x):
            return self.layer(x * self.table)


    made = Net(8)
    number = 7


    def function():
        return lambda x: x + 1


    def text():
        return "a model"


    def fails(why="no reason"):
        raise RuntimeError(why)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a factory file and a module beside it, as the working directory; nothing stays imported."""
    (tmp_path / "net_of_the_test.py").write_text(textwrap.dedent(NET))
    (tmp_path / "beside_the_net.py").write_text("VALUE = 1\n")
    (tmp_path / "broken_net.py").write_text("import beside_the_net\nimport not_there_at_all\n")
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def build(name: str, **options: Any) -> targets.Target:
    return targets.build(name, options, with_weights=False)


def said(name: str, kind: type[Exception] = UsageError, **options: Any) -> str:
    with pytest.raises(kind) as raised:
        build(name, **options)
    assert type(raised.value) is kind
    return str(raised.value)


def test_every_model_of_the_zoo_has_a_name_and_an_input() -> None:
    assert targets.names() == [
        "vmamba_tiny", "vmamba_small", "vmamba_base", "vmamba_tiny_s2l5", "vmamba_small_s1l20", "vmamba_base_s1l20",
        "vmamba_tiny_v0", "vmamba_small_v0", "vmamba_base_v0",
    ]  # fmt: skip
    target = build("vmamba_tiny")
    assert target.args == (TensorSpec((1, 3, 224, 224)),) and target.kwargs == {} and target.note == ""
    assert all(p.is_meta for p in target.model.parameters())


def test_options_of_the_zoo() -> None:
    target = build("vmamba_tiny", in_chans=1, num_classes=10, depths=(1, 1, 1, 1))
    assert target.args == (TensorSpec((1, 1, 224, 224)),)
    assert "numpy rounds the cost of an einsum" in build("vmamba_tiny_v0", depths=(1, 1, 1, 1)).note
    assert said("vmamba_tiny", foo=1) == (
        "vmamba_tiny does not take these arguments (foo=1): VMamba.__init__() got an unexpected keyword argument 'foo';"
        " see --arg"
    )
    assert said("vmamba_tiny", FlopscanError, norm_layer="x").startswith(
        "cannot make vmamba_tiny with norm_layer='x': ValueError: norm_layer is 'x'"
    )


def test_weights_are_there_only_if_wanted(folder: Path) -> None:
    assert build("net_of_the_test.py:Net").model.layer.weight.is_meta
    assert not targets.build("net_of_the_test.py:Net", {}, with_weights=True).model.layer.weight.is_meta


@pytest.mark.parametrize("read", [False, True])
def test_a_constructor_that_computes_with_its_weights_has_them(folder: Path, read: bool) -> None:
    state = torch.get_rng_state()
    model = build("net_of_the_test.py:WithTables", read=read).model
    assert model.table.tolist() == [0, 1, 2] and not model.layer.weight.is_meta
    assert torch.equal(state, torch.get_rng_state())
    assert flopscan.count("net_of_the_test.py:WithTables", (2, 3), options={"read": read}).macs == 2 * 3 * 4


def test_unknown_names() -> None:
    forms = "timm:NAME, torchvision:NAME, hf:NAME, package.module:factory, path/to/file.py:factory"
    assert said("vmamba_tny").startswith("there is no target 'vmamba_tny'; did you mean vmamba_tiny or ")
    assert said("vmamba_tny").endswith(f"? (or one of the forms {forms})")
    zoo = ", ".join(targets.names())
    assert said("resnet50") == f"there is no target 'resnet50'; expected {zoo}, or one of the forms {forms}"
    assert (
        said("net.py") == "net.py names no factory; write net.py:NAME with the function or class that makes the model"
    )


@pytest.mark.parametrize("place", ["net_of_the_test.py", "net_of_the_test", "./net_of_the_test.py"])
def test_factories_of_files_and_modules(folder: Path, place: str) -> None:
    target = build(f"{place}:Net", width=5)
    assert target.model.layer.out_features == 5 and not target.args and not target.kwargs
    assert build(f"{place}:function").model(1) == 2
    assert isinstance(build(f"{place}:made").model, nn.Module)


def test_a_file_with_the_name_of_a_loaded_module_leaves_that_module(folder: Path) -> None:
    import json

    (folder / "json.py").write_text("from torch import nn\nNet = nn.Identity\n")
    assert isinstance(build("json.py:Net").model, nn.Identity)
    assert sys.modules["json"] is json


def test_factories_that_are_not_there(folder: Path) -> None:
    assert said("net_of_the_test.py:Nett") == "net_of_the_test.py has no 'Nett'; did you mean Net or text?"
    assert said("net_of_the_test:Net.foo").startswith("net_of_the_test has no 'Net.foo'; did you mean ")
    assert said("nowhere.py:f") == "there is no file nowhere.py; expected a target such as path/to/file.py:factory"
    assert said("nowhere.at_all:f") == (
        "there is no module 'nowhere' to import; expected a target such as package.module:factory, installed or below"
        " the working directory"
    )
    assert said("net_of_the_test:number") == "net_of_the_test:number is of type int; expected a function or class"
    assert said("net_of_the_test:text") == (
        "net_of_the_test:text returned str; expected an nn.Module or a function of tensors"
    )


def test_arguments_that_a_factory_does_not_take(folder: Path) -> None:
    assert re.fullmatch(
        r"net_of_the_test:Net does not take these arguments \(depth=1\): .*unexpected keyword .* 'depth'; see --arg",
        said("net_of_the_test:Net", depth=1),
    )


@pytest.mark.parametrize("place", ["net_of_the_test.py", "net_of_the_test"])
def test_a_factory_that_raises_leaves_nothing_behind(folder: Path, place: str) -> None:
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(FlopscanError) as raised:
        build(f"{place}:fails", why="it is full")
    assert str(raised.value) == f"cannot make {place}:fails with why='it is full': RuntimeError: it is full"
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert sys.path == path and set(sys.modules) == modules


@pytest.mark.parametrize("place", ["broken_net.py", "broken_net"])
def test_a_file_that_cannot_be_imported_leaves_nothing_behind(folder: Path, place: str) -> None:
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(FlopscanError) as raised:
        build(f"{place}:f")
    assert str(raised.value) == (f"cannot import {place}: ModuleNotFoundError: No module named 'not_there_at_all'")
    assert sys.path == path and set(sys.modules) == modules


def test_building_leaves_the_random_state(folder: Path) -> None:
    state = torch.get_rng_state()
    build("net_of_the_test:Net")
    assert torch.equal(state, torch.get_rng_state())


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Puts a stand-in for an installed package in place, or hides one (``package("timm", None)``)."""

    def place(name: str, **content: Any) -> ModuleType:
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return place


@pytest.mark.parametrize(
    ("name", "package_name", "extra"),
    [
        ("timm:resnet50", "timm", "timm"),
        ("torchvision:resnet50", "torchvision", "torchvision"),
        ("hf:gpt2", "transformers", "hf"),
    ],
)
def test_a_package_that_is_not_installed(
    name: str, package_name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    load = importlib.import_module

    def missing(wanted: str, *rest: Any) -> ModuleType:
        if wanted == package_name:
            raise ModuleNotFoundError(f"No module named {wanted!r}", name=wanted)
        return load(wanted, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    text = f"{package_name} is not installed and this target needs it; install it: pip install 'flopscan[{extra}]'"
    assert said(name) == text


def test_a_package_that_is_broken(folder: Path) -> None:
    (folder / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    sys.path.insert(0, str(folder))
    assert said("timm:resnet50", FlopscanError) == (
        "timm is installed but cannot be imported (RuntimeError: operator torchvision::nms does not exist); install the"
        " build of it that fits your torch"
    )


def test_timm_models_bring_their_input(package: Callable[..., ModuleType]) -> None:
    def create_model(name: str, pretrained: bool = True, **options: Any) -> nn.Module:
        assert not pretrained and options.pop("in_chans", 3)
        if options.pop("img_size", None) is None and options:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(options))}'")
        model = nn.Linear(2, 2)
        model.pretrained_cfg = {"input_size": (3, 288, 288)}  # type: ignore[assignment]
        return model

    known = ["resnet50", "vit_base_patch16_224"]
    package("timm", create_model=create_model, is_model=known.__contains__, list_models=lambda: known)
    assert build("timm:resnet50").args == (TensorSpec((1, 3, 288, 288)),)
    assert build("timm:resnet50", in_chans=1).args == (TensorSpec((1, 1, 288, 288)),)
    assert build("timm:resnet50", img_size=96).args == (TensorSpec((1, 3, 96, 96)),)
    assert said("timm:resnet5") == "timm has no model 'resnet5'; did you mean resnet50?"
    assert said("timm:resnet50", foo=1).endswith("unexpected keyword argument 'foo'; see --arg")


def test_arguments_are_literals_or_else_text() -> None:
    texts = ["depth=12", "name=tiny", "sizes=(1, 2)", "bias=false", "other=True", "none=None", "empty=", "eq=a=b"]
    assert arguments.options(texts) == {
        "depth": 12, "name": "tiny", "sizes": (1, 2), "bias": False, "other": True, "none": None, "empty": "",
        "eq": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["depth"], "--arg 'depth' is not KEY=VALUE; write it as in --arg num_classes=10"),
        (["=3"], "--arg '=3' is not KEY=VALUE; write it as in --arg num_classes=10"),
        (["a=1", "a=2"], "--arg a is given twice (1 and '2'); keep one"),
    ],
)
def test_wrong_arguments(texts: list[str], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        arguments.options(texts)
    assert str(raised.value) == text


def test_inputs_by_position_and_by_name() -> None:
    texts = ["1x3x224x224", "ids=1x128:int64", "8:torch.float16", "scale=scalar", "empty=0x4:bool"]
    assert arguments.inputs(texts) == (
        (TensorSpec((1, 3, 224, 224)), TensorSpec((8,), "float16")),
        {"ids": TensorSpec((1, 128), "int64"), "scale": TensorSpec(()), "empty": TensorSpec((0, 4), "bool")},
    )


EXPECTED = (
    "expected sizes with an x between them and, if wanted, a name before and a dtype after, as in 1x3x224x224,"
    " input_ids=1x128:int64 or scale=scalar:float32"
)


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["1x3x"], f"--input '1x3x': '1x3x' is not a shape; {EXPECTED}"),
        (["1x-3"], f"--input '1x-3': '1x-3' is not a shape; {EXPECTED}"),
        (["1,3"], f"--input '1,3': '1,3' is not a shape; {EXPECTED}"),
        ([""], f"--input '': it has no shape; {EXPECTED}"),
        (["x="], f"--input 'x=': it has no shape; {EXPECTED}"),
        (["1 x=1x3"], "--input '1 x=1x3': '1 x' is not the name of an argument; write name=1x3x224x224"),
        (["x=1", "x=2"], "--input x is given twice; keep one"),
        (["1:bfloat"], "--input '1:bfloat': 'bfloat' is not a dtype of torch; did you mean bfloat16 or float64 or"
                       " float32?"),
        (["1:xyz"], "--input '1:xyz': 'xyz' is not a dtype of torch; did you mean float32 or float16 or bfloat16 or"
                    " float64 or int64?"),
    ],
)  # fmt: skip
def test_wrong_inputs(texts: list[str], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        arguments.inputs(texts)
    assert str(raised.value) == text


def test_every_dtype_that_is_offered_is_one_of_torch() -> None:
    optional = {"float8_e8m0fnu"}  # from torch 2.7
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in {*arguments.DTYPES} - optional)

"""VMamba against what is published of it: parameters, logits of small forms, multiply-adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import flopscan
from flopscan.models import vmamba

PUBLISHED = json.loads((Path(__file__).parents[1] / "data" / "vmamba_models.json").read_text())
MODELS = PUBLISHED["models"]
SMALL = {"dims": 8, "depths": (1, 2), "num_classes": 5}


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters lose their values as they are registered."""
    register = nn.Module.register_parameter

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, None if parameter is None else nn.Parameter(parameter.to("meta")))

    monkeypatch.setattr(nn.Module, "register_parameter", to_meta)


def published_parameters(name: str) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in order, from the folded list of the fixture."""
    return [
        (prefix.format(i) + parameter, tuple(shape))
        for prefix, count, group in MODELS[name]["state_dict"]
        for i in range(count)
        for parameter, shape in group
    ]


def fill(model: nn.Module) -> None:
    """Give every parameter the values that the fill rule of the fixture says."""
    for i, (name, parameter) in enumerate(model.named_parameters()):
        size = torch.arange(parameter.numel(), dtype=torch.float64)
        values = (0.05 * torch.sin(0.1 * (i + 1) * size)).reshape(parameter.shape)
        if name.endswith("A_logs"):
            values += torch.arange(1, parameter.shape[-1] + 1, dtype=torch.float64).log()
        if name.endswith("Ds") or (name.endswith("weight") and parameter.dim() == 1):
            values += 1
        parameter.data.copy_(values)


def test_the_published_models_are_all_there() -> None:
    assert set(vmamba.CONFIGS) == set(MODELS)
    for name, published in MODELS.items():
        config = json.loads(json.dumps(dict(vmamba.CONFIGS[name])))
        assert published["config"].items() <= config.items()


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_published_ones(name: str) -> None:
    model = vmamba.build(name)
    expected = published_parameters(name)
    assert [(name, tuple(p.shape)) for name, p in model.named_parameters()] == expected
    assert [(name, tuple(p.shape)) for name, p in model.state_dict().items()] == expected
    assert sum(p.numel() for p in model.parameters()) == MODELS[name]["params"]
    checkpoint = {name: torch.empty(shape, device="meta") for name, shape in expected}
    model.load_state_dict(checkpoint, strict=True, assign=True)


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_s2l5", "vmamba_base_s1l20", "vmamba_small_v0"])
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    model = vmamba.build(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model(torch.empty(vmamba.INPUT_SHAPE, device="meta"))
    assert logits.shape == (1, 1000)
    assert counter.get_total_flops() == 2 * MODELS[name]["contraction_macs"]


@pytest.mark.parametrize("small", PUBLISHED["forward"], ids=lambda small: small["name"])
def test_logits_are_those_of_the_official_model(small: dict[str, Any]) -> None:
    model = vmamba.VMamba(**small["config"]).eval()
    assert sum(p.numel() for p in model.parameters()) == small["params"]
    fill(model)
    images = torch.sin(0.01 * torch.arange(2 * 3 * 64 * 64, dtype=torch.float64)).reshape(2, 3, 64, 64).float()
    with torch.no_grad():
        torch.testing.assert_close(model(images), torch.tensor(small["logits"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_v0"])
def test_a_state_dict_goes_round(name: str) -> None:
    one, other = (vmamba.build(name, **SMALL).eval() for _ in range(2))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(one(images), other(images))
        other.load_state_dict(one.state_dict(), strict=True)
        assert torch.equal(one(images), other(images))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_v0"])
def test_low_precision_on_meta(name: str, dtype: torch.dtype) -> None:
    with torch.device("meta"):
        model = vmamba.build(name, **SMALL).to(dtype)
        images = torch.empty(2, 3, 64, 64, dtype=dtype)
    logits = model(images)
    logits.sum().backward()
    assert (logits.shape, logits.dtype) == ((2, 5), dtype)
    assert all(p.grad is not None and p.grad.dtype == dtype for p in model.parameters())


class Names(TorchDispatchMode):
    """Remembers the name of every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_v0"])
def test_every_block_scans_once(name: str) -> None:
    with torch.device("meta"):
        model = vmamba.build(name, **SMALL)
        with Names() as names:
            model(torch.empty(1, 3, 64, 64)).sum().backward()
    assert names.seen.count("flopscan::selective_scan") == sum(SMALL["depths"])
    assert names.seen.count("flopscan::selective_scan_backward") == sum(SMALL["depths"])


def test_scan_and_merge_visit_every_pixel_four_times() -> None:
    image = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    sequences = vmamba.cross_scan(image)
    assert sequences.shape == (2, 4, 3, 20)
    assert sequences[0, 0, 0, :6].tolist() == [0, 1, 2, 3, 4, 5]
    assert sequences[0, 1, 0, :6].tolist() == [0, 5, 10, 15, 1, 6]
    assert torch.equal(sequences[:, 2:], sequences[:, :2].flip(-1))
    assert torch.equal(vmamba.cross_merge(sequences, 4, 5), 4 * image)


def test_merge_adds_three_times_an_element() -> None:
    class Additions(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Tensor:
            out = func(*args, **(kwargs or {}))
            self.elements += out.numel() if func is torch.ops.aten.add.Tensor else 0
            return out

    with Additions() as additions:
        vmamba.cross_merge(torch.rand(2, 4, 3, 20), 4, 5)
    assert additions.elements == 3 * (2 * 3 * 20)


def test_drop_path_keeps_the_mean_in_training_and_everything_in_eval() -> None:
    drop = vmamba.DropPath(0.25)
    images = torch.ones(4000, 2, 1, 1)
    kept = drop(images)
    assert set(kept.flatten().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert abs(kept.mean() - 1) < 0.05
    assert drop.eval()(images) is images
    rates = [m.rate for m in vmamba.build("vmamba_tiny", **SMALL).modules() if isinstance(m, vmamba.DropPath)]
    assert rates == [0.0, 0.1, 0.2]


def test_channels_may_be_last_in_the_newer_forms() -> None:
    """norm_layer only says where channels are: the same parameters give the same logits."""
    first, last = (vmamba.build("vmamba_tiny", **SMALL, norm_layer=norm).eval() for norm in ("ln2d", "ln"))
    last.load_state_dict(first.state_dict(), strict=True)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(first(images), last(images))


def test_odd_sizes_are_padded_where_patches_merge() -> None:
    with torch.device("meta"):
        assert vmamba.build("vmamba_tiny_v0", **SMALL)(torch.empty(1, 3, 36, 44)).shape == (1, 5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"forward_type": "v2"}, "forward_type is 'v2', and can be 'v0' or 'v05_noz'"),
        ({"norm_layer": "bn"}, "norm_layer is 'bn', and can be 'ln' or 'ln2d'"),
        ({"patchembed_version": "v3"}, "patchembed_version is 'v3', and can be 'v1' or 'v2'"),
        ({"downsample_version": "v2"}, "downsample_version is 'v2', and can be 'v1' or 'v3'"),
        ({"downsample_version": "v1"}, "downsample_version 'v1' needs channels last: it goes with norm_layer 'ln'"),
    ],
)
def test_other_forms_are_refused(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vmamba.build("vmamba_tiny", **{**SMALL, **overrides})


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no VMamba is called 'vmamba_huge'; there are vmamba_tiny, vmamba_small,"):
        vmamba.build("vmamba_huge")


@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_v0"])
@pytest.mark.parametrize("size", [(32, 32), (36, 52)])
def test_one_operator_does_what_its_parts_do(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model, apart = (vmamba.build(name, **SMALL, ssm_d_state=3, fused=fused).eval() for fused in (True, False))
    apart.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, *size)

    def run(model: nn.Module) -> list[Tensor]:
        logits = model(images)
        return [logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()))]

    with Names() as names:
        whole = run(model)
    assert names.seen.count("flopscan::cross_selective_scan") == sum(SMALL["depths"])
    assert names.seen.count("flopscan::cross_selective_scan_backward") == sum(SMALL["depths"])
    assert "flopscan::selective_scan" not in names.seen
    with Names() as names:
        parts = run(apart)
    assert names.seen.count("flopscan::selective_scan") == sum(SMALL["depths"])
    assert "flopscan::cross_selective_scan" not in names.seen
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_torch_jit_records_the_parts() -> None:
    model = vmamba.build("vmamba_tiny", **SMALL).eval()
    with torch.no_grad():
        graph = torch.jit.trace(model, torch.rand(1, 3, 32, 32)).inlined_graph
    kinds = [node.kind() for node in graph.nodes()]
    assert kinds.count("flopscan::selective_scan") == sum(SMALL["depths"])
    assert "flopscan::cross_selective_scan" not in kinds


@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_v0"])
@pytest.mark.parametrize("backward", [False, True])
def test_a_run_for_real_is_counted_as_its_shapes_are(name: str, backward: bool) -> None:
    model, images = vmamba.build(name, **SMALL), torch.rand(1, 3, 32, 32)
    shapes, real = (flopscan.count(model, images, backward=backward, strict=True, run=run) for run in (False, True))
    for convention in ("macs", "vmamba", "vmamba-v0", "gu", "fvcore", "dispatcher", "torch~groups"):
        assert int(real.under(convention)) == int(shapes.under(convention)), convention
    # backward the parts add up gradients of four sequences, where the operator has those of one image
    more = int(shapes.flops) - int(real.flops)
    assert more > 0 if backward else more == 0


@pytest.mark.parametrize("name", ["vmamba_tiny", "vmamba_tiny_v0"])
def test_compiled_and_exported_whole(name: str) -> None:
    model, images = vmamba.build(name, **SMALL).eval(), torch.rand(2, 3, 32, 32)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        logits = model(images)
        torch.testing.assert_close(compiled(images), logits)
        program = torch.export.export(model, (images,))
        torch.testing.assert_close(program.module()(images), logits)
    scans = [n for n in program.graph.nodes if n.target is torch.ops.flopscan.cross_selective_scan.default]
    assert len(scans) == sum(SMALL["depths"])

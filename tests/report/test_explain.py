"""From one total to another: the steps sum, and say what they are."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import flopscan
from flopscan import conventions
from flopscan.cli.main import main
from flopscan.core.convention import Bug
from flopscan.errors import UsageError
from flopscan.report import explain as module
from flopscan.testing.nets import ResNet50


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.LayerNorm(4)
        self.fc = nn.Linear(4, 5)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x).flatten(2).transpose(1, 2))
        x = self.attention(x, x, x)[0]
        x = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return F.gelu(self.fc(x)).softmax(-1)


@pytest.mark.parametrize("backward", [False, True])
def test_steps_sum_between_every_two_conventions(backward: bool) -> None:
    report = flopscan.count(Net(), (1, 3, 6, 6), backward=backward)
    for first, second in itertools.permutations(set(conventions.names()) - {"6nd", "palm", "torchtitan"}, 2):
        found = report.explain(first, second)
        assert int(found.start) == int(report.under(first))
        assert int(found.start) + sum(s.amount for s in found.steps) == int(found.end) == int(report.under(second))
        assert "other" not in {s.reason for s in found.steps}
        assert [abs(s.amount) for s in found.steps] == sorted((abs(s.amount) for s in found.steps), reverse=True)


def gpt2() -> flopscan.Report:
    """GPT-2 small, on 128 tokens."""
    pytest.importorskip("transformers")
    return flopscan.count("hf:gpt2")


@pytest.mark.parametrize(
    "make",
    [lambda: flopscan.count(ResNet50().eval(), (1, 3, 224, 224)), lambda: flopscan.count("vmamba_tiny"), gpt2],
    ids=["ResNet-50", "VMamba-T", "GPT-2"],
)
def test_every_difference_on_whole_models_has_a_named_reason(make: Callable[[], flopscan.Report]) -> None:
    report = make()
    names = [n for n in conventions.names() if conventions.get(n).whole is None]
    for first, second in itertools.permutations(names, 2):
        found = report.explain(first, second)
        assert int(found.start) + sum(s.amount for s in found.steps) == int(found.end) == int(report.under(second))
        unnamed = [s for s in found.steps if re.match(r"other|module |formulas of the whole model", s.reason)]
        assert sum(abs(s.amount) for s in unnamed) <= max(int(found.start), int(found.end)) / 1000, (first, second)


def test_what_a_mask_hides_and_what_one_does_not_count_are_steps() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.weight = nn.Conv2d(4, 4, 1), nn.Parameter(torch.zeros(4, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(self.layer(x), self.weight)

    (step,) = flopscan.count(Two(), (1, 4, 3, 3)).explain("macs", "thop").steps
    assert (step.reason, step.amount) == ("- convolution that thop does not count", -4 * 4 * 9)
    causal = flopscan.count(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), (1, 2, 6, 8))
    hidden = 2 * 15 * 2 * 8
    (step,) = causal.explain("macs", "torchprofile").steps
    assert (step.reason, step.amount) == ("+ pairs that a mask hides", hidden)
    (step,) = causal.explain("torchprofile", "macs").steps
    assert (step.reason, step.amount) == ("- pairs that a mask hides", -hidden)


def test_the_reasons_are_named_with_their_numbers() -> None:
    report = flopscan.count(nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16)), (4, 8))
    found = report.explain("macs", "fvcore")
    assert [(s.reason, s.amount) for s in found.steps] == [("+ layer norm", 5 * 4 * 16)]
    doubled = report.explain("macs", "dispatcher")
    assert [(s.reason, s.amount) for s in doubled.steps] == [("x2: a multiply-add is two", 4 * 8 * 16)]


def test_a_known_bug_is_a_step_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    plain = conventions.get("macs")
    right = {"aten::addmm": lambda call: 4 * 8 * 16}
    wrong = replace(
        plain, name="wrong", handles={"aten::addmm": lambda call: 10_000}, bugs=(Bug("ten thousand", "issue 1", right),)
    )
    monkeypatch.setattr(module.conventions, "get", {"macs": plain, "wrong": wrong}.__getitem__)
    report = flopscan.count(nn.Linear(8, 16), (4, 8), convention="macs")
    (step,) = report.explain("macs", "wrong").steps
    assert (step.reason, step.amount) == ("bug of wrong: ten thousand (issue 1)", 10_000 - 4 * 8 * 16)
    (back,) = report.explain("wrong", "macs").steps
    assert (back.reason, back.amount) == ("bug of wrong mended: ten thousand (issue 1)", 4 * 8 * 16 - 10_000)


def test_what_one_tool_takes_as_a_module_is_one_family() -> None:
    from dataclasses import replace

    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    report = flopscan.count(lambda x: layer(x, x, x)[0], (1, 5, 8))
    whole = "module::torch.nn.modules.activation.MultiheadAttention"
    a = replace(conventions.get("macs"), name="a", handles={whole: lambda call: 123}, weights={})
    b = conventions.get("macs")
    steps = module._between(report.ledger, a, b)
    assert {s.reason for s in steps} <= {"multi-head attention, counted otherwise", "x2: a multiply-add is two"}
    assert sum(s.amount for s in steps) == int(b.total(report.ledger)) - 123


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "vmamba_tiny", "--between", "vmamba,dispatcher"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["vmamba,", "mixed", "4,905,609,984"]
    assert out[1].split()[-1] == "+4,812,621,312"
    assert main(["explain", "vmamba_tiny", "--between", "vmamba,flops", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["from"]["value"] + sum(s["amount"] for s in data["steps"]) == data["to"]["value"]
    assert main(["explain", "vmamba_tiny", "--between", "vmamba"]) == 2
    assert main(["explain", "vmamba_tiny", "--between", "vmamba,fvcor"]) == 2
    assert "did you mean fvcore" in capsys.readouterr().err


def test_an_unknown_convention_lists_the_near_ones() -> None:
    report = flopscan.count(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(UsageError, match="did you mean fvcore"):
        report.explain("fvcor", "flops")

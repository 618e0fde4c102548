"""From one total to another: the steps sum, and say what they are."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import flopscan
import whole_models
from flopscan import conventions
from flopscan.cli.main import main
from flopscan.core.convention import Bug
from flopscan.errors import UsageError
from flopscan.report import explain as module
from flopscan.report import explain_text
from flopscan.report.explain import Explainer, Step
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


def explained(report: flopscan.Report, of: int = 1) -> int:
    """One pair in ``of`` of conventions that have a number for it: the steps sum, and are named. How many pairs."""
    explainer, pairs = Explainer(report.ledger), 0
    totals = {}
    for name in conventions.names():
        with contextlib.suppress(UsageError):  # a formula of language models, on images
            totals[name] = int(report.under(name))
    for first, second in itertools.islice(itertools.permutations(totals, 2), 0, None, of):
        found = explainer.between(first, second)
        assert int(found.start) == totals[first]
        assert totals[first] + sum(s.amount for s in found.steps) == int(found.end) == totals[second]
        assert all(step.amount and step.reason for step in found.steps)
        unnamed = [s.amount for s in found.steps if re.match(r"other|by other", s.reason)]
        assert sum(map(abs, unnamed)) <= max(totals[first], totals[second]) / 1000, (first, second)
        pairs += 1
    return pairs


@pytest.mark.parametrize(
    "make",
    [lambda: flopscan.count(ResNet50().eval(), (1, 3, 224, 224)), lambda: flopscan.count("vmamba_tiny_s2l5")],
    ids=["ResNet-50", "VMamba-T"],
)
def test_every_difference_on_whole_models_has_a_named_reason(make: Callable[[], flopscan.Report]) -> None:
    assert explained(make(), of=11) >= 27 * 26 // 11


@pytest.mark.peers
@pytest.mark.parametrize("of", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", whole_models.INPUTS)
def test_every_difference_on_twelve_models_has_a_named_reason(name: str, of: int) -> None:
    """At full size; every pair where there is time (`make test-pairs`)."""
    try:
        report = whole_models.counted(name)
    except ImportError as error:
        pytest.skip(str(error))
    assert explained(report, of) >= 27 * 26 // of


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
        plain,
        name="wrong",
        handles={"aten::addmm": lambda call: 10_000},
        bugs=(Bug("k", "ten thousand", "issue 1", right),),
    )
    monkeypatch.setattr(module.conventions, "get", {"macs": plain, "wrong": wrong}.__getitem__)
    report = flopscan.count(nn.Linear(8, 16), (4, 8), convention="macs")
    (step,) = report.explain("macs", "wrong").steps
    assert step == Step("mistake of wrong: ten thousand", 10_000 - 4 * 8 * 16, "issue 1")
    (back,) = report.explain("wrong", "macs").steps
    assert back == Step("mistake of wrong mended: ten thousand", 4 * 8 * 16 - 10_000, "issue 1")


def test_what_one_tool_takes_as_a_module_is_one_family() -> None:
    from dataclasses import replace

    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    report = flopscan.count(lambda x: layer(x, x, x)[0], (1, 5, 8))
    whole = "module::torch.nn.modules.activation.MultiheadAttention"
    a = replace(conventions.get("macs"), name="a", handles={whole: lambda call: 123}, weights={})
    b = conventions.get("macs")
    steps = dict(Explainer(report.ledger)._reasons(a, b))
    assert {re.sub(r"^[+-] ", "", reason).partition(":")[0] for reason in steps} <= {
        "multi-head attention",
        "bias twice",
    }
    assert sum(steps.values()) == int(b.total(report.ledger)) - 123


def test_a_formula_of_a_whole_model_is_led_to_by_its_passes_and_parameters() -> None:
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 16), nn.LayerNorm(16))
    report = flopscan.count(model, torch.zeros(1, 4, dtype=torch.int64))
    fma = 4 * 8 * 16
    assert [(s.reason, s.amount) for s in report.explain("macs", "6nd").steps] == [
        ("x3: forward, and backward twice as much", 4 * fma),
        ("+ embedding", 6 * 4 * 80),
        ("+ layer norm", 6 * 4 * 32),
        ("x2: a multiply-add is two", fma),
        ("+ bias, by six a token", 6 * 4 * 16),
    ]


def test_what_is_seen_of_one_phase_alone_is_a_step() -> None:
    report = flopscan.count(nn.Linear(8, 16), (4, 8), backward=True)
    (forward, backward) = (report.using("torch").by_phase()[p].value for p in ("forward", "backward"))
    assert [(s.reason, s.amount) for s in report.explain("macs", "torchprofile").steps] == [
        ("- backward, which torchprofile does not see", -backward // 2)
    ]
    assert [(s.reason, s.amount) for s in report.explain("torchprofile", "torch").steps] == [
        ("+ backward, which torchprofile does not see", backward),
        ("x2: a multiply-add is two", forward // 2),
    ]


def test_numbers_an_element_and_on_average() -> None:
    norm = flopscan.count(nn.LayerNorm(16), (4, 16))
    assert [s.reason for s in norm.explain("torchprofile", "fvcore").steps] == ["layer norm: 5 an element, not 1"]
    softmax = flopscan.count(nn.Softmax(-1), (4, 16))
    (step,) = softmax.explain("thop", "torch-flops").steps  # 3 * 16 - 1 a row, and none for the function
    assert step.reason == "- softmax"
    (step,) = softmax.explain("thop", "flops").steps
    assert step.reason.startswith("softmax: ") and step.reason.endswith("an element on average, not 2.94")


@pytest.mark.parametrize("width", [44, 60, 80, 120])
def test_the_text_fits_and_every_digit_is_there(width: int) -> None:
    found = flopscan.count(Net(), (1, 3, 6, 6)).explain("ptflops", "flops")
    text = explain_text.render(found, width=width)
    assert max(map(len, text.splitlines())) <= width
    at = 0
    for number in (f"{int(found.start):,}", *(f"{step.amount:+,}" for step in found.steps), f"{int(found.end):,}"):
        at = text.index(number, at) + len(number)
    assert "sovrasov/flops-counter.pytorch" in text.replace("\n", " ")
    assert "\x1b[" in explain_text.render(found, width=width, color=True)


def test_no_difference_is_said() -> None:
    text = str(flopscan.count(nn.Linear(2, 2), (1, 2)).explain("macs", "fvcore"))
    assert [" ".join(line.split()) for line in text.splitlines()[-3:]] == [
        "macs (MAC) 4", "no difference", "fvcore (fvcore flop) 4",
    ]  # fmt: skip


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "vmamba_tiny", "--between", "vmamba,dispatcher", "--width", "90"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "vmamba_tiny, 1x3x224x224 float32"
    assert out[2].split() == ["vmamba", "(mixed)", "4,905,609,984"]
    assert out[3].split()[-2:] == ["+4,812,621,312", "50.0%"]
    assert main(["explain", "vmamba_tiny", "--between", "vmamba,flops", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["from"]["value"] + sum(s["amount"] for s in data["steps"]) == data["to"]["value"]
    assert main(["explain", "vmamba_tiny", "--between", "ptflops,ptflops~all", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["steps"] and all(step["source"] for step in data["steps"])
    assert main(["explain", "vmamba_tiny", "--between", "vmamba"]) == 2
    assert main(["explain", "vmamba_tiny", "--between", "vmamba,fvcor"]) == 2
    assert "did you mean fvcore" in capsys.readouterr().err


def test_what_was_saved_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = flopscan.count(ResNet50().eval(), (1, 3, 64, 64))
    report.ledger.trace.save(str(tmp_path / "a.trace.json"))
    report.ledger.save(str(tmp_path / "a.ledger.json.gz"))
    report.save(tmp_path / "a.json")
    expected = [step.reason for step in report.explain("thop", "torch").steps]
    for name in ("a.trace.json", "a.ledger.json.gz"):
        assert main(["explain", str(tmp_path / name), "--between", "thop,torch", "--format", "json"]) == 0
        assert [step["reason"] for step in json.loads(capsys.readouterr().out)["steps"]] == expected
    assert main(["explain", str(tmp_path / "a.json"), "--between", "thop,torch"]) == 2
    assert "is a report, which has sums alone; expected a saved trace or ledger" in capsys.readouterr().err


def test_an_unknown_convention_lists_the_near_ones() -> None:
    report = flopscan.count(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(UsageError, match="did you mean fvcore"):
        report.explain("fvcor", "flops")

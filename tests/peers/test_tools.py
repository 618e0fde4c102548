"""Other counters as adapters: which there are, how they call a model, and a process that survives all they do.

What starts such a process is among what `make test-peers` runs.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import flopscan
from flopscan import conventions
from flopscan.errors import UsageError
from flopscan.peers import asking, beside, tools
from flopscan.peers.tools import Tool, ToolError
from flopscan.report.answers import Answer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor, y: Tensor | None = None, scale: float = 2.0, *, mask: Tensor | None = None) -> Tensor:
        x = self.layer(x) * scale
        return x if y is None else x + y


def test_every_tool_has_conventions_and_one_name() -> None:
    assert len({tool.name for tool in tools.TOOLS}) == len(tools.TOOLS)
    for tool in tools.TOOLS:
        for name in tool.conventions:
            assert conventions.get(name).name == name and conventions.get(name).version
        function = asking._function(tool.ask.__module__, tool.ask.__qualname__)
        assert function is tool.ask, "another process finds it by its name"


def test_tools_are_found_by_their_names() -> None:
    assert [tool.name for tool in tools.find("thop, fvcore,thop")] == ["thop", "fvcore"]
    assert tools.find("all") == tools.find("fvcore,all") == list(tools.TOOLS)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("fvcor", "there is no tool 'fvcor'; did you mean fvcore?"),
        ("fvcore,calflop", "there is no tool 'calflop'; did you mean calflops"),
        ("xyz", "there is no tool 'xyz'; expected torch, fvcore, "),
        ("all,xyz", "there is no tool 'xyz'; expected torch, fvcore, "),
        (",", "--tools names no tool; expected some of torch, fvcore, "),
    ],
)
def test_another_name_is_refused(names: str, text: str) -> None:
    with pytest.raises(UsageError) as error:
        tools.find(names)
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("name", "installed", "convention"),
    [
        ("torch", "2.13.0+cpu", "torch-2.13"),
        ("torch", "2.14.1", "torch-2.14"),
        ("torch", "2.13.0", "torch-2.13"),
        ("torch", "2.15.0", "torch"),
        ("torch", "3.0", "torch"),
        ("torch", "2.6.0", "torch-2.13"),
        ("fvcore", "0.1.5.post20221221", "fvcore"),
        ("ptflops", "0.7.5", "ptflops"),
        ("ptflops", "0.1", "ptflops"),
    ],
)
def test_the_convention_is_that_of_the_version(name: str, installed: str, convention: str) -> None:
    assert conventions.of_version(name, installed) == convention


def test_how_inputs_are_handed_over() -> None:
    net = Net()
    assert tools.as_given(net, (1,), {"y": 2}) == ((1,), {"y": 2})
    assert tools.by_place(net, (1, 2), {}) == ((1, 2), {})
    assert tools.by_place(net, (1,), {"y": 2}) == ((1, 2), {})
    assert tools.by_place(net, (1,), {"scale": 3}) == ((1, None, 3), {}), "with the default between them"
    assert tools.by_place(net, (), {"y": 2, "x": 1}) == ((1, 2), {})
    with pytest.raises(ToolError, match="gives inputs by place, and the model takes 'mask' by name alone"):
        tools.by_place(net, (1,), {"mask": 2})
    assert tools.one_or_named(net, (1,), {}) == ((1,), {})
    assert tools.one_or_named(net, (), {"x": 1}) == ((), {"x": 1})
    assert tools.one_or_named(net, (1, 2), {"scale": 3}) == ((), {"x": 1, "y": 2, "scale": 3})


def test_several_inputs_by_name() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor, *rest: Tensor, **named: Tensor) -> Tensor:
            return x

    class Placed(nn.Module):
        def forward(self, *given: Tensor) -> Tensor:
            return given[0]

    assert tools.one_or_named(Net(), (1, 2), {}) == ((), {"x": 1, "y": 2})
    assert tools.one_or_named(Named(), (1, 2), {"z": 3}) == ((), {"x": 1, "input_1": 2, "z": 3})
    assert tools.one_or_named(Placed(), (1,), {}) == ((1,), {})
    with pytest.raises(ToolError, match="by name, and the model takes them by place alone"):
        tools.one_or_named(Placed(), (1, 2), {})


def test_a_tool_runs_in_this_process(capfd: pytest.CaptureFixture[str]) -> None:
    (tool,) = tools.find("torch")
    net, x = Net(), torch.randn(2, 3)
    with FlopCounterMode(display=False) as counter:
        net(x)
    assert tools.run(tool, net, (x,)) == tools.run(tool, net, (), {"x": x}) == (counter.get_total_flops(),)
    assert (counter.get_total_flops(), capfd.readouterr()) == (2 * 2 * 3 * 4, ("", ""))
    assert flopscan.count(net, (2, 3)).under("torch") == counter.get_total_flops()


def test_a_module_of_another_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_two_packages.py").write_text("__version__ = '9.9.9'")
    monkeypatch.syspath_prepend(str(tmp_path))
    tool = Tool("two", "pytest", ("flops",), lambda *_: [1], tools.as_given, module="of_two_packages")
    with pytest.raises(ToolError, match=r"the module of_two_packages is another package's, of version 9.9.9 and not"):
        tools.run(tool, Net(), (torch.zeros(2, 3),))


FAKES = """
    import os, signal, sys

    import torch
    from torch import nn


    class Net(nn.Module):
        def __init__(self, width=4):
            super().__init__()
            self.layer = nn.Linear(3, width)

        def forward(self, x):
            return self.layer(x)


    def exact(model, args, kwargs):
        assert not model.training and not torch.is_grad_enabled()
        print("a table")
        os.write(1, b"and what is not Python's\\n")
        nn.functional.linear = None
        return [float(len(args[0]) * model.layer.weight.numel())]


    def more(model, args, kwargs):
        return [100]


    def raises(model, args, kwargs):
        try:
            raise ValueError("two\\nlines " + 1000 * "x")
        except ValueError as error:
            raise RuntimeError("something went wrong") from error


    def crashes(model, args, kwargs):
        os.kill(os.getpid(), signal.SIGSEGV)


    def leaves(model, args, kwargs):
        print("good bye", file=sys.__stderr__, flush=True)
        os._exit(3)
"""
HANGS = """
    import pathlib, subprocess, sys, time

    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path("pid").write_text(str(other.pid))
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with fakes.py, from where it can be imported."""
    (tmp_path / "fakes.py").write_text(textwrap.dedent(FAKES))
    (tmp_path / "hangs.py").write_text(textwrap.dedent(HANGS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def fake(function: str, module: str = "fakes", **fields: Any) -> Tool:
    """A tool whose function is in ``module``, which is not imported here."""

    def ask(*given: Any) -> Any:
        raise AssertionError("it runs in a process of its own")

    ask.__module__, ask.__qualname__ = module, function
    return dataclasses.replace(Tool(function, "pytest", ("macs",), ask, tools.by_place), **fields)


def answer(function: str, **fields: Any) -> Answer:
    subject = beside.subject("fakes.py:Net", ("2x3",), ("width=5",))
    (found,) = subject.ask(fake(function, **fields))
    assert found.ours == 2 * 3 * 5, "ours stands there whatever the tool does"
    return found


@pytest.mark.peers
def test_a_number_and_its_residual(folder: Path) -> None:
    before = nn.functional.linear
    found = answer("exact")
    assert (found.theirs, found.residual, found.unit, found.status) == (30, 0, "MAC", "said")
    assert nn.functional.linear is before, "what a tool leaves behind is gone with its process"
    assert (answer("more").residual, answer("more").reason) == (70, "")


@pytest.mark.peers
def test_a_residual_of_another_version_says_so(folder: Path) -> None:
    subject = beside.subject("fakes.py:Net", ("2x3",), ())
    (found,) = subject.ask(fake("more", conventions=("thop",)))
    assert (found.residual, found.reason) == (100 - 2 * 3 * 4, "the convention is of version 0.1.1")


@pytest.mark.peers
def test_a_residual_says_what_is_known_of_the_counter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "version", lambda tool: "0.1.0")
    subject = beside.subject("fakes.py:Net", ("2x3",), ())
    (found,) = subject.ask(fake("more", conventions=("torchprofile",)))
    assert found.residual and found.reason.startswith("known of it: it counts products of sizes, which torch.jit")


@pytest.mark.peers
def test_a_tool_that_raises_says_why_in_one_short_line(folder: Path) -> None:
    found = answer("raises")
    assert (found.theirs, found.residual, found.status) == (None, None, "fails")
    assert found.reason.startswith("ValueError: two lines xxx") and found.reason.endswith("…")
    assert len(found.reason) == 240 and "\n" not in found.reason


@pytest.mark.peers
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_tool_that_ends_its_process_says_how(folder: Path) -> None:
    found = answer("crashes")
    assert (found.theirs, found.status) == (None, "died")
    assert found.reason.startswith("it ended its process (signal SIGSEGV)")
    assert answer("leaves").reason == "it ended its process (exit code 3): good bye"


@pytest.mark.peers
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_tool_that_hangs_is_stopped_with_all_that_it_started(folder: Path) -> None:
    start = time.monotonic()
    reply = asking.ask(fake("ask", "hangs"), "fakes.py:Net", ["2x3"], [], seconds=8)
    assert time.monotonic() - start < 60
    assert reply == asking.Reply(status="stopped after 8 s", reason="--timeout gives it longer")
    other = int((folder / "pid").read_text())
    for _ in range(50):
        if not _runs(other):
            return
        time.sleep(0.1)
    os.kill(other, signal.SIGKILL)
    pytest.fail("the process that the tool started still runs")


def _runs(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return not Path("/proc/self/stat").exists()


def test_a_tool_that_is_not_installed_starts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ask", None)
    found = answer("exact", distribution="no-such-distribution")
    assert (found.theirs, found.version, found.status) == (None, "", "not installed")
    assert found.reason == "pip install no-such-distribution"


def test_weights_that_do_not_fit_start_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ask", None)
    monkeypatch.setattr(os, "sysconf", lambda name: 8)
    found = answer("exact")
    assert (found.status, found.reason.split(",")[0]) == ("too large", "its weights are 0 GB")


@pytest.mark.peers
def test_inputs_that_a_tool_cannot_hand_over(folder: Path) -> None:
    (folder / "named.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def forward(self, *, x):\n        return x @ x\n"
    )
    (found,) = beside.subject("named.py:Net", ("x=2x2",)).ask(fake("exact"))
    assert (found.theirs, found.ours, found.status) == (None, None, "fails")
    assert found.reason == "it gives inputs by place, and the model takes 'x' by name alone"


def test_a_target_without_an_input_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="has no default input; give one, as in --input"):
        beside.subject("fakes.py:Net")

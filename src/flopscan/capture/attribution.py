"""Attribution: which module, which phase and which source line an operator call belongs to.

Modules: `nn.Module.__call__` is patched for the time of a capture (0.4 us a call; hooks cost five times that and break
on exceptions). Backward: an autograd node carries the sequence number that it got in forward, so the module that was
running at that number owns the node's work, without a hook on any tensor.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

from flopscan.capture.module_calls import ModuleCalls
from flopscan.capture.recorder import Recorder

_sequence: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]
_graph_task: Callable[[], int] = torch._C._current_graph_task_id  # type: ignore[attr-defined]
_node: Callable[[], Any] = torch._C._current_autograd_node  # type: ignore[attr-defined]

_CAPTURE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep


class Attribution:
    """Where the running code is: ``module`` (an index into the recorder's modules), ``phase()`` and ``line()``."""

    def __init__(
        self,
        recorder: Recorder,
        root: nn.Module | None = None,
        *,
        lines: bool = False,
        adopt: Callable[[nn.Module], object] | None = None,
    ) -> None:
        self.recorder = recorder
        self.module = 0
        self.failed_in: int | None = None
        self.lines = lines
        self._adopt = adopt  # told of every module that is not below the root, before it runs
        self._failure: BaseException | None = None
        self._root = root
        self._names: dict[int, list[str]] = {}
        self._paths: dict[tuple[int, int], int] = {}
        self._alive: list[nn.Module] = []  # modules made while running: keep them, so that no id is used twice
        self._by_path: dict[str, int] = {}
        self._counted: set[int] = set()  # parameters that a module already owns: one that is tied counts once
        if root is None:
            self._by_path[""] = recorder.module("", "", 0)
        else:
            self._list(root, "")
        self._numbers: list[int] = []
        self._owners: list[int] = []
        self._nested = 0
        self._recomputing = 0
        self._stepping = 0
        self._line_cache: dict[tuple[Any, int], int] = {}

    def where(self) -> tuple[int, str]:
        """The module and the phase of the operator that is being dispatched."""
        if _graph_task() == -1:
            if self._stepping:
                return self.module, "optimizer"
            number = _sequence()
            if not self._numbers or number > self._numbers[-1]:
                self._numbers.append(number)
                self._owners.append(self.module)
            return self.module, "forward"
        if self._nested or self._recomputing:
            number = _sequence()
            if not self._numbers or number > self._numbers[-1]:
                self._numbers.append(number)
                self._owners.append(self.module)
            return self.module, "recompute"
        node = _node()
        if node is None or not self._numbers or node._sequence_nr() > self._numbers[-1]:  # or accumulates a gradient
            return self.module, "backward"
        # a node takes its number before its operator is dispatched: the first dispatch that sees a larger one owns it
        position = bisect.bisect_right(self._numbers, node._sequence_nr())
        return self._owners[min(position, len(self._owners) - 1)], "backward"

    def params(self) -> int:
        """The parameters of every module seen, each once."""
        return sum(module.params for module in self.recorder.modules)

    def line(self) -> int:
        """The source line that called the operator: the nearest frame outside torch and flopscan."""
        frame: Any = sys._getframe(2)
        while frame is not None:
            file = frame.f_code.co_filename
            if not is_ours(file):
                key = (frame.f_code, frame.f_lineno)
                found = self._line_cache.get(key)
                if found is None:
                    text = f"{short(file)}:{frame.f_lineno} {frame.f_code.co_name}"
                    found = self._line_cache[key] = self.recorder.line(text)
                return found
            frame = frame.f_back
        return -1

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Patch what tells modules, recomputation and optimizer steps; everything is restored at the end."""
        original = nn.Module.__call__
        paths, recorder, calls = self._paths, self.recorder, ModuleCalls(self.recorder)

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            parent = self.module
            index = paths.get((parent, id(module)))
            self.module = index = self._enter(parent, module) if index is None else index
            nested = _graph_task() != -1
            self._nested += nested
            before, called = recorder.inside, calls.index(module, args, kwargs)
            recorder.enter(called, index, "recompute" if self._nested or self._recomputing else "forward")
            try:
                output = original(module, *args, **kwargs)
                calls.returned(called, output)
                return output
            except BaseException as error:
                if error is not self._failure:
                    self._failure, self.failed_in = error, index
                raise
            finally:
                self.module = parent
                self._nested -= nested
                recorder.leave(before)

        with contextlib.ExitStack() as stack:
            stack.callback(setattr, nn.Module, "__call__", original)
            nn.Module.__call__ = __call__  # type: ignore[method-assign]
            self._watch_recomputation(stack)
            self._watch_optimizers(stack)
            yield

    def _watch_recomputation(self, stack: contextlib.ExitStack) -> None:
        hook = getattr(torch.utils.checkpoint, "_recomputation_hook", None)
        if hook is not None:
            enter, leave = hook.__enter__, hook.__exit__

            def __enter__(hook_self: Any) -> Any:
                self._recomputing += 1
                return enter(hook_self)

            def __exit__(hook_self: Any, *error: Any) -> Any:
                self._recomputing -= 1
                return leave(hook_self, *error)

            stack.callback(setattr, hook, "__enter__", enter)
            stack.callback(setattr, hook, "__exit__", leave)
            hook.__enter__, hook.__exit__ = __enter__, __exit__

    def _watch_optimizers(self, stack: contextlib.ExitStack) -> None:
        from torch.optim import optimizer

        def begin(*_: Any) -> None:
            self._stepping += 1

        def end(*_: Any) -> None:
            self._stepping -= 1

        stack.callback(optimizer.register_optimizer_step_pre_hook(begin).remove)
        stack.callback(optimizer.register_optimizer_step_post_hook(end).remove)

    def _list(self, root: nn.Module, top: str) -> None:
        """Write down every module below ``root``, called or not, so that the parameters of all add up."""
        for path, module in below(root, top):
            known = self._names.setdefault(id(module), [])
            known.append(path)
            if path not in self._by_path:
                first = self._by_path[known[0]] if known[1:] else -1
                self._by_path[path] = self.recorder.module(path, type(module).__name__, self._own(module), first)

    def _own(self, module: nn.Module) -> int:
        """The parameters of ``module`` itself that no module before it owns."""
        owned = 0
        for parameter in module._parameters.values():
            if parameter is None or id(parameter) in self._counted:
                continue
            self._counted.add(id(parameter))
            if not isinstance(parameter, nn.parameter.UninitializedTensorMixin):
                owned += parameter.numel()
        return owned

    def _enter(self, parent: int, module: nn.Module) -> int:
        path = self._path(self.recorder.modules[parent].path, module)
        index = self._by_path.get(path)
        if index is None:
            index = self._by_path[path] = self.recorder.module(path, type(module).__name__, self._own(module))
        self._paths[parent, id(module)] = index
        return index

    def _welcome(self, module: nn.Module) -> None:
        self._alive.append(module)
        if self._adopt is not None:
            self._adopt(module)

    def _path(self, parent: str, module: nn.Module) -> str:
        names = self._names.get(id(module))
        if names is None and self._root is None and not parent:  # code that runs by itself: each model is a root
            top = type(module).__name__
            twins = sum(path == top or (path.startswith(f"{top} #") and "." not in path) for path in self._by_path)
            self._list(module, f"{top} #{twins + 1}" if twins else top)
            self._welcome(module)
            names = self._names[id(module)]
        if names is None:  # made while running
            self._welcome(module)
            return f"{parent}.{type(module).__name__}" if parent else type(module).__name__
        below = [name for name in names if not parent or name.startswith(parent + ".") or name == parent]
        return (below or names)[0]


def below(root: nn.Module, top: str = "") -> list[tuple[str, nn.Module]]:
    """``root`` and every module below it in their order, by path; a module that is in several places comes each time.

    As `nn.Module.named_modules`, which hands each module up through one generator a level.
    """
    found: list[tuple[str, nn.Module]] = []

    def visit(path: str, module: nn.Module) -> None:
        found.append((path, module))
        for name, child in module._modules.items():
            if child is not None:
                visit(f"{path}.{name}" if path else name, child)

    visit(top, root)
    return found


def is_ours(file: str) -> bool:
    """Whether ``file`` belongs to torch or to the capture, and is not code of the user."""
    return file.startswith((_TORCH, _CAPTURE, "<"))


def short(file: str) -> str:
    """A path as a reader wants it: below site-packages or the working directory where it is there."""
    for root in (*sys.path, os.getcwd()):
        if root and file.startswith(root + os.sep):
            return file[len(root) + 1 :]
    return file

"""Triton launches: seen and not run on shapes, seen and run on a device; each is the operator ``triton::<kernel>``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from flopscan.capture.engine import ShapeEngine
from flopscan.capture.leaves import on_shapes
from flopscan.capture.operators import plain
from flopscan.core.trace import Call


@contextlib.contextmanager
def watched(engine: Any) -> Iterator[None]:
    """Inside, launches are recorded by ``engine``; nothing happens where Triton is not imported and cannot be."""
    watch = _Watch(engine)
    watch.take()
    if watch.taken or "triton" in sys.modules:
        try:
            yield
        finally:
            watch.put_back()
        return
    finder = _WhenImported(watch)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        watch.put_back()


class _WhenImported:
    """A finder that finds nothing: where kernels are about to be defined, Triton is there, and is watched."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """None, for every name."""
        if not self._watch.taken and "triton.runtime.autotuner" in sys.modules:
            self._watch.take()


class _Watch:
    """The methods of Triton by which a kernel is launched, replaced and put back."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._runs = not isinstance(engine, ShapeEngine)
        self.taken: list[tuple[Any, Callable[..., Any]]] = []

    def take(self) -> None:
        """Replace them, where Triton is imported whole."""
        jit, tuner = (sys.modules.get(f"triton.runtime.{name}") for name in ("jit", "autotuner"))
        classes = [getattr(jit, "JITFunction", None), *(getattr(tuner, n, None) for n in ("Autotuner", "Heuristics"))]
        if None in classes:
            return
        for cls, made in zip(classes, (self._launch, self._tune, self._decide), strict=True):
            self.taken.append((cls, cls.run))
            cls.run = made(cls.run)

    def put_back(self) -> None:
        """Make Triton what it was."""
        for cls, run in self.taken:
            cls.run = run
        self.taken.clear()

    def _real(self, args: Any, kwargs: Any) -> bool:
        return self._runs or not on_shapes(args, kwargs)

    def _launch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
            if warmup:
                return original(kernel, *args, grid=grid, warmup=warmup, **kwargs)
            call = _call(kernel, args, kwargs, grid)
            if self._real(args, kwargs):
                return self._engine.leaf(
                    lambda: original(kernel, *args, grid=grid, warmup=warmup, **kwargs), call.op, call.args,
                    gradient=lambda _: None,
                )  # fmt: skip
            self._engine.record(self._engine.recorder.call(call))
            return None

        return run

    def _tune(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The first configuration stands for the one that a device would choose."""

        def run(tuner: Any, *args: Any, **kwargs: Any) -> Any:
            if self._real(args, kwargs):
                return original(tuner, *args, **kwargs)
            config = tuner.configs[0]
            tuner.best_config = config
            return tuner.fn.run(*args, **{**config.kwargs, **kwargs})

        return run

    def _decide(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(heuristics: Any, *args: Any, **kwargs: Any) -> Any:
            if self._real(args, kwargs):
                return original(heuristics, *args, **kwargs)
            for name, decide in heuristics.values.items():
                kwargs[name] = decide({**dict(zip(heuristics.arg_names, args, strict=False)), **kwargs})
            return heuristics.fn.run(*args, **kwargs)

        return run


def _call(kernel: Any, args: Any, kwargs: Any, grid: Any) -> Call:
    """The launch as data: every argument by its name, and the grid."""
    names = [p.name for p in kernel.params]
    bound = dict(zip(names, args, strict=False))
    bound.update({k: v for k, v in kwargs.items() if k in names})
    for p in kernel.params:
        if p.name not in bound and p.has_default:
            bound[p.name] = p.default
    size = tuple(int(n) for n in (grid(bound) if callable(grid) else grid))
    named = {k: plain(v) for k, v in bound.items() if v is not None and not callable(v)}
    return Call(f"triton::{kernel.fn.__name__}", {**named, "grid": size})

"""Triton's autotuner, so that a profile shows what it chose without the profiler.

A profiler slows every launch, and short kernels then seem equally fast whatever their tiles. So the choices are made
by a process of its own, and the profiled one is told them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triton.runtime.autotuner import Autotuner

Run = Callable[[], Any]


class Tuning:
    """Follows every autotuned kernel of this process: ``launches`` says with which choice each was launched."""

    def __init__(self, prepare: Callable[[Any], None]) -> None:
        self.launches: list[dict[str, Any]] = []
        self.tuners: list[Any] = []
        run = Autotuner.run

        def followed(tuner: Any, *args: Any, **kwargs: Any) -> Any:
            if tuner not in self.tuners:
                self.tuners.append(tuner)
                prepare(tuner)
            result = run(tuner, *args, **kwargs)
            self.launches.append({"kernel": tuner.base_fn.__name__, **tuner.best_config.all_kwargs()})
            return result

        Autotuner.run = followed

    def save(self, path: Path, cases: int) -> None:
        """Write every choice, by kernel and by what it was tuned for, and for how many cases that suffices."""
        found = {
            tuner.base_fn.__name__: [[list(key), best.all_kwargs()] for key, best in tuner.cache.items()]
            for tuner in self.tuners
        }
        path.write_text(json.dumps({"cases": cases, "kernels": found}) + "\n")


def share(k: int, n: int) -> Tuning:
    """Try only every ``n``-th choice from the ``k``-th, once, to have it compiled."""

    def prepare(tuner: Any) -> None:
        tuner._do_bench = _once
        tuner.configs = tuner.configs[k::n] or tuner.configs[:1]

    return Tuning(prepare)


def tune() -> Tuning:
    """Choose as Triton does, in a quarter of its time."""

    def prepare(tuner: Any) -> None:
        tuner._do_bench = _briefly

    return Tuning(prepare)


def replay(path: Path) -> tuple[Tuning, int]:
    """Take the choices that were saved; and for how many cases they were made."""
    saved = json.loads(path.read_text())

    def prepare(tuner: Any) -> None:
        for key, settings in saved["kernels"][tuner.base_fn.__name__]:
            tuner.cache[tuple(key)] = next(c for c in tuner.configs if c.all_kwargs() == settings)

    return Tuning(prepare), saved["cases"]


def _once(call: Run, **_: Any) -> list[float]:
    call()
    return [0.0, 0.0, 0.0]


def _briefly(call: Run, **options: Any) -> Any:
    from triton.testing import do_bench

    return do_bench(call, warmup=6, rep=25, **options)

"""A sign of life on stderr for what takes over a second: a spinner on a terminal, one plain line elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 1.0


@contextmanager
def progress(text: str, *, plain: bool = True) -> Iterator[None]:
    """Say ``text`` if what runs inside takes over a second; without a terminal only where ``plain``."""
    stream = sys.stderr
    terminal = stream.isatty()
    running = True
    spinners: list[Any] = []
    lock = threading.Lock()

    def show() -> None:
        with lock:
            if running and terminal:
                spinners.append(_spinner(text))
            elif running:
                print(f"flopscan: {text} ...", file=stream, flush=True)

    timer = threading.Timer(PATIENCE, show)
    timer.daemon = True
    if terminal or plain:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            running = False
        for spinner in spinners:
            spinner.stop()


def _spinner(text: str) -> Any:
    """A spinner that leaves sys.stdout and sys.stderr alone: it starts in a thread, while others may redirect them."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Live(
        Spinner("dots", text, style="green"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    spinner.start()
    return spinner

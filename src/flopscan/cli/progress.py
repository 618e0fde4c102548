"""On stderr: a sign of life for what takes over a second, on a terminal alone, and notes; --quiet forbids both."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import click

PATIENCE = 1.0
Item = TypeVar("Item")
_place: ContextVar[str] = ContextVar("place", default="")


def quiet() -> bool:
    """Whether the command that runs was given --quiet."""
    context = click.get_current_context(silent=True)
    return bool(context and getattr(context.find_root().obj, "quiet", False))


def note(text: str) -> None:
    """Say on stderr what was done; nothing under --quiet."""
    if not quiet():
        click.echo(f"flopscan: {text}", err=True)


def each(items: Sequence[Item]) -> Iterator[Item]:
    """The items one after the other; what is said of progress meanwhile begins with ``2/5``."""
    for i, item in enumerate(items, 1):
        _place.set(f"{i}/{len(items)} " if len(items) > 1 else "")
        yield item
    _place.set("")


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Turn a spinner with ``text`` and the time so far, if what runs inside takes over a second.

    Silent where stderr is no terminal, and under --quiet.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or quiet():
        yield
        return
    text = _place.get() + text
    running = True
    spinners: list[Any] = []
    lock = threading.Lock()

    def show() -> None:
        with lock:
            if running:
                spinners.append(_spinner(text))

    timer = threading.Timer(PATIENCE, show)
    timer.daemon = True
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
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    spinner = Progress(
        SpinnerColumn(style="green"),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    spinner.add_task(text, total=None)
    spinner.start()
    return spinner

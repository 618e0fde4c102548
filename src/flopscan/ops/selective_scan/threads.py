"""Work spread over as many threads as torch has, in threads of Python: compiled code does not hold its lock.

Numba's own thread pools are not used: one aborts the process when two threads call it, another after a fork.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pool: ThreadPoolExecutor | None = None
_size = 0


def spread(work: Callable[[int, int], None], tasks: int, least: int = 1) -> None:
    """Call ``work(first, last)`` until all ``tasks`` are done, ``least`` or more at a time."""
    threads = min(torch.get_num_threads(), max(1, tasks // least))
    if threads <= 1:
        work(0, tasks)
        return
    pieces = min(3 * threads, max(1, tasks // least))  # more than threads: one may be slower than the others
    bounds = [tasks * i // pieces for i in range(pieces + 1)]
    following = iter(list(itertools.pairwise(bounds)))  # taking from a list's is one step for all threads

    def run() -> None:
        for first, last in following:
            work(first, last)

    futures = [_threads(threads - 1).submit(run) for _ in range(threads - 1)]
    try:
        run()
    finally:
        for future in futures:
            future.result()


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool, _size
    if _pool is None or _size < count:
        _pool, _size = ThreadPoolExecutor(count, thread_name_prefix="flopscan"), count
    return _pool


def _forget() -> None:
    """A forked process has none of the threads of its parent."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

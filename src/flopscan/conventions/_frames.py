"""Where a call was made, for counters that do something with the counts at the end."""

from __future__ import annotations

from collections.abc import Callable

from flopscan.core.trace import Call, Trace

Hides = Callable[[Call, Call], bool]


HELD = "a function that a module keeps is not patched"


def without_held(trace: Trace, counts: list[int]) -> list[int]:
    """No count for a function that a module keeps from the time that it was made.

    A counter that puts its own function in place of ``F.relu`` does not see ``self.activation(x)`` where ``activation``
    is the ``F.relu`` of before.
    """
    return [
        0 if count and record.inside >= 0 and _holds(trace.calls[trace.frames[record.inside].call], record.call, trace)
        else count
        for record, count in zip(trace.records, counts, strict=True)
    ]  # fmt: skip


def _holds(around: Call, index: int, trace: Trace) -> bool:
    op = trace.calls[index].op
    return op.startswith("torch::") and any(value == op for _, value in around.get("settings", ()))


def hidden(trace: Trace, counts: list[int], hides: Hides) -> list[int]:
    """No count for what stands inside of a call that hides it: ``hides(call around, call)``."""
    chains: list[tuple[int, ...]] = []  # per frame: the calls around, itself included
    for frame in trace.frames:
        chains.append(((*chains[frame.parent],) if frame.parent >= 0 else ()) + (frame.call,))
    known: dict[tuple[int, int], bool] = {}
    settled = []
    for record, count in zip(trace.records, counts, strict=True):
        if count and record.inside >= 0:
            key = record.inside, record.call
            if key not in known:
                call = trace.calls[record.call]
                known[key] = any(hides(trace.calls[around], call) for around in chains[record.inside])
            count = 0 if known[key] else count
        settled.append(count)
    return settled


def visits(trace: Trace) -> list[int]:
    """For each module how often a walk from parents to children meets it: once for each of its parents, and theirs.

    Two names under one parent are one child.
    """
    met: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    total: dict[int, int] = {}
    for index, module in enumerate(trace.modules):
        parent = module.path.rpartition(".")[0]
        child = parent, identity(trace, index)
        met[module.path] = 0 if module.path and child in seen else met.get(parent, 1) if module.path else 1
        seen.add(child)
        total[child[1]] = total.get(child[1], 0) + met[module.path]
    return [total[identity(trace, index)] for index in range(len(trace.modules))]


def identity(trace: Trace, index: int) -> int:
    """The first of the paths of a module."""
    same = trace.modules[index].same
    return index if same < 0 else same

"""What the shell offers after TAB: targets, conventions, devices. None of it loads torch."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

_PREFIXES = ("timm:", "torchvision:", "hf:")


def targets(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The models that come with flopscan, the prefixes of others, and files."""
    from flopscan.models.vmamba_forms import CONFIGS

    label, equals, typed = typed.rpartition("=")  # NAME=TARGET, where several models have names
    found = [name for name in (*CONFIGS, *_PREFIXES) if name.startswith(typed)]
    if not found:
        return [CompletionItem(typed, type="file")]
    return [CompletionItem(f"{label}{equals}{name}") for name in found]


def conventions(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The conventions, each with what it counts; after a comma the next one."""
    from flopscan import conventions as known

    before, comma, typed = typed.rpartition(",")
    return [
        CompletionItem(f"{before}{comma}{name}", help=known.get(name).summary)
        for name in known.names()
        if name.startswith(typed)
    ]


def devices(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The devices that are known, else files."""
    from flopscan import devices as known

    found = [CompletionItem(name, help=one.title) for name, one in known.all_known().items() if name.startswith(typed)]
    return found or [CompletionItem(typed, type="file")]


def locked(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names in the lock; none where there is no lock that can be read."""
    from flopscan.budget import lockfile
    from flopscan.errors import FlopscanError

    try:
        lock = lockfile.load(context.params.get("path") or "flops.lock")
    except (FlopscanError, OSError):
        return []
    return [CompletionItem(name) for name in lock.entries if name.startswith(typed)]


def columns(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The columns of a table of models; after a comma the next one."""
    from flopscan import conventions as known
    from flopscan.report import columns as fixed

    before, comma, typed = typed.rpartition(",")
    names = dict.fromkeys((*fixed.NAMES, *known.names()))
    return [CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(typed)]

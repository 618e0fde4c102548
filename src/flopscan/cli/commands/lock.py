"""``flopscan lock``: write down what targets cost, to be held to it by ``flopscan check``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from flopscan.cli import capturing, completing, locking, presenting, settings
from flopscan.cli.progress import each, note
from flopscan.errors import FlopscanError, UsageError

if TYPE_CHECKING:
    from flopscan.budget.lock import Entry, Lock

_EXAMPLES = """
\b
Examples:
  flopscan lock vmamba_tiny timm:resnet50
  flopscan lock models.py:Net --input 1x3x224x224 -c flops -c macs --depth 2
  flopscan lock models.py:Net --input 1x3x512x512 --name large --tolerance 1%
  flopscan lock --update                 # what is locked, as it costs now
  flopscan lock --update vmamba_tiny
  flopscan lock --tolerance 0.5%         # of all that have none of their own
  flopscan lock --remove large
"""


@click.command(
    "lock", short_help="Write down what models cost, for flopscan check.", epilog=_EXAMPLES + settings.EXITS,
    help="Count targets and write what they cost to flops.lock: totals, every module, every operator. With --update or"
    f" --remove, the arguments are names in the lock.\n{capturing.TARGET_HELP}",
)  # fmt: skip
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=completing.targets)
@capturing.how
@click.option(
    "--convention", "-c", "conventions", multiple=True, metavar="NAME", shell_complete=completing.conventions,
    help="What to lock, beside parameters, exp, log and trig; see flopscan conventions. Repeat for more."
    " [default: flops]",
)  # fmt: skip
@click.option(
    "--depth", type=click.IntRange(min=0), metavar="N",
    help="Lock modules whose path has at most N parts. [default: every module]",
)  # fmt: skip
@click.option("--tolerance", metavar="PERCENT", help="How much each number may grow: 1%. [default: 0%]")
@click.option("--name", metavar="NAME", help="What to call it in the lock. [default: the target]")
@click.option("--update", is_flag=True, help="Lock again what is locked (all, or the names given), on its inputs.")
@click.option("--remove", is_flag=True, help="Take the names given out of the lock.")
@locking.path
@settings.shared
def command(
    targets: tuple[str, ...],
    path: str,
    update: bool,
    remove: bool,
    name: str | None,
    tolerance: str | None,
    conventions: tuple[str, ...],
    depth: int | None,
    **how: Any,
) -> None:
    """Change the lock, all of it or nothing."""
    from flopscan.budget import limits, lockfile, measures

    if tolerance is not None:
        limits.tolerance(tolerance)
    lockfile.where(path)
    _refuse(targets, update, remove, name, tolerance, conventions, depth, how)
    what = {"conventions": tuple(dict.fromkeys(map(measures.convention, conventions))), "depth": depth}
    given = {key: value for key, value in what.items() if value not in ((), None)}
    if remove:
        lock = locking.load(path)
        changed = lock.without(lock.chosen(targets))
    elif update:
        lock = locking.load(path)
        names = lock.chosen(targets)
        changed = _counted(lock, {one: replace(lock.entries[one], **given) for one in names}, tolerance)
    elif targets:
        lock = lockfile.load(path) if os.path.exists(path) else _empty()
        changed = _counted(lock, _new(lock, targets, name, given, how), tolerance)
    else:
        assert tolerance is not None
        changed = replace(locking.load(path), tolerance=tolerance)
    lockfile.save(changed, path)
    note(f"wrote {path}: {len(changed.entries)} locked")


def _empty() -> Lock:
    from flopscan.budget.lock import Lock

    return Lock()


def _refuse(
    targets: Sequence[str], update: bool, remove: bool, name: str | None, tolerance: str | None,
    conventions: Sequence[str], depth: int | None, how: dict[str, Any],
) -> None:  # fmt: skip
    """Refuse options that do not go together, before any work."""
    chosen = {**how, "name": name, "convention": conventions, "depth": depth}
    given = sorted(f"--{option.rstrip('s')}" for option, value in chosen.items() if value not in ((), None, False))
    counting = [option for option in given if option not in ("--convention", "--depth")]
    if update and remove:
        raise UsageError("--update and --remove do not go together; give one")
    if remove and not targets:
        raise UsageError("--remove takes the names to remove, as in flopscan lock --remove vmamba_tiny")
    if remove and (given or tolerance is not None):
        raise UsageError("--remove takes names alone, as in flopscan lock --remove vmamba_tiny")
    if update and counting:
        raise UsageError(f"--update counts as it was locked, and {' and '.join(counting)} would change that")
    if name is not None and len(targets) != 1:
        raise UsageError(f"--name names one target, and there are {len(targets)}")
    if not targets and not update and (given or tolerance is None):
        raise UsageError("expected a target to lock, as in flopscan lock vmamba_tiny, or --update or --tolerance")


def _new(
    lock: Lock, targets: Sequence[str], name: str | None, given: dict[str, Any], how: dict[str, Any]
) -> dict[str, Entry]:
    """The entries of ``targets``, not counted. Raises UsageError where another of that name is locked."""
    from flopscan.budget.lock import FLAGS, Entry

    flags = tuple(flag for flag in FLAGS if how[flag])
    entries = {}
    for target in targets:
        entry = Entry(target, how["inputs"], how["arguments"], flags, **given)
        called = name or target
        old = lock.entries.get(called, entry)
        if old.setting() != entry.setting():
            raise UsageError(
                f"{called} is locked, on other inputs or in another way; call this one otherwise, as in --name"
                f" {called}-2, or take the old one out first: flopscan lock --remove {called}"
            )
        entries[called] = entry
    return entries


def _counted(lock: Lock, entries: dict[str, Entry], tolerance: str | None) -> Lock:
    """``lock`` with ``entries``, which are counted and told."""
    from flopscan.budget import measures

    counted = {}
    for name, entry in each(list(entries.items())):
        try:
            ledger = locking.counted(entry, lines=False)
        except FlopscanError as error:
            raise (type(error)(f"{name}: {error}") if len(entries) > 1 else error) from error
        counted[name] = replace(
            entry,
            numbers=measures.measure(ledger, entry.measures, entry.depth),
            versions=locking.versions(entry, ledger),
            tolerance=entry.tolerance if tolerance is None else tolerance,
        )
    for name, entry in counted.items():
        presenting.show(_told(name, entry, lock))
    return lock.with_entries(counted)


def _told(name: str, entry: Entry, lock: Lock) -> str:
    """What was locked, and by how much that is other than before."""
    from flopscan.budget import findings, measures
    from flopscan.report.numbers import exact

    parts = []
    for key, value in entry.numbers.total.items():
        before = lock.entries[name].numbers.total.get(key) if name in lock.entries else None
        moved = f" ({findings.part(before, value)})" if before not in (None, value) else ""
        parts.append(f"{measures.label(key)} {exact(value)}{moved}")
    missing = [f"{op} x{count}" for op, count in entry.numbers.uncounted.items()]
    return f"{name}: {', '.join(parts)}{f'; not counted: {chr(44).join(missing)}' if missing else ''}"

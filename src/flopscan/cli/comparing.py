"""Rows of several models: counted one after the other, and timed if that is asked for; what fails is its reason."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from flopscan.cli import several
from flopscan.errors import FlopscanError, UsageError

if TYPE_CHECKING:
    from flopscan.report.models import Model
    from flopscan.report.speed import Speed


def measuring(batch: int | None, device: str, passes: int) -> dict[str, Any]:
    """How throughput is to be measured. Raises UsageError for a device that torch cannot use here."""
    from flopscan.capture import speed

    speed.device_called(device)
    return {"batch": batch, "device": device, "passes": passes}


def model(one: several.Asked, measuring: dict[str, Any] | None = None, **how: bool) -> Model:
    """A model's row; what fails is its reason."""
    from flopscan.report.figures import Figures
    from flopscan.report.models import Model

    figures, speed, reasons = None, None, []
    try:
        figures = Figures(one.target, several.counted(one, **how))
    except FlopscanError as error:
        reasons.append(str(error))
    if measuring is not None and figures is not None:
        try:
            speed = _speed(one, **measuring)
        except FlopscanError as error:
            reasons.append(f"throughput: {error}")
    return Model(one.name, one.target, figures, speed, tuple(reasons), one.point)


def _speed(one: several.Asked, **measuring: Any) -> Speed:
    """How fast a model is here. Raises FlopscanError where it cannot run."""
    import datetime

    from flopscan import rules
    from flopscan.capture import arguments as parse
    from flopscan.cli.progress import progress
    from flopscan.report.speed import Speed

    if one.is_saved:
        raise UsageError(f"{one.target} is what was saved of a model, and cannot run")
    from flopscan.capture import speed

    args, kwargs = parse.inputs(one.inputs)
    with progress(f"timing {one.name}"), redirect_stdout(sys.stderr):
        timed = speed.measure(one.target, args, kwargs, parse.options(one.arguments), seams=rules.seams(), **measuring)
    today = datetime.date.today().isoformat()
    return Speed(timed.items, timed.unit, timed.seconds, timed.device, timed.threads, today)

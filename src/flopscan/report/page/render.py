"""The page as HTML: the tables are written here, so that they can be read where no script runs."""

from __future__ import annotations

import json
import re
from typing import Any

from flopscan.errors import FlopscanError
from flopscan.report.numbers import exact, percent, si
from flopscan.report.page import assets, data, sections
from flopscan.report.report import Report
from flopscan.report.roofline import Roofline
from flopscan.report.roofline_text import duration

_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_BREAKS = re.compile(r"(?<=\w)(::|[._])(?=\w)")
_IN_A_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def render(report: Report, *, depth: int | None = None, roofline: Roofline | None = None) -> str:
    """The page of ``report`` as HTML: one file that asks for nothing else, without a newline at the end.

    ``depth`` is how deep the tree is open at first (default: what matters), ``roofline`` the report on a device.
    Raises FlopscanError where jinja2 is missing.
    """
    page = data.make(report, depth=depth, roofline=roofline)
    text = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            report=report,
            data=_json(page.to_dict()),
            assets=assets,
            sections=sections,
        )
    )
    return _NOT_TEXT.sub("\ufffd", text).rstrip("\n")


def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise FlopscanError("the HTML report needs jinja2, which is not here: pip install jinja2") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(si=si, exact=exact, duration=duration, breaking=_breaking)
    environment.globals.update(percent=percent)
    return environment


def _breaking(name: str) -> Any:
    """``name`` as HTML that may break into lines after a ``::``, a dot or a ``_``, before it breaks anywhere."""
    from markupsafe import Markup, escape

    return Markup(_BREAKS.sub(r"\g<0><wbr>", str(escape(name))))


def _json(value: Any) -> str:
    """``value`` as JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.translate(_IN_A_SCRIPT)

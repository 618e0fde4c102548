"""TOML as a lock needs it: read by the standard library, written one value a line, so that a change is one line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BARE = re.compile(r"[A-Za-z0-9_-]+")

Malformed = tomllib.TOMLDecodeError
loads = tomllib.loads


def key(name: str) -> str:
    """``name`` as a key, quoted where it must be."""
    return name if _BARE.fullmatch(name) else _string(name)


def header(*names: str) -> str:
    """The line that opens the table of ``names``: ``[targets."timm:resnet50".total]``."""
    return f"[{'.'.join(map(key, names))}]"


def pair(name: str, value: Any) -> str:
    """The line of a key and its value: a text, a whole number, a list of texts, or a mapping of such."""
    return f"{key(name)} = {_value(value)}"


def table(names: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    """The lines of a table, one a value."""
    return [header(*names), *(pair(name, value) for name, value in values.items())]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(pair(name, one) for name, one in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:_}" if isinstance(value, int) else _string(value)


def _string(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for one control character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

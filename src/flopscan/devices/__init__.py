"""Devices: peak rates with their sources. Each file in `known` holds some, and is found by being there."""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import pkgutil

from flopscan.devices import known
from flopscan.devices.device import DTYPES, Device, Figure, Source
from flopscan.errors import UsageError


@functools.cache
def all_known() -> dict[str, Device]:
    """Every device by its name, in the order of the alphabet."""
    files = (module.name for module in pkgutil.iter_modules(known.__path__) if not module.name.startswith("_"))
    found = [device for file in files for device in importlib.import_module(f"{known.__name__}.{file}").DEVICES]
    return {device.name: device for device in sorted(found, key=lambda device: device.name)}


def get(name: str | os.PathLike[str]) -> Device:
    """The device called ``name`` (case, ``_`` and blanks do not matter), or the one in a file ``name`` of JSON.

    Raises UsageError for an unknown name, with the near ones, and SchemaError for a file that is not a device's.
    """
    text = os.fspath(name)
    if text.endswith((".json", ".json.gz")):
        return Device.load(text)
    plain = _plain(text)
    found = all_known().get(plain)
    if found is not None:
        return found
    near = [other for other in all_known() if other.startswith(plain)] if plain else []
    near = near or difflib.get_close_matches(plain, all_known(), n=3, cutoff=0.5)
    if near:
        raise UsageError(f"there is no device {text!r}; did you mean {' or '.join(near)}?")
    raise UsageError(
        f"there is no device {text!r}; expected one of `flopscan devices`, or a file that flopscan measure-device wrote"
    )


def _plain(name: str) -> str:
    return "-".join(name.lower().replace("_", " ").replace("-", " ").split())


__all__ = ["DTYPES", "Device", "Figure", "Source", "all_known", "get"]

"""Versioned JSON documents: read with one clear sentence on failure, written so that the old file survives one."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from flopscan.errors import FlopscanError, SchemaError


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically; a failure leaves the old file as it was and no partial one."""
    target = os.path.abspath(os.fspath(path))
    if target.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    partial = ""
    try:
        handle, partial = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".flopscan-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        with contextlib.suppress(OSError):  # keep the mode of a file that is replaced, else what the umask gives
            mode = os.stat(target).st_mode if os.path.exists(target) else 0o666 & ~_umask()
            os.chmod(partial, mode & 0o777)
        os.replace(partial, target)
    except OSError as error:
        if partial and os.path.exists(partial):
            os.unlink(partial)
        raise FlopscanError(
            f"cannot write {os.fspath(path)}: {error.strerror}; choose a path that can be written"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_document(path: str | os.PathLike[str], data: Any) -> None:
    """Write ``data`` as JSON; a path that ends in .gz is compressed."""
    write_text(path, json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n")


def read_document(path: str | os.PathLike[str], *schemas: str) -> dict[str, Any]:
    """The JSON object in ``path``, which must carry one of ``schemas``. Raises SchemaError."""
    name = os.fspath(path)
    schema = " or ".join(schemas)
    try:
        with open(name, "rb") as file:
            raw = file.read()
        data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except OSError as error:
        raise SchemaError(f"cannot read {name}: {error.strerror or error}; expected a {schema} file") from error
    except (ValueError, EOFError) as error:
        raise SchemaError(f"{name} is not whole JSON ({error}); expected a {schema} file; make it again") from error
    found = data.get("schema") if isinstance(data, dict) else None
    if found not in schemas:
        came = f"schema {found!r}" if found else "no schema"
        expected = " or ".join(map(repr, schemas))
        if isinstance(found, str) and found.startswith("flopscan.") and _kind(found) not in map(_kind, schemas):
            raise SchemaError(f"{name} is another kind of file: it has {came}, expected {expected}")
        raise SchemaError(f"{name} has {came}, expected {expected}; make it again with this version of flopscan")
    return dict(data)


def _kind(schema: str) -> str:
    """What a file is, whatever its version: ``flopscan.report`` of ``flopscan.report/1``."""
    return schema.partition("/")[0]


@contextlib.contextmanager
def expect(source: str, schema: str) -> Iterator[None]:
    """Turn a missing key or a wrong type inside a document into a SchemaError that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        text = f"{source} is damaged: it says {schema!r} but lacks or garbles {error}; make it again"
        raise SchemaError(text) from error

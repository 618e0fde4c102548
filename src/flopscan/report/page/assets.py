"""What a page carries besides its numbers: styles, scripts, libraries, and the policy that allows these alone."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Iterable
from importlib import resources

_SCRIPTS = ("numbers", "model", "fill", "modules", "tables", "chart", "roofline", "exports", "page")
_INJECTED = re.compile(r"\.textContent=`([^`]*)`")


@functools.cache
def style() -> str:
    """The style sheet of the page."""
    return _read("page.css")


@functools.cache
def scripts() -> tuple[str, ...]:
    """The scripts in their order: each library with its licence, then the page's own, as one."""
    own = "\n".join(_read(f"script/{name}.js") for name in _SCRIPTS)
    return *map(_library, _manifest()), f'"use strict";\n(() => {{\n{own}}})();\n'


@functools.cache
def libraries() -> tuple[tuple[str, str, str], ...]:
    """Name, version and licence of each library that the page carries."""
    return tuple((name, library["version"], library["licence"]) for name, library in _manifest().items())


@functools.cache
def policy() -> str:
    """The content security policy: no network, the scripts and styles that are here, and nothing else.

    The flame graph writes a style sheet of its own when it is loaded, which is allowed by its hash too.
    """
    styles = [style(), *(text for script in scripts() for text in _INJECTED.findall(script))]
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(scripts())}",
            f"style-src {_hashes(styles)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hashes(texts: Iterable[str]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def _library(name: str) -> str:
    licence = _read(f"vendor/{name}.LICENSE").rstrip()
    return f"/*! {name} {_manifest()[name]['version']}\n{licence}\n*/\n{_read(f'vendor/{name}.min.js')}"


def _manifest() -> dict[str, dict[str, str]]:
    return dict(json.loads(_read("vendor/manifest.json")))


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

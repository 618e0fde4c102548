"""Fetches the libraries that the HTML report carries, at the versions and with the hashes of their manifest.

``make vendor``: needs npm. With ``--pin`` it writes the hashes of the versions in the manifest instead of checking
them: for an upgrade, after the version was changed there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[1] / "src/flopscan/report/page/vendor"
MANIFEST = VENDOR / "manifest.json"


def main(pin: bool) -> None:
    """Bring the folder to what the manifest says."""
    manifest = json.loads(MANIFEST.read_text())
    for name, library in manifest.items():
        with tempfile.TemporaryDirectory() as folder:
            fetch(name, library, Path(folder), pin)
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")


def fetch(name: str, library: dict[str, Any], folder: Path, pin: bool) -> None:
    """Pack ``name`` into ``folder``, check it, and copy its files."""
    wanted = f"{name}@{library['version']}"
    packed = subprocess.run(["npm", "pack", "--silent", wanted], cwd=folder, check=True, capture_output=True, text=True)
    archive = folder / packed.stdout.split()[-1]
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    check(wanted, library, "integrity", integrity, pin)
    with tarfile.open(archive) as files:
        for target, entry in library["files"].items():
            found = files.extractfile(f"package/{entry['from']}")
            if found is None:
                raise SystemExit(f"{wanted} has no file {entry['from']}")
            data = found.read()
            check(f"{wanted}/{entry['from']}", entry, "sha256", hashlib.sha256(data).hexdigest(), pin)
            (VENDOR / target).write_bytes(data)
    print(f"{wanted}: {', '.join(library['files'])}")


def check(what: str, entry: dict[str, Any], key: str, found: str, pin: bool) -> None:
    """Compare ``found`` with the manifest, or write it there."""
    if pin:
        entry[key] = found
    elif entry.get(key) != found:
        raise SystemExit(f"{what} has {key} {found}, and the manifest says {entry.get(key)}; nothing of it was copied")


if __name__ == "__main__":
    main("--pin" in sys.argv[1:])

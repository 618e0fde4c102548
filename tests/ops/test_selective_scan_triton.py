"""The Triton form of the selective scan against the definition in float64, through Triton's interpreter.

Triton is among what `make test-packages` installs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ops import interpreted

pytestmark = pytest.mark.packages
pytest.importorskip("triton")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What each case gave: in a process of its own, for Triton is interpreted from its import on or not at all."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, interpreted.__file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", interpreted.CASES)
def test_outputs_and_gradients(case: str, results: dict[str, Any]) -> None:
    assert results[case]["passed"], results[case]["errors"]

"""Fixtures of the operators' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from flopscan.ops.gpu import nvrtc
from ops import emulation


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fresh memory full of NaN: what is read before it is written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, poisoned: None) -> None:
    """Kernels run on the CPU, compiled by g++."""
    if emulation.COMPILER is None:
        pytest.skip("g++ is not installed")
    monkeypatch.setattr(nvrtc, "launch", emulation.launch)

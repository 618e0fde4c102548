"""The coverage gate: each of torch's own operator samples is counted, declared free, or listed as uncounted.

None may crash, none that torch can run may be refused by the running route, and both routes count the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

CHUNKS = 8
FLOOR_FIRST = 0.91  # the share of samples with nothing uncounted, in the chunk that has the lowest
FLOOR_ALL = 0.59


@pytest.mark.samples
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_first_two_samples(chunk: int, record_property: Callable[[str, Any], None]) -> None:
    import opinfo  # of torch's tests, which take seconds to import

    found = opinfo.tally(opinfo.op_db[chunk::CHUNKS], most=2)
    record_property("coverage", asdict(found))
    assert not found.failures
    assert found.share >= FLOOR_FIRST


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(2 * CHUNKS))
def test_every_sample_by_both_routes(chunk: int, record_property: Callable[[str, Any], None]) -> None:
    import opinfo

    found = opinfo.tally(opinfo.op_db[chunk :: 2 * CHUNKS], both=True)
    record_property("coverage", asdict(found))
    assert not found.failures
    assert not found.different
    assert found.share >= FLOOR_ALL

"""The parameters that are written down for classes of packages, against the classes."""

from __future__ import annotations

import importlib
import inspect

import pytest

import flopscan
from flopscan import rules

pytestmark = pytest.mark.packages
NOT_THERE = {"MambaInnerFnNoOutProj", "BiMambaInnerFn"}  # of Vim's fork
CLASSES = [s for s in rules.seams() if s.is_class and s.package != "accelerated_scan"]  # its import builds CUDA code


@pytest.mark.parametrize("seam", CLASSES, ids=lambda seam: seam.attribute)
def test_a_class_has_the_parameters_that_are_known(seam: rules.Seam) -> None:
    with flopscan.stand_ins():
        function = getattr(importlib.import_module(seam.module), seam.attribute, None)
    assert (function is None) == (seam.attribute in NOT_THERE)
    if function is not None:
        own = list(inspect.signature(function.forward).parameters)[1:]
        assert own == list(seam.parameters().parameters)[: len(own)]

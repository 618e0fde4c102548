"""flopscan tells exactly what a PyTorch model costs: FLOPs by kind, bytes, parameters; per module and operator.

>>> import flopscan
>>> report = flopscan.count("vmamba_tiny")
>>> report.params
30249064
>>> report.under("vmamba")
Amount(4905609984, 'mixed')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flopscan.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from flopscan.api import count, counting, shape, stand_ins
    from flopscan.budget.asserting import flops_budget
    from flopscan.core.amount import Amount
    from flopscan.core.convention import Convention
    from flopscan.core.cost import Cost
    from flopscan.core.ledger import Ledger
    from flopscan.core.trace import TensorSpec, Trace
    from flopscan.report.report import Report

_HOMES = {
    "count": "flopscan.api",
    "counting": "flopscan.api",
    "shape": "flopscan.api",
    "stand_ins": "flopscan.api",
    "flops_budget": "flopscan.budget.asserting",
    "Amount": "flopscan.core.amount",
    "Convention": "flopscan.core.convention",
    "Cost": "flopscan.core.cost",
    "Ledger": "flopscan.core.ledger",
    "TensorSpec": "flopscan.core.trace",
    "Trace": "flopscan.core.trace",
    "Report": "flopscan.report.report",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that ``import flopscan`` loads neither torch nor rich."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'flopscan' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = [
    "Amount",
    "Convention",
    "Cost",
    "Ledger",
    "Report",
    "TensorSpec",
    "Trace",
    "count",
    "counting",
    "flops_budget",
    "shape",
    "stand_ins",
]

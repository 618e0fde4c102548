"""The fixture `flops_budget` for pytest. Loads neither torch nor the rest of flopscan before a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def flops_budget() -> Callable[..., Any]:
    """Counts a model and fails the test if it is over a budget: ``flops_budget(model, (1, 3, 224, 224), macs="<=5G")``.

    The arguments are those of `flopscan.flops_budget`; the report is returned.
    """
    from flopscan.budget import asserting
    from flopscan.errors import UsageError

    def within(*arguments: Any, **budgets: Any) -> Any:
        __tracebackhide__ = True
        try:
            return asserting.flops_budget(*arguments, **budgets)
        except (asserting.BudgetError, UsageError) as error:
            found = error
        raise found.with_traceback(None)  # its text says all; where in flopscan it was raised helps nobody

    return within

"""Layers and models with exact counts, to run any counter through: `check` takes an adapter, a function of two.

def mine(model, inputs):          # a torch module and a tuple of tensors
    return my_counter(model, *inputs).macs

for result in check(mine, unit="MAC"):
    print(result)
"""

from flopscan.testing.conformance.case import Case
from flopscan.testing.conformance.run import Result, cases, check

__all__ = ["Case", "Result", "cases", "check"]

"""For people who write rules, here or in a package of their own: `check_rule` proves one against its reference."""

from flopscan.testing.check import check_rule, draw_sizes, example_of

__all__ = ["check_rule", "draw_sizes", "example_of"]

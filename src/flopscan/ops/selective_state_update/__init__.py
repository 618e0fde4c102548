"""One decoding step of a selective scan as a torch operator."""

from flopscan.ops.selective_state_update.operator import selective_state_update

__all__ = ["selective_state_update"]

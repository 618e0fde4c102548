"""The causal convolution of Mamba as a torch operator, and its decoding step."""

from flopscan.ops.causal_conv1d.operator import causal_conv1d, causal_conv1d_update

__all__ = ["causal_conv1d", "causal_conv1d_update"]

"""The first count of a fresh process: run as it is, and with `torch` to ask torch's meta kernels for every shape."""

from __future__ import annotations

import sys
import time

import torch

import flopscan.api
from flopscan.capture import shape_only, shapes  # noqa: F401  (loaded before the clock starts)

if "torch" in sys.argv:
    shapes.guess = lambda *_: None
net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.GELU())
start = time.perf_counter()
flopscan.api.count(net, (1, 3, 8, 8))
print(f"{time.perf_counter() - start:.3f} s")

"""Run as a program: checks of the Triton form through its interpreter, results as JSON on the standard output."""

from __future__ import annotations

import json
import sys

import torch

from scan_cases import FULL, USUAL, check

STEPS = {"block": 4, "segments": 1}
CASES = {
    "sixteen states": {"shape": (1, 4, 20, 16, 2), "given": FULL, "dtype": "float32"},
    "three states, three channels": {"shape": (1, 3, 5, 3, 1), "given": FULL, "dtype": "float32"},
    "two chunks, deterministic": {"shape": (1, 4, 70, 4, 2), "given": FULL, "dtype": "float32", "deterministic": True},
    "nothing optional": {"shape": (1, 4, 20, 4, 1), "given": [], "dtype": "float32"},
    "no softplus": {"shape": (1, 4, 20, 4, 1), "given": FULL, "dtype": "float32", "softplus": False},
    "strided": {"shape": (1, 4, 20, 4, 1), "given": FULL, "dtype": "float32", "strided": True},
    "bfloat16": {"shape": (1, 4, 20, 4, 2), "given": FULL, "dtype": "bfloat16"},
    "position by position": {"shape": (1, 4, 20, 16, 2), "given": FULL, "dtype": "float32", "form": STEPS},
    "three states, by position": {"shape": (1, 3, 5, 3, 1), "given": FULL, "dtype": "float32", "form": STEPS},
    "three segments": {
        "shape": (1, 4, 600, 3, 2), "given": FULL, "dtype": "float32", "form": {**STEPS, "segments": 3},
    },
    "segments, fast decays": {
        "shape": (1, 4, 600, 2, 2), "given": USUAL, "dtype": "float32", "extreme": True,
        "form": {**STEPS, "segments": 3},
    },
    "one state": {"shape": (2, 3, 70, 1, 1), "given": FULL, "dtype": "float32"},
    "one state, one position": {"shape": (2, 3, 1, 1, 1), "given": FULL, "dtype": "float32"},
    "one state, two chunks, deterministic": {
        "shape": (1, 4, 300, 1, 2), "given": FULL, "dtype": "float32", "deterministic": True,
    },
    "one state, nothing optional": {"shape": (1, 4, 70, 1, 2), "given": [], "dtype": "float32"},
    "one state, fast decays": {
        "shape": (1, 4, 70, 1, 2), "given": USUAL, "dtype": "float32", "extreme": True,
    },
    "one state, float16": {"shape": (1, 4, 20, 1, 2), "given": FULL, "dtype": "float16"},
}  # fmt: skip

if __name__ == "__main__":
    torch.use_deterministic_algorithms(True, warn_only=True)  # fresh memory is filled with NaN
    json.dump({name: check({**case, "module": "triton"}, "cpu") for name, case in CASES.items()}, sys.stdout)

"""The configurations of the nine published VMamba forms. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_V0 = {
    "ssm_d_state": 16,
    "ssm_ratio": 2.0,
    "ssm_dt_rank": "auto",
    "ssm_conv": 3,
    "ssm_conv_bias": True,
    "forward_type": "v0",
    "mlp_ratio": 0.0,
    "downsample_version": "v1",
    "patchembed_version": "v1",
    "norm_layer": "ln",
}
_V05 = {
    "ssm_d_state": 1,
    "ssm_dt_rank": "auto",
    "ssm_conv": 3,
    "ssm_conv_bias": False,
    "forward_type": "v05_noz",
    "mlp_ratio": 4.0,
    "downsample_version": "v3",
    "patchembed_version": "v2",
    "norm_layer": "ln2d",
}
_S2 = {**_V05, "ssm_ratio": 2.0}
_S1 = {**_V05, "ssm_ratio": 1.0}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "vmamba_tiny": {**_S1, "dims": 96, "depths": (2, 2, 8, 2), "drop_path_rate": 0.2},
    "vmamba_small": {**_S2, "dims": 96, "depths": (2, 2, 15, 2), "drop_path_rate": 0.3},
    "vmamba_base": {**_S2, "dims": 128, "depths": (2, 2, 15, 2), "drop_path_rate": 0.6},
    "vmamba_tiny_s2l5": {**_S2, "dims": 96, "depths": (2, 2, 5, 2), "drop_path_rate": 0.2},
    "vmamba_small_s1l20": {**_S1, "dims": 96, "depths": (2, 2, 20, 2), "drop_path_rate": 0.3},
    "vmamba_base_s1l20": {**_S1, "dims": 128, "depths": (2, 2, 20, 2), "drop_path_rate": 0.6},
    "vmamba_tiny_v0": {**_V0, "dims": 96, "depths": (2, 2, 9, 2), "drop_path_rate": 0.2},
    "vmamba_small_v0": {**_V0, "dims": 96, "depths": (2, 2, 27, 2), "drop_path_rate": 0.3},
    "vmamba_base_v0": {**_V0, "dims": 128, "depths": (2, 2, 27, 2), "drop_path_rate": 0.5},
}

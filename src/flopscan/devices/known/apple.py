"""Apple's M series, the GPU: 128 lanes a core, and no matrix units (products run on the vector lanes)."""

from __future__ import annotations

from flopscan.devices.device import Device, Figure, Source
from flopscan.devices.known._figures import READ, gigabytes, gigabytes_a_second, special_functions, tera

_BENCHMARKS = Source("https://github.com/philipturner/metal-benchmarks", READ)
_M1 = Source("https://github.com/azhirnov/as-en/blob/dev/AE/docs/papers/bench/Apple_M1.md", READ)
_TABLE = Source(
    "https://goodnewsapodcast.com/apples-m4-m4-pro-and-m4-max-compared-to-past-generations-and-to-each-other", READ
)
_MAX = Source(
    "https://macmegasite.com/2024/10/30/m4-max-chip-has-16-core-cpu-40-core-gpu-and-35-increase-in-memory-bandwidth",
    READ,
)
_MEMORY = Source("https://gamebastion.com/n/apple-s-m4-max-is-the-first-non-ultra/474547", READ)
_M3_MAX_RATES = Source("https://hmc-tech.com/gpu/apple-8-core-m4-fl-vs-apple-40-core-m3-max", READ)
_M4_MAX_CLOCK = Source("https://hmc-tech.com/gpu/apple-32-core-m4-max-vs-apple-40-core-m3-max", READ)
_INSTALLED = "as bought"
_EXPONENTIALS = 32  # a clock and core: EXP2 takes four times an addition's time on 128 lanes
_UNKNOWN = "not found; float16 may run beside float32 there"


def _lanes(cores: int, gigahertz: float) -> str:
    return f"{cores} cores x 128 lanes x {gigahertz} GHz x 2"


DEVICES = (
    Device(
        "m1",
        "Apple M1, GPU of 8 cores",
        "gpu",
        Figure(None, _TABLE, _INSTALLED),
        gigabytes_a_second(68.25, _M1),
        {},
        tera(_BENCHMARKS, _lanes(8, 1.278), fp32=2.617, fp16=2.617),
        special_functions(8, 1.278, _BENCHMARKS, _EXPONENTIALS),
    ),
    Device(
        "m2",
        "Apple M2, GPU of 10 cores",
        "gpu",
        Figure(None, _TABLE, _INSTALLED),
        gigabytes_a_second(102.4, _TABLE),
        {},
        tera(_BENCHMARKS, _lanes(10, 1.398), fp32=3.579, fp16=3.579),
        special_functions(10, 1.398, _BENCHMARKS, _EXPONENTIALS),
    ),
    Device(
        "m3-max",
        "Apple M3 Max, GPU of 40 cores",
        "gpu",
        Figure(None, _TABLE, _INSTALLED),
        gigabytes_a_second(400, _MAX),
        {},
        tera(_M3_MAX_RATES, _lanes(40, 1.398), fp32=14.32) | tera(_BENCHMARKS, _UNKNOWN, fp16=None, bf16=None),
    ),
    Device(
        "m4",
        "Apple M4, GPU of 10 cores",
        "gpu",
        Figure(None, _TABLE, _INSTALLED),
        gigabytes_a_second(120, _TABLE),
        {},
        tera(_TABLE, "the clock in a Mac was not found", fp32=None, fp16=None, bf16=None),
    ),
    Device(
        "m4-max",
        "Apple M4 Max, GPU of 40 cores",
        "gpu",
        gigabytes(128, _MEMORY, "at most"),
        gigabytes_a_second(546, _MAX),
        {},
        tera(_M4_MAX_CLOCK, _lanes(40, 1.678), fp32=17.18) | tera(_BENCHMARKS, _UNKNOWN, fp16=None, bf16=None),
    ),
)

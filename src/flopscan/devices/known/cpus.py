"""CPUs: vector rates are cores x the highest boost clock x lanes x multiply-adds a clock x 2.

No CPU keeps that clock on all cores for long: what is made of it stays a bound.
"""

from __future__ import annotations

from flopscan.devices.device import Device, Figure, Source
from flopscan.devices.known._figures import READ, gigabytes_a_second, tera

_FMA = Source(
    "https://stackoverflow.com/questions/15655835/flops-per-cycle-for-sandy-bridge-and-haswell-sse2-avx-avx2", READ
)
_ZEN4 = Source("https://example-a.com/answer/76195232", READ)
_EPYC = Source("https://www.hpctech.co.jp/product/amd-epyc-9004-series/", READ)
_RYZEN = "https://digitaltrends.com/computing/amd-ryzen-9-7950x-review"
_RYZEN_MEMORY = Source(
    "https://www.hardwaretimes.com/amd-ryzen-7000-cpus-to-support-ddr5-5200-memory-out-of-the-box-2-channels-per-dimm/",
    READ,
)
_XEON = Source(
    "https://servethehome.com/intel-xeon-max-9480-deep-dive-intel-has-64gb-hbm2e-onboard-like-a-gpu-or-ai-accelerator/3",
    READ,
)
_XEON_CLOCK = Source(
    "https://wccftech.com/full-intel-sapphire-rapids-sp-xeon-cpu-family-specifications-leak-out-up-to-60-cores"
    "-up-to-3-8-ghz-350w-tdp/", READ,
)  # fmt: skip
_AMX = Source("https://artikel.siakadpt.com/en/Advanced_Matrix_Extensions", READ)
_INSTALLED = "as installed"
_NO_UNIT = "a CPU has no unit for exponentials: one counts as one operation of the vector units"
_ADDERS = "Zen 4 has adders beside its multiply-add pipes: additions alone can run at up to half this rate on top of it"
_DOTS = "bfloat16 products have instructions of their own (VDPBF16PS), whose rate was not found"


def _ports(cores: int, gigahertz: float, width: int, ports: int) -> tuple[str, float]:
    """In words and in 10^12 FLOP/s of float32."""
    how = f"{cores} cores x {gigahertz} GHz x {width // 32} lanes x {ports} multiply-adds x 2"
    return how, cores * gigahertz * (width // 32) * ports * 2 / 1000


def _zen4(name: str, title: str, cores: int, gigahertz: float, bandwidth: Figure, clock: str) -> Device:
    how, rate = _ports(cores, gigahertz, 256, 2)
    return Device(
        name,
        title,
        "cpu",
        Figure(None, bandwidth.source, _INSTALLED),
        bandwidth,
        tera(_ZEN4, "not found", bf16=None),
        tera(_ZEN4, how, fp32=rate, fp64=rate / 2),
        notes=(_NO_UNIT, _ADDERS, _DOTS, f"cores and clock: {clock}"),
    )


_XEON_HOW, _XEON_RATE = _ports(56, 3.8, 512, 2)
DEVICES = (
    _zen4(
        "epyc-9654",
        "AMD EPYC 9654, 96 cores",
        96,
        3.7,
        gigabytes_a_second(460.8, _EPYC, "12 channels x 8 bytes x 4800 MT/s"),
        _EPYC.url,
    ),
    _zen4(
        "ryzen-9-7950x",
        "AMD Ryzen 9 7950X, 16 cores",
        16,
        5.7,
        gigabytes_a_second(83.2, _RYZEN_MEMORY, "2 channels x 8 bytes x 5200 MT/s"),
        _RYZEN,
    ),
    Device(
        "xeon-8480+",
        "Intel Xeon Platinum 8480+, 56 cores",
        "cpu",
        Figure(None, _XEON, _INSTALLED),
        gigabytes_a_second(307.2, _XEON, "8 channels x 8 bytes x 4800 MT/s"),
        tera(_AMX, "56 cores x 3.8 GHz x 1024 operations (AMX)", bf16=56 * 3.8 * 1.024)
        | tera(_AMX, "56 cores x 3.8 GHz x 2048 operations (AMX)", int8=56 * 3.8 * 2.048),
        tera(_FMA, _XEON_HOW, fp32=_XEON_RATE, fp64=_XEON_RATE / 2)
        | tera(_FMA, "twice float32 (AVX512-FP16)", fp16=2 * _XEON_RATE),
        notes=(
            _NO_UNIT,
            "the clock, 3.8 GHz, is the highest of its family in a list from before its launch (source:"
            f" {_XEON_CLOCK.url}); AVX-512 and AMX run slower",
        ),
    ),
)

"""Takes certificates: what kernels execute on a GPU by its counters, beside what flopscan's rules say.

    python -m hardware.certify profile --mamba mamba_ssm-2.3.2.post1 --build build --raw raw   # needs the GPU and ncu
    python -m hardware.certify profile flopscan_scan flopscan_cross_scan --raw raw   # its own, nothing is built
    python -m hardware.certify assemble --raw raw         # certificates/*.json out of what profile left
    python -m hardware.certify compare                    # the certificates beside the rules as they are now
    python -m hardware.certify document                   # the same for readers: docs/certificates.md

Run from benchmarks/ with flopscan installed or ../src on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hardware import certificate, tables
from hardware.kernels import COMPILED, KERNELS, cases

ENVIRONMENT = "environment.json"


def _own_build() -> dict[str, Any]:
    """What stands for a build where the kernels are flopscan's own, compiled as they are used."""
    import flopscan
    from flopscan.ops.gpu import nvrtc
    from hardware.build import digest

    ops = Path(flopscan.__file__).with_name("ops")
    return {
        "packages": {"flopscan": flopscan.__version__},
        "sources": {
            "shared": digest(ops / "gpu", "*.cuh"),
            "flopscan_scan": digest(ops / "selective_scan" / "cuda"),
            "flopscan_cross_scan": digest(ops / "cross_selective_scan", "*.cu*"),
        },
        "nvrtc": ".".join(map(str, nvrtc.version())),
    }


def environment(build: Path | None) -> dict[str, Any]:
    """The GPU, its software, and how the compiled kernels were built."""
    import torch
    import triton

    from hardware.build import MANIFEST

    gpu = torch.cuda.get_device_properties(0)
    smi = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(smi, capture_output=True, text=True, check=True).stdout.split()[0]
    ncu = subprocess.run(["ncu", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": datetime.date.today().isoformat(),
        "gpu": {"name": gpu.name, "capability": f"{gpu.major}.{gpu.minor}", "processors": gpu.multi_processor_count},
        "driver": driver,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "profiler": re.search(r"Version .*", ncu)[0],  # type: ignore[index]
        "build": json.loads((build / MANIFEST).read_text()) if build else _own_build(),
    }


def fill_cache(kernel: str, arguments: list[str], shares: int, seconds: float) -> None:
    """Compile what Triton's autotuner tries for the cases of ``kernel``, side by side, in so many seconds at most."""
    forward = len(cases(kernel)) // 2
    module = [sys.executable, "-m", "hardware.launch", kernel, *arguments]
    running = [
        subprocess.Popen([*module, "--only", str(i), str(forward + i), "--compile", f"{k}/{shares}"])
        for i in distinct(kernel)
        for k in range(shares)
    ]
    until = time.time() + seconds
    for process in running:
        try:
            process.wait(max(until - time.time(), 0))
        except subprocess.TimeoutExpired:
            process.kill()


def distinct(kernel: str) -> list[int]:
    """The forward cases whose kernels the autotuner tunes apart: by all sizes but those of the data."""
    found: dict[str, int] = {}
    for i, case in enumerate(cases(kernel)):
        if case.direction == "forward":
            tuned = {axis: size for axis, size in case.sizes.items() if axis not in "blg"}
            found.setdefault(str((tuned, case.dtype, case.options)), i)
    return list(found.values())


def profile(options: argparse.Namespace) -> None:
    """Profile the chosen kernels, one process each; all that came goes to ``options.raw``."""
    from hardware import counters

    raw = options.raw
    raw.mkdir(parents=True, exist_ok=True)
    (raw / ENVIRONMENT).write_text(json.dumps(environment(options.build), indent=1) + "\n")
    paths = ["--mamba", str(options.mamba), "--build", str(options.build)] if options.build else []
    metrics = counters.available()
    start, limit = time.time(), options.seconds
    for kernel in options.kernels:
        report = raw / f"{kernel}.ncu-rep"
        program = ["hardware.launch", kernel, *paths]
        if kernel == "ssd":
            choices = str(raw / f"{kernel}.choices.json")
            fill_cache(kernel, paths, options.shares, 0.4 * limit)
            tuning = [*program, "--tune", choices, "--until", str(start + 0.6 * limit)]
            subprocess.run([sys.executable, "-m", *tuning])  # if it fails, what was tuned until then is profiled
            program += ["--choices", choices]
        program += ["--manifest", str(report.with_suffix(".jsonl")), "--until", str(start + 0.9 * limit)]
        counters.profile(report, metrics, program, COMPILED.get(kernel, ""))
        counters.export(report, report.with_suffix(".csv"))


def assemble(options: argparse.Namespace) -> None:
    """Write a certificate for each kernel that was profiled."""
    for kernel in options.kernels:
        if (counted := options.raw / f"{kernel}.csv").exists():
            known = json.loads((options.raw / ENVIRONMENT).read_text())
            if options.remark:
                known["remark"] = options.remark
            made = certificate.assemble(kernel, known, counted)
            print(certificate.write(made, options.out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("profile", help="count on the GPU")
    first.add_argument("kernels", nargs="*", default=KERNELS)
    first.add_argument("--mamba", type=Path, help="the unpacked source distribution of mamba_ssm")
    first.add_argument("--build", type=Path, help="where hardware.build put the compiled modules")
    first.add_argument("--raw", type=Path, required=True, help="where the tables go")
    first.add_argument("--shares", type=int, default=3, help="processes that compile for Triton, for each tuned case")
    first.add_argument("--seconds", type=float, default=1e9, help="leave out the last cases rather than run longer")
    second = commands.add_parser("assemble", help="make certificates from the tables")
    second.add_argument("kernels", nargs="*", default=KERNELS)
    second.add_argument("--raw", type=Path, required=True)
    second.add_argument("--out", type=Path, default=certificate.FOLDER)
    second.add_argument("--remark", help="what a reader of the certificates has to know of this run")
    third = commands.add_parser("compare", help="print certificates beside the rules")
    third.add_argument("certificates", type=Path, nargs="*")
    third.add_argument("--cases", action="store_true", help="a line for each case")
    commands.add_parser("document", help="write docs/certificates.md")
    options = parser.parse_args()
    if options.command == "profile":
        profile(options)
    elif options.command == "assemble":
        assemble(options)
    elif options.command == "document":
        tables.PAGE.write_text(tables.page(certificate.committed()))
    else:
        print("\n".join(tables.lines(options.certificates or certificate.committed(), options.cases)))


if __name__ == "__main__":
    main()

"""Builds the CUDA kernels that are profiled, from unpacked source distributions, for one GPU architecture.

    python -m hardware.build --mamba mamba_ssm-2.3.2.post1 --conv causal_conv1d-1.7.0 --out build

The sources are those of the packages, unchanged, with the flags of their own setup.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

MANIFEST = "build.json"
# Both packages give nvcc the same flags.
FLAGS = (
    "-O3", "-std=c++17", "-U__CUDA_NO_HALF_OPERATORS__", "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_BFLOAT16_OPERATORS__", "-U__CUDA_NO_BFLOAT16_CONVERSIONS__", "-U__CUDA_NO_BFLOAT162_OPERATORS__",
    "-U__CUDA_NO_BFLOAT162_CONVERSIONS__", "--expt-relaxed-constexpr", "--expt-extended-lambda", "--use_fast_math",
    "-lineinfo",
)  # fmt: skip
SOURCES = {
    "selective_scan_cuda": ("mamba_ssm", "csrc/selective_scan"),
    "causal_conv1d_cuda": ("causal_conv1d", "csrc"),
}


def compile_module(name: str, folder: Path, out: Path) -> None:
    """Compile every source of ``folder`` into the Python module ``name`` in ``out``."""
    from torch.utils import cpp_extension

    cpp_extension.load(
        name,
        [str(path) for pattern in ("*.cpp", "*.cu") for path in sorted(folder.glob(pattern))],
        extra_cflags=["-O3", "-std=c++17"],
        extra_cuda_cflags=list(FLAGS),
        extra_include_paths=[str(folder)],
        build_directory=str(out),
    )


def digest(folder: Path, pattern: str = "*") -> str:
    """The SHA-256 of all sources of ``folder``, by name and content."""
    total = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def version(package: str, root: Path) -> str:
    """The version that the source distribution of ``package`` says it has."""
    found = re.search(r'^__version__ = "(.+)"', (root / package / "__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{root}: {package}/__init__.py gives no version")
    return found[1]


def manifest(roots: dict[str, Path], arch: str) -> dict[str, object]:
    """What a certificate says about the build."""
    import torch

    nvcc = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "packages": {package: version(package, root) for package, root in roots.items()},
        "sources": {name: digest(roots[package] / folder) for name, (package, folder) in SOURCES.items()},
        "flags": list(FLAGS),
        "arch": arch,
        "nvcc": re.search(r"release .*", nvcc)[0],  # type: ignore[index]
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mamba", type=Path, required=True, help="the unpacked source distribution of mamba_ssm")
    parser.add_argument("--conv", type=Path, required=True, help="the unpacked source distribution of causal_conv1d")
    parser.add_argument("--out", type=Path, required=True, help="where the modules go")
    parser.add_argument("--arch", default="9.0", help="the compute capability to compile for (9.0: H100)")
    options = parser.parse_args()
    os.environ["TORCH_CUDA_ARCH_LIST"] = options.arch
    roots = {"mamba_ssm": options.mamba.resolve(), "causal_conv1d": options.conv.resolve()}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (package, folder) in SOURCES.items():
        compile_module(name, roots[package] / folder, options.out.resolve())
    (options.out / MANIFEST).write_text(json.dumps(manifest(roots, options.arch), indent=1) + "\n")


if __name__ == "__main__":
    main()

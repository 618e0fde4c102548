"""The kernels of `flopscan.ops.selective_scan.cuda` on the CPU: their text compiled by g++, threads as fibers."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

COMPILER = shutil.which("g++")
HEADER = Path(__file__).with_name("emulator.h")
# vector accesses off their alignment end the process
FLAGS = ("-std=c++17", "-O1", "-fno-strict-aliasing", "-ffp-contract=off", "-w", "-shared", "-fPIC",
         "-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")  # fmt: skip
_RUNNER = """
static {kind} parameter;
static void enter() {{ {name}(parameter); }}
extern "C" void run(const {kind}* s, int x, int y, int threads, int shared) {{
  parameter = *s;
  emulator::body = enter;
  for (int j = 0; j < y; j++)
    for (int i = 0; i < x; i++) emulator::run_block(threads, shared, Index{{(unsigned)i, (unsigned)j, 0}});
}}
extern "C" int parameter_size() {{ return sizeof({kind}); }}
"""


@functools.cache
def folder() -> Path:
    """Where compiled kernels are kept while the tests run, and between runs."""
    path = Path(tempfile.gettempdir()) / "flopscan-emulated"
    path.mkdir(exist_ok=True)
    return path


@functools.cache
def compiled(source: str, options: tuple[str, ...], name: str, kind: str = "Scan") -> ctypes.CDLL:
    """The kernel ``name``, whose parameter is a ``kind``, as a library of the CPU."""
    text = HEADER.read_text() + source + _RUNNER.format(name=name, kind=kind)
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#pragma unroll"))
    key = hashlib.sha256("\0".join([text, *options, *FLAGS]).encode()).hexdigest()[:32]
    library = folder() / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / "kernel.so"
            (Path(scratch) / "kernel.cpp").write_text(text)
            command = [str(COMPILER), *FLAGS, *options, str(Path(scratch) / "kernel.cpp"), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:4000]
            shutil.move(made, library)
    return ctypes.CDLL(str(library))


def launch(
    source: str, options: tuple[str, ...], name: str, grid: tuple[int, int], threads: int, shared: int,
    parameter: ctypes.Structure, device: torch.device,
) -> None:  # fmt: skip
    """Stands for `flopscan.ops.gpu.nvrtc.launch`."""
    library = compiled(source, options, name, type(parameter).__name__)
    assert library.parameter_size() == ctypes.sizeof(parameter)
    assert shared <= 227 * 1024, f"{name} asks for {shared} bytes of shared memory"
    library.run(ctypes.byref(parameter), *grid, threads, shared)

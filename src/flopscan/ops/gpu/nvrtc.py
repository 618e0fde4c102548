"""CUDA C++ compiled at run time by NVRTC, which every CUDA wheel of torch carries: compiled, kept on disk, launched.

The kept file of a kernel is named by the hash of its source, its options, the architecture and NVRTC's version, so a
change of any of them compiles anew. The folder is $FLOPSCAN_CACHE, else flopscan/ in the user's cache folder.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


class CompilationError(RuntimeError):
    """NVRTC refused a source: its log is the message."""


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    """NVRTC, as torch's CUDA brings it. OSError where there is none."""
    major = (torch.version.cuda or "0").split(".")[0]
    names = [f"nvrtc64_{major}0_0.dll"] if sys.platform == "win32" else [f"libnvrtc.so.{major}"]
    beside = Path(torch.__file__).parent
    folders = [beside / "lib", *sorted(beside.parent.glob("nvidia/*/lib")), *sorted(beside.parent.glob("nvidia/*/bin"))]
    for candidate in [*(str(folder / name) for name in names for folder in folders), *names]:
        try:
            return ctypes.CDLL(candidate)
        except OSError:
            continue
    raise OSError(f"{names[0]} was not found: the CUDA form of the selective scan is compiled by it")


@functools.cache
def _driver() -> ctypes.CDLL:
    """The CUDA driver."""
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


@functools.cache
def available() -> bool:
    """Whether kernels can be compiled and launched here."""
    try:
        _nvrtc()
        _driver()
    except OSError:
        return False
    return True


def version() -> tuple[int, int]:
    """NVRTC's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compile_source(source: str, options: Sequence[str], arch: str) -> bytes:
    """The machine code of ``source`` for ``arch`` (sm_90). CompilationError with NVRTC's log where it refuses."""
    library, program = _nvrtc(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"flopscan.cu", 0, None, None)
    try:
        flags = [f"--gpu-architecture={arch}", "--std=c++17", *options]
        words = (ctypes.c_char_p * len(flags))(*map(str.encode, flags))
        if library.nvrtcCompileProgram(program, len(flags), words):
            raise CompilationError(_text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program).decode())
        return _text(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size_of: Any, fill: Any, program: ctypes.c_void_p) -> bytes:
    """What one of NVRTC's pairs of functions gives."""
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    fill(program, buffer)
    return buffer.raw[: size.value]


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    chosen = os.environ.get("FLOPSCAN_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flopscan"


def code(source: str, options: Sequence[str], arch: str) -> bytes:
    """The machine code of ``source``, from the folder of kept ones if it is there, and kept there else."""
    key = hashlib.sha256("\0".join([source, *options, arch, repr(version())]).encode()).hexdigest()
    path = cache_folder() / f"{key[:40]}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        compiled = compile_source(source, options, arch)
    try:  # whole or not at all: other processes look for it too
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(compiled)
        os.replace(file.name, path)
    except OSError:  # nowhere to keep it: compiled again next time
        pass
    return compiled


def _check(status: int, what: str) -> None:
    """RuntimeError with the driver's words if ``status`` is an error."""
    if status:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(text))
        raise RuntimeError(f"{what}: {(text.value or b'unknown error').decode()} ({status})")


def _have_context(device: int) -> None:
    """Make torch's context of ``device`` current, which in a thread that has used no CUDA yet none is."""
    current = ctypes.c_void_p()
    _check(_driver().cuCtxGetCurrent(ctypes.byref(current)), "asking for the context")
    if not current.value:
        _check(_driver().cuDevicePrimaryCtxRetain(ctypes.byref(current), device), "opening the context")
        _check(_driver().cuCtxSetCurrent(current), "entering the context")


@functools.cache
def _function(source: str, options: tuple[str, ...], name: str, device: int, shared: int) -> ctypes.c_void_p:
    """The kernel ``name`` loaded on a device, allowed ``shared`` bytes of dynamic shared memory."""
    major, minor = torch.cuda.get_device_capability(device)
    machine_code = code(source, options, f"sm_{major}{minor}")
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _check(_driver().cuModuleLoadData(ctypes.byref(module), machine_code), f"loading {name}")
    _check(_driver().cuModuleGetFunction(ctypes.byref(function), module, name.encode()), f"finding {name}")
    if shared > 48 * 1024:
        dynamic_size = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _check(_driver().cuFuncSetAttribute(function, dynamic_size, shared), f"shared memory of {name}")
    return function


def launch(
    source: str,
    options: tuple[str, ...],
    name: str,
    grid: tuple[int, int],
    threads: int,
    shared: int,
    parameter: ctypes.Structure,
    device: torch.device,
) -> None:
    """Run kernel ``name`` with the one parameter that it takes, on torch's current stream of ``device``."""
    with torch.cuda.device(device):
        index = torch.cuda.current_device()
        _have_context(index)
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        function = _function(source, options, name, index, shared)
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(parameter))
        size = (*grid, 1, threads, 1, 1, shared)
        _check(_driver().cuLaunchKernel(function, *size, stream, arguments, None), f"launching {name}")

"""The selective scan in CUDA C++, compiled for the operands' dtypes and number of states when first needed.

Operands as the caller checked them: u, delta, z: b d l; A: d n; B, C: b g n l; D, delta_bias: d; initial_state: b d n.
Two families of kernels, whose sources in cuda/ say how they work: `states` for two states and more, one channel on a
few lanes, sequential in l; `rows` for one state, lanes along l, bound by memory.

Where b d is too small to fill the GPU, `states` cuts l into segments that run at the same time. What crosses from one
to the next is computed before, by a walk that ends once all that is left has decayed; so a NaN is seen in the segment
that it stands in, and in others as far as the walk goes.
"""

from __future__ import annotations

import ctypes
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flopscan.ops.gpu import kernels, nvrtc
from flopscan.ops.gpu.kernels import NAMES

_SOURCES = {
    "scan_forward": ("common.cuh", "states.cuh", "forward.cu"),
    "scan_backward": ("common.cuh", "states.cuh", "backward.cu"),
    "scan_edges": ("common.cuh", "states.cuh", "edges.cu"),
    "rows_forward": ("common.cuh", "lanes.cuh", "rows.cuh", "rows_forward.cu"),
    "rows_backward": ("common.cuh", "lanes.cuh", "rows.cuh", "rows_backward.cu"),
}
MAX_STATES = 256
SEGMENT = 64  # segments of l are whole numbers of these positions: of tiles


@dataclass(frozen=True)
class States:
    """How the kernels for two states and more are compiled: a warp is ``32 / lanes`` channels of ``lanes * states``."""

    lanes: int
    states: int
    tile: int = 64  # positions in shared memory
    sub: int = 8  # positions whose states and decays are in registers, backward
    warps: int = 4
    unroll: int = 2  # runs of 8 positions, forward
    resident: int = 3  # blocks that registers must allow on a multiprocessor
    resident_backward: int = 3
    fill: int = 3  # blocks a multiprocessor, below which l is cut into segments

    @property
    def block(self) -> int:
        """Channels of a block."""
        return 32 // self.lanes * self.warps


@dataclass(frozen=True)
class Rows:
    """How the kernels for one state are compiled: a lane holds ``span`` positions, a warp serves ``rows`` channels."""

    span: int
    rows: int = 4
    warps: int = 4
    resident: int = 8
    resident_backward: int = 4

    @property
    def block(self) -> int:
        """Channels of a block."""
        return self.rows * self.warps


def default_form(states: int, length: int, backward: bool = False) -> States | Rows:
    """How so many states are computed unless the caller says otherwise, as measured."""
    if states == 1:
        short = 16 if backward else 8
        return Rows(span=_span(length), rows=short if length <= 256 else 4 if backward else 2)
    for lanes, each in ((2, 1), (2, 2), (2, 4), (4, 4), (8, 4)):
        if states <= lanes * each:
            return States(lanes, each)
    if states <= 64:
        return States(16, 4, tile=32)
    if states <= 128:
        return States(16, 8, tile=32, sub=4, resident=2, resident_backward=2)
    return States(16, 16, tile=32, sub=4, warps=2, resident=1, resident_backward=1)


def _span(length: int) -> int:
    """Positions of a lane, for rows of ``length``."""
    return 2 if length <= 64 else 4 if length <= 128 else 8


def chunk_size(states: int, length: int, gated: bool = False) -> int:
    """Positions from one kept state to the next: no more is kept than mamba_ssm's kernel keeps.

    That is two states of every 2048 positions and, with z, the output before it. With z the chunks are short, then the
    backward makes fewer states again, and to 64 states all take at most half the bytes of u in 16 bits.
    """
    if states == 1:
        return 32 * _span(length)
    short = min(max(64, 4 * (1 << (states - 1).bit_length())), 256)
    if gated:
        return short
    allowed = 2 * -(-length // 2048)
    return max(short, 1 << (-(-length // allowed) - 1).bit_length())


def saved_shape(batch: int, channels: int, length: int, states: int, gated: bool = False) -> tuple[int, ...]:
    """The shape of what forward keeps for backward: the state before every chunk, b chunks d n."""
    return batch, -(-length // chunk_size(states, length, gated)), channels, states


def supports(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    *others: Tensor | None,
) -> bool:
    """Whether this form takes such operands, on such a device."""
    varying = [x for x in (u, delta, B, C, z) if x is not None]
    fixed = [x for x in (A, D, *others) if x is not None]
    return (
        u.is_cuda
        and all(x.dtype in NAMES for x in varying)
        and all(x.dtype == torch.float32 for x in fixed)
        and B.dim() == C.dim() == 4
        and 1 <= A.shape[1] <= MAX_STATES
        and kernels.reach(u.device)
    )


class Matrix(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), *((name, ctypes.c_longlong) for name in ("b", "d", "l", "align"))]


class Grouped(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), *((name, ctypes.c_longlong) for name in ("b", "g", "n", "l", "align"))]


class Scan(ctypes.Structure):
    """The one parameter of every kernel, as `Scan` in cuda/common.cuh."""

    _fields_ = [
        *((name, Matrix) for name in ("u", "delta", "z", "grad")),
        *((name, Grouped) for name in ("B", "C")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "bias", "initial", "grad_last")),
        *((name, ctypes.c_void_p) for name in ("out", "grad_u", "grad_delta", "grad_z", "last", "saved")),
        *((name, ctypes.c_void_p) for name in ("grad_B", "grad_C", "grad_channel", "grad_initial")),
        *((name, ctypes.c_void_p) for name in ("edge", "edge_sum", "mid")),
        ("part", ctypes.c_longlong),
        *((name, ctypes.c_int) for name in ("batch", "channels", "length", "states", "groups", "softplus")),
        *((name, ctypes.c_int) for name in ("segment", "segments", "chunk", "out_align")),
    ]


def forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, initial_state: Tensor | None, *,
    delta_softplus: bool, keep: bool, out_dtype: torch.dtype, form: States | Rows | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The output (b d l), the last state (b d n), and the states that backward needs, empty unless ``keep``."""
    scan, alive = _operands(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    form = form or default_form(scan.states, scan.length)
    (batch, channels, length), states = u.shape, A.shape[1]
    out = torch.empty(u.shape, dtype=out_dtype, device=u.device)
    last = A.new_empty(batch, channels, states)
    saved = A.new_empty(saved_shape(batch, channels, length, states, z is not None) if keep else 0)
    scan.out, scan.last, scan.saved = out.data_ptr(), last.data_ptr(), saved.data_ptr() if keep else None
    scan.out_align = _rows_align(length, [out])
    scan.initial = _pointer(initial_state, alive)
    macros = (*_dtypes(u, delta, z, B, C, out_dtype), *_layout(scan))
    _cut(scan, form, u.device, alive, macros, first=True)
    _run("rows_forward" if isinstance(form, Rows) else "scan_forward", scan, form, macros, u.device)
    return out, last, saved


def backward(
    grad_out: Tensor, grad_last_state: Tensor | None,
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, initial_state: Tensor | None, saved: Tensor, *,
    delta_softplus: bool, deterministic: bool, form: States | Rows | None = None,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of u, delta, A, B, C, D, z, delta_bias and initial_state, None of those that are absent.

    Sums over the channels of a block of B's and C's gradients are added up in memory, in any order, unless
    ``deterministic``: then each block writes its own, which takes d / 32 times the memory.
    """
    scan, alive = _operands(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    form = form or default_form(scan.states, scan.length, backward=True)
    (batch, channels, length), (groups, states) = u.shape, B.shape[1:3]
    scan.grad = matrix(grad_out)
    grad_u, grad_delta = (torch.empty(u.shape, dtype=x.dtype, device=u.device) for x in (u, delta))
    grad_z = None if z is None else torch.empty(u.shape, dtype=z.dtype, device=u.device)
    grad_initial = (
        None if initial_state is None else torch.empty_like(initial_state, memory_format=torch.contiguous_format)
    )
    scan.out_align = _rows_align(length, [x for x in (grad_u, grad_delta, grad_z) if x is not None])
    scan.grad_u, scan.grad_delta = grad_u.data_ptr(), grad_delta.data_ptr()
    scan.grad_z, scan.grad_initial = _pointer(grad_z, alive), _pointer(grad_initial, alive)
    scan.grad_last, scan.saved = _pointer(grad_last_state, alive), saved.data_ptr()

    blocks = -(-(channels // groups) // form.block)
    shape = (2, batch, groups, states, length)
    products = A.new_empty(blocks, *shape) if deterministic else A.new_zeros(1, *shape)
    scan.grad_B, scan.grad_C = products[0, 0].data_ptr(), products[0, 1].data_ptr()
    scan.part = products.stride(0) if deterministic else 0
    macros = (*_dtypes(u, delta, z, B, C, grad_out.dtype), *_layout(scan))
    _cut(scan, form, u.device, alive, macros, first=False)
    per_channel = A.new_empty(batch * scan.segments, channels * (states + 2))
    scan.grad_channel = per_channel.data_ptr()
    _run("rows_backward" if isinstance(form, Rows) else "scan_backward", scan, form, macros, u.device)

    grad_B, grad_C = products.sum(0) if deterministic else products[0]
    of_A, of_D, of_bias = per_channel.sum(0).split((channels * states, channels, channels))
    return (
        grad_u, grad_delta, of_A.view(channels, states), grad_B.to(B.dtype), grad_C.to(C.dtype),
        None if D is None else of_D, grad_z, None if delta_bias is None else of_bias, grad_initial,
    )  # fmt: skip


def _operands(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, delta_softplus: bool,
) -> tuple[Scan, list[Tensor]]:  # fmt: skip
    """The parameter with its operands, and the small copies of them that must live until the launch."""
    alive: list[Tensor] = []
    scan = Scan()
    scan.u, scan.delta, scan.B, scan.C = matrix(u), matrix(delta), grouped(B), grouped(C)
    if z is not None:
        scan.z = matrix(z)
    scan.A, scan.D, scan.bias = _pointer(A, alive), _pointer(D, alive), _pointer(delta_bias, alive)
    scan.batch, scan.channels, scan.length = u.shape
    scan.groups, scan.states = B.shape[1:3]
    scan.softplus = delta_softplus
    scan.segment, scan.segments = scan.length, 1
    scan.chunk = chunk_size(scan.states, scan.length, z is not None)
    return scan, alive


def _pointer(x: Tensor | None, alive: list[Tensor]) -> int | None:
    """Where a small operand lies, in one piece."""
    if x is None:
        return None
    alive.append(x.contiguous())
    return alive[-1].data_ptr()


def matrix(x: Tensor) -> Matrix:
    return Matrix(x.data_ptr(), *x.stride(), _align(x))


def grouped(x: Tensor) -> Grouped:
    return Grouped(x.data_ptr(), *x.stride(), _align(x))


def _align(x: Tensor) -> int:
    """The bytes, 16 at most, of which every row of ``x`` starts at a multiple; 0 if the rows are scattered."""
    *outer, step = x.stride()
    if step != 1 and x.shape[-1] > 1:
        return 0
    steps = [stride for stride, size in zip(outer, x.shape[:-1], strict=True) if size > 1]
    return math.gcd(x.data_ptr(), 16, *(stride * x.element_size() for stride in steps))


def _rows_align(length: int, outputs: list[Tensor]) -> int:
    """The like for outputs b d l that are in one piece."""
    return min(math.gcd(16, x.data_ptr(), length * x.element_size()) for x in outputs)


def _dtypes(u: Tensor, delta: Tensor, z: Tensor | None, B: Tensor, C: Tensor, out: torch.dtype) -> tuple[str, ...]:
    """The macros that name the operands' dtypes."""
    named = {
        "TU": u.dtype,
        "TD": delta.dtype,
        "TZ": u.dtype if z is None else z.dtype,
        "TB": B.dtype,
        "TC": C.dtype,
        "TO": out,
    }
    return *(f"-D{name}={NAMES[dtype]}" for name, dtype in named.items()), f"-DHAS_Z={int(z is not None)}"


def _layout(scan: Scan) -> tuple[str, ...]:
    """The macros that spare the kernels for two states and more what they would ask of every operand."""
    if scan.states == 1:
        return ()
    given = [x for x in (scan.u, scan.delta, scan.z, scan.grad, scan.B, scan.C) if x.at]
    whole = scan.length % 8 == 0 and all(align == 16 for align in (scan.out_align, *(x.align for x in given)))
    return f"-DSOFTPLUS={int(scan.softplus)}", f"-DWHOLE={int(whole)}"


def source(kernel: str) -> str:
    """The text of a kernel, with what it includes."""
    return kernels.source(*(f"selective_scan/cuda/{name}" for name in _SOURCES[kernel]))


@functools.cache
def options(kernel: str, form: States | Rows, dtypes: tuple[str, ...]) -> tuple[str, ...]:
    """The macros that a kernel is compiled with."""
    back = kernel.endswith("backward")
    chosen = {"WARPS": form.warps, "RESIDENT": form.resident_backward if back else form.resident}
    if isinstance(form, Rows):
        chosen |= {"SPAN": form.span, "ROWS": form.rows}
    else:
        chosen |= {
            "LANES": form.lanes,
            "STATES": form.states,
            "TILE": form.tile,
            "ROOM": _room(kernel),
            "SWAP": int(back),
        }
        if back:
            chosen["SUB"] = form.sub
        elif kernel == "scan_forward":
            chosen["UNROLL"] = form.unroll
    return *dtypes, *(f"-D{name}={value}" for name, value in chosen.items())


def shared_bytes(kernel: str, form: States | Rows) -> int:
    """The dynamic shared memory of a block, as the sources lay it out."""
    if isinstance(form, Rows):
        return 0
    padded, threads, runs = form.lanes * form.states, 32 * form.warps, form.tile // 8
    matrix = form.tile * padded + runs * (8 if form.tile <= 32 else 4)
    if kernel == "scan_forward":
        sums, groups = min(form.lanes, 4), form.tile // 4
        used = groups + (groups - 1) // 8
        return 16 * form.block * (sums * (used + (8 // sums - used) % 8) + 1) + 16 * matrix
    pitch = form.tile + (runs + 1) * _room(kernel)
    if kernel == "scan_backward":
        products = 2 * form.warps * form.sub * (2 * padded + 4)
        bounds = form.tile // form.sub * threads * form.states
        return 16 * form.block * pitch + 4 * (2 * matrix + bounds + products)
    return 8 * form.block * pitch + 4 * matrix


def _room(kernel: str) -> int:
    """How many structures of a position make 16 bytes."""
    return 1 if kernel == "scan_backward" else 2


def _cut(
    scan: Scan, form: States | Rows, device: torch.device, alive: list[Tensor], dtypes: tuple[str, ...], first: bool
) -> None:
    """Cut l into segments where there are too few blocks, and compute what crosses from one to the next."""
    if isinstance(form, Rows):
        return
    pieces = -(-scan.length // SEGMENT)
    blocks = _blocks(scan, form)
    wanted = min(form.fill * kernels.multiprocessors(device) // blocks, pieces * SEGMENT // 512)
    per_segment = -(-pieces // max(wanted, 1))
    scan.segment, scan.segments = per_segment * SEGMENT, -(-pieces // per_segment)
    if not first and scan.chunk > form.tile and not _room_in_gradient(scan, form, dtypes):
        alive.append(_empty(device, scan.segments, scan.batch, scan.channels, scan.chunk // form.tile, scan.states))
        scan.mid = alive[-1].data_ptr()
    if scan.segments == 1:
        return
    edge = _empty(device, scan.segments, scan.batch, scan.channels, scan.states)
    edge_sum = _empty(device, scan.segments, scan.batch, scan.channels)
    alive += [edge, edge_sum]
    scan.edge, scan.edge_sum = edge.data_ptr(), edge_sum.data_ptr()
    _run("scan_edges", scan, form, (*dtypes, f"-DFORWARD={int(first)}"), device, scan.segments - 1)


def _room_in_gradient(scan: Scan, form: States, macros: tuple[str, ...]) -> bool:
    """Whether the states before a tile fit where the gradient of u of that tile will be, the last tile too."""
    size = 4 if "-DTU=float" in macros else 2
    last = (scan.length - 1) % form.tile + 1
    return "-DWHOLE=1" in macros and 4 * scan.states <= size * last


def _empty(device: torch.device, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=device)


def _blocks(scan: Scan, form: States | Rows) -> int:
    """Blocks of one segment."""
    return scan.batch * scan.groups * -(-(scan.channels // scan.groups) // form.block)


def _run(
    kernel: str,
    scan: Scan,
    form: States | Rows,
    dtypes: tuple[str, ...],
    device: torch.device,
    segments: int | None = None,
) -> None:
    """Launch a kernel over all blocks and segments."""
    macros = options(kernel, form, dtypes)
    grid = _blocks(scan, form), scan.segments if segments is None else segments
    nvrtc.launch(source(kernel), macros, kernel, grid, 32 * form.warps, shared_bytes(kernel, form), scan, device)

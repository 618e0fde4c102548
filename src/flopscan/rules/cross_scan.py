"""VMamba's cross scan and cross merge: an image read as four sequences, and four sequences summed back into an image.

The routes by ``scans``: 0 row by row, column by column, and both from the end; 1 row by row four times; 2 row by row
twice and from the end twice. With ``one_by_one`` each route has an image of its own, and a merge sums nothing. A scan
copies; it is the gradient of a merge, and a merge is the gradient of a scan. Here c are channels, h and w the sides
of the image. Source: MzeroMiko/VMamba, classification/models/csm_triton.py.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule

_ROUTES = {0: ("rows", "columns", "-rows", "-columns"), 1: ("rows",) * 4, 2: ("rows", "rows", "-rows", "-rows")}


def _pixel(route: str, p: int, h: int, w: int) -> tuple[int, int]:
    """Where step p of a route is in the image."""
    if route.startswith("-"):
        return _pixel(route[1:], h * w - 1 - p, h, w)
    return divmod(p, w) if route == "rows" else (p % h, p // h)


def scan(x: Array, scans: int = 0, one_by_one: bool = False) -> Array:
    """The definition of the scan: (b c h w), or (b 4 c h w) one by one, to (b 4 c l)."""
    b, *_, c, h, w = x.shape
    routes = _ROUTES[scans]

    def at(i: int, k: int, channel: int, p: int) -> Any:
        image = x[i, k, channel] if one_by_one else x[i, channel]
        return image[_pixel(routes[k], p, h, w)]

    return Array.make((b, 4, c, h * w), at)


def merge(y: Array, scans: int = 0, one_by_one: bool = False) -> Array:
    """The definition of the merge: (b 4 c h w), four sequences, to (b c l), or to (b 4 c l) one by one."""
    b, _, c, h, w = y.shape
    flat = y.reshape(b, 4, c, h * w)
    pixels = [(i, j) for i in range(h) for j in range(w)]
    steps = [{_pixel(route, p, h, w): p for p in range(h * w)} for route in _ROUTES[scans]]
    if one_by_one:
        return Array.make((b, 4, c, h * w), lambda i, k, channel, p: flat[i, k, channel, steps[k][pixels[p]]])
    return Array.make(
        (b, c, h * w), lambda i, channel, p: total(flat[i, k, channel, steps[k][pixels[p]]] for k in range(4))
    )


def scan_backward(grad: Array, x: Array, scans: int = 0, one_by_one: bool = False) -> Array:
    """The gradient of x: the merge of the sequences' gradients."""
    b, c, (h, w) = x.shape[0], x.shape[-3], x.shape[-2:]
    return merge(grad.reshape(b, 4, c, h, w), scans, one_by_one).reshape(*x.shape)


def merge_backward(grad: Array, y: Array, scans: int = 0, one_by_one: bool = False) -> Array:
    """The gradient of y: the scan of the image's gradient."""
    b, _, c, h, w = y.shape
    image = grad.reshape(b, 4, c, h, w) if one_by_one else grad.reshape(b, c, h, w)
    return scan(image, scans, one_by_one).reshape(*y.shape)


def _gradient_alone(call: Call) -> tuple[int, int]:
    """The gradient is read; what it is of has given its shape."""
    return call["grad"].nbytes, sum(t.nbytes for t in call.outputs)


@rule("flopscan::cross_scan", contract="x: b c h w | b 4 c h w", reference=scan)
def cross_scan() -> Cost:
    """Nothing: a scan copies."""
    return Cost()


@rule("flopscan::cross_merge", contract="y: b 4 c h w", reference=merge)
def cross_merge(b: Any, c: Any, h: Any, w: Any, one_by_one: bool = False) -> Cost:
    """3 additions a channel and pixel, none one by one."""
    return Cost(add=0 if one_by_one else 3 * b * c * h * w)


@rule(
    "flopscan::cross_scan_backward", contract="grad: b 4 c _, x: b c h w | b 4 c h w",
    moves=_gradient_alone, reference=scan_backward,
)  # fmt: skip
def cross_scan_backward(b: Any, c: Any, h: Any, w: Any, one_by_one: bool = False) -> Cost:
    """A merge: 3 additions a channel and pixel, none one by one."""
    return cross_merge(b, c, h, w, one_by_one)


@rule(
    "flopscan::cross_merge_backward", contract="grad: b c _ | b 4 c _, y: b 4 c h w",
    moves=_gradient_alone, reference=merge_backward,
)  # fmt: skip
def cross_merge_backward() -> Cost:
    """Nothing: a scan copies."""
    return Cost()


# The kernels, as they are launched: x is the image, y the sequences, one of them written. Layouts and tiles move no
# further bytes, and a merge adds up as many sequences as y has images. MobileMamba's ``_k2`` has two; LocalMamba's two
# kernels reorder an image by windows.


def _launched(merging: bool | None) -> dict[str, Any]:
    """The sizes and the bytes of a launch that merges, or scans; None: as its operand ``operation`` says."""

    def merges(call: Call) -> bool:
        return call.get("operation") == 1 if merging is None else merging

    def moves(call: Call) -> tuple[int, int]:
        read, written = (call.get(name) for name in (("y", "x") if merges(call) else ("x", "y")))
        return getattr(read, "nbytes", 0), getattr(written, "nbytes", 0)

    def sizes(call: Call) -> dict[str, int]:
        x, y = call.get("x"), call.get("y")
        if not (isinstance(x, TensorSpec) and isinstance(y, TensorSpec) and x.numel and y.numel % x.numel == 0):
            raise ContractError(f"{call.op}: operand 'y' is {y}, expected a multiple of 'x', {x}")
        if merging is None and call.get("operation") not in (0, 1):
            told = call.get("operation")
            raise ContractError(f"{call.op}: operand 'operation' is {told}, expected 0 (scan) or 1 (merge)")
        return {"added": y.numel - x.numel if merges(call) else 0}

    return {"moves": moves, "sizes": sizes}


@rule("triton::triton_cross_scan_flex", "triton::triton_cross_scan_flex_k2", **_launched(None))
def kernel(added: Any) -> Cost:
    """A scan nothing; a merge one addition a pixel for each sequence after the first, so none one by one."""
    return Cost(add=added)


rule(
    "triton::triton_cross_scan", "triton::triton_cross_scan_1b1", "triton::triton_local_scan",
    "triton::triton_local_reverse", **_launched(False),
)(kernel)  # fmt: skip
rule("triton::triton_cross_merge", "triton::triton_cross_merge_1b1", **_launched(True))(kernel)

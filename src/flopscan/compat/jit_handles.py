"""Handles for fvcore's FlopCountAnalysis: change VMamba's import of these two names to this module, and nothing else.

>>> sorted(name for name in supported_ops() if "SelectiveScanC" in name)
['prim::PythonOp.SelectiveScanCore', 'prim::PythonOp.SelectiveScanCuda']

fvcore counts all other operators by itself, as multiply-adds; ``supported_ops("vmamba")`` together with it is how the
VMamba repository counts. A call that cannot be bound is warned of (FS301) and adds nothing; one that was bound from
shapes alone is warned of too (FS302), with what was assumed; so is a kernel for which the convention has no number
(FS303).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from flopscan import conventions
from flopscan.analysis import price_call
from flopscan.capture.jit import GraphCall, read
from flopscan.capture.leaves import Leaf
from flopscan.compat import fused_signatures, scan_signatures
from flopscan.core.convention import Convention
from flopscan.core.trace import Call
from flopscan.errors import ContractError, UsageError, warn

Binder = Callable[[GraphCall], tuple[Sequence[Call], str]]
Count = Callable[[Call], int | None]
Handle = Callable[[Sequence[Any], Sequence[Any]], int]
_BACKENDS = {"prefixsum": "vmamba", "naive": "vmamba-v0"}


def selective_scan_flop_jit(
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    flops_fn: Callable[..., int] | None = None,
    backend: str = "prefixsum",
    verbose: bool = False,
) -> int:
    """What one selective scan adds, in place of VMamba's function of this name: 9 per (b,d,l,n), 1 for D, 1 for z.

    ``flops_fn`` takes B, L, D, N, with_D and with_Z and counts instead; ``backend="naive"`` is the 3.5 per (b,d,l,n)
    of the first version. ``verbose`` prints the operands as they were bound.
    """
    if backend not in _BACKENDS:
        raise UsageError(f"backend is 'prefixsum' or 'naive', got {backend!r}")
    count = functools.partial(_ask, flops_fn) if flops_fn else _counter(conventions.get(_BACKENDS[backend]))
    return _handle(inputs, outputs, binder=_scan, count=count, verbose=verbose)


def supported_ops(convention: str = "vmamba", *, verbose: bool = False) -> dict[str, Handle | None]:
    """Handles for ``FlopCountAnalysis.set_op_handle(**supported_ops())``: scans, crossings and what holds scans inside.

    The None entries are those that VMamba ignores. A class with another name is added by hand:
    ``{"prim::PythonOp.MyScan": selective_scan_flop_jit}``. ``verbose`` prints each call as it was bound, with notes.
    """
    count = _counter(conventions.get(convention))
    binders: dict[str, Binder] = {
        **{f"prim::PythonOp.{name}": binder for name, binder in fused_signatures.binders().items()},
        **{f"prim::PythonOp.{name}": _scan for name in scan_signatures.CLASSES},
        scan_signatures.OPERATOR: _scan,
        f"prim::PythonOp.{Leaf.__name__}": _stand_in,
    }
    ignored: dict[str, Handle | None] = dict.fromkeys(("aten::silu", "aten::neg", "aten::exp", "aten::flip"))
    return ignored | {
        name: functools.partial(_handle, binder=b, count=count, verbose=verbose) for name, b in binders.items()
    }


def _scan(call: GraphCall) -> tuple[Sequence[Call], str]:
    bound, note = scan_signatures.bind(call)
    return (bound,), note


def _stand_in(call: GraphCall) -> tuple[Sequence[Call], str]:
    """A stand-in of ours is called with its operands as a trace has them."""
    _, seam, whole, *_ = call.operands
    return tuple(seam.parts(whole)) if seam.parts else (whole,), ""


def _handle(
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    binder: Binder,
    count: Count,
    verbose: bool = False,
) -> int:
    """The sum over the calls that ``binder`` finds in the node of ``outputs``; 0 with a warning where it cannot."""
    name = outputs[0].node().kind()
    try:
        call = read(outputs)
        name = call.name
        bound, note = binder(call)
        counts = [count(each) for each in bound]
    except ContractError as error:
        warn("FS301", f"a call of {name} is not counted: {error}")
        return 0
    missing = dict.fromkeys(each.op for each, counted in zip(bound, counts, strict=True) if counted is None)
    if missing:
        warn("FS303", f"a call of {name} is counted without {', '.join(missing)}: the convention has no number for it")
    if call.parameters is None and note:
        warn("FS302", note)
    if verbose:
        for each in bound:
            given = ", ".join(f"{key} {value}" for key, value in each.args.items() if value is not None)
            print(f"{name} as {each.op}: {given}")
        if note:
            print(note)
    return sum(counted or 0 for counted in counts)


def _counter(convention: Convention) -> Count:
    """The count of one call under ``convention``, None for a kernel that it does not know of.

    Raises ContractError where neither the convention nor a rule knows the call.
    """

    def count(call: Call) -> int | None:
        price = price_call(call)
        if price.ideal is None and call.op not in convention.handles:
            raise ContractError(f"{call.op}: {price.note}")
        if not convention.weights and call.op not in convention.handles and call.op.startswith("flopscan::"):
            return None
        return convention.of(call, price.ideal)

    return count


def _ask(flops_fn: Callable[..., int], call: Call) -> int:
    """What a function with the signature of VMamba's ``flops_selective_scan_fn`` says."""
    (batch, channels, length), states = call["u"].shape, call["A"].shape[-1]
    given = {"with_D": call.get("D") is not None, "with_Z": call.get("z") is not None}
    return int(flops_fn(B=batch, L=length, D=channels, N=states, **given))

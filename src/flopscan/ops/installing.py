"""`install`: code that imports the scans of mamba_ssm, VMamba and causal_conv1d finds flopscan's operators instead.

    import flopscan.ops
    with flopscan.ops.install():
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

No such package needs to be there. One that is installed keeps its place unless its name is in ``over``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from flopscan.ops.causal_conv1d import causal_conv1d, causal_conv1d_update
from flopscan.ops.selective_scan import selective_scan
from flopscan.ops.selective_state_update import selective_state_update


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """mamba_ssm's function: the output, with ``return_last_state`` also the last state."""
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)


def _oflex_fwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    delta_softplus: bool, nrows: int = 1, out_float: bool = True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """VMamba's ``selective_scan_cuda_oflex.fwd``: the output, in float32 where asked, and what its ``bwd`` takes."""
    out, _, kept = torch.ops.flopscan.selective_scan.default(
        u, delta, A, B, C, D, None, delta_bias, delta_softplus, None, keep=True,
        dtype=torch.float32 if out_float else None,
    )  # fmt: skip
    return out, kept


def _oflex_bwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    grad: Tensor, kept: Tensor, delta_softplus: bool, nrows: int = 1,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Its ``bwd``: the gradients of u, delta, A, B, C, D and delta_bias, those of B and C in float32."""
    grads = torch.ops.flopscan.selective_scan_backward.default(
        grad, u, delta, A, B, C, D, None, delta_bias, delta_softplus, None, None, kept
    )
    own = dict(zip(("u", "delta", "A", "B", "C", "D", "z", "delta_bias"), grads, strict=False))
    of_D, of_bias = (None if x is None else own[name] for name, x in (("D", D), ("delta_bias", delta_bias)))
    return own["u"], own["delta"], own["A"], own["B"].float(), own["C"].float(), of_D, of_bias


# by package: its modules, and what each of them offers
PACKAGES: dict[str, dict[str, dict[str, Callable[..., Any]]]] = {
    "mamba_ssm": {
        "mamba_ssm": {"selective_scan_fn": selective_scan_fn},
        "mamba_ssm.ops": {},
        "mamba_ssm.ops.selective_scan_interface": {"selective_scan_fn": selective_scan_fn},
        "mamba_ssm.ops.triton": {},
        "mamba_ssm.ops.triton.selective_state_update": {"selective_state_update": selective_state_update},
    },
    "causal_conv1d": {
        "causal_conv1d": {"causal_conv1d_fn": causal_conv1d, "causal_conv1d_update": causal_conv1d_update},
        "causal_conv1d.causal_conv1d_interface": {
            "causal_conv1d_fn": causal_conv1d,
            "causal_conv1d_update": causal_conv1d_update,
        },
    },
    "selective_scan_cuda_oflex": {"selective_scan_cuda_oflex": {"fwd": _oflex_fwd, "bwd": _oflex_bwd}},
}
_MISSING = object()


class Installed:
    """What `install` put in place; taken away again by `uninstall` or at the end of a ``with``."""

    def __init__(self) -> None:
        self.packages: list[str] = []
        self._modules: list[tuple[str, ModuleType]] = []
        self._attributes: list[tuple[Any, str, Any]] = []

    def uninstall(self) -> None:
        """Restore what was there; names that were imported meanwhile stay flopscan's."""
        for owner, name, before in reversed(self._attributes):
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        for name, module in self._modules:
            if sys.modules.get(name) is module:
                del sys.modules[name]
        self.packages, self._modules, self._attributes = [], [], []

    def __enter__(self) -> Installed:
        return self

    def __exit__(self, *error: Any) -> None:
        self.uninstall()

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._attributes.append((owner, name, owner.__dict__.get(name, _MISSING)))
        setattr(owner, name, value)

    def _make(self, modules: dict[str, dict[str, Callable[..., Any]]]) -> None:
        """A package that is not installed, with the functions alone."""
        for path, functions in modules.items():
            module = ModuleType(path, "Stands in for a package that is not installed: flopscan.ops.install().")
            inner = [other for other in modules if other.startswith(path + ".")]
            module.__spec__ = importlib.machinery.ModuleSpec(path, None, is_package=bool(inner))
            if inner:
                module.__path__ = []
            module.__dict__.update(functions)
            sys.modules[path] = module
            self._modules.append((path, module))
            parent, _, name = path.rpartition(".")
            if parent:
                setattr(sys.modules[parent], name, module)

    def _patch(self, modules: dict[str, dict[str, Callable[..., Any]]]) -> None:
        """The functions of a package that is installed."""
        for path, functions in modules.items():
            if functions:
                module = importlib.import_module(path)
                for name, function in functions.items():
                    self._set(module, name, function)


def install(*packages: str, over: Iterable[str] = ()) -> Installed:
    """Put flopscan's operators where ``packages`` have theirs; none means all that are known.

    A package that is not installed can be imported then, with the functions that flopscan has and nothing else. One
    that is installed stays as it is, unless it is named in ``over``: then its functions are replaced. Undo it by
    ``uninstall()`` of what is returned, or use that as a context manager. Raises ValueError for an unknown package.
    """
    over = tuple(over)
    unknown = [name for name in (*packages, *over) if name not in PACKAGES]
    if unknown:
        raise ValueError(f"no functions for {', '.join(unknown)}; there are some for {', '.join(PACKAGES)}")
    installed = Installed()
    try:
        for name in packages or PACKAGES:
            there = name in sys.modules or importlib.util.find_spec(name) is not None
            if there and name in over:
                installed._patch(PACKAGES[name])
            elif there:
                continue
            else:
                installed._make(PACKAGES[name])
            installed.packages.append(name)
    except BaseException:
        installed.uninstall()
        raise
    return installed

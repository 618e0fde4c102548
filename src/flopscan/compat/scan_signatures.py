"""Selective scans as packages declare them, and the binding of a call to the operands u, delta, A, B, C, D, z.

Names of parameters decide, never names of values; shapes are then held against the contract of the scan.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flopscan.capture.jit import GraphCall
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules.selective_scan import CONTRACT, by_state

OPERATOR = "flopscan::selective_scan"
CONTRACT_OF = by_state(CONTRACT)  # where A is complex, B and C have pairs of numbers along the length
REQUIRED = ("u", "delta", "A", "B", "C")
OPTIONAL = ("D", "z", "delta_bias")
STATE = "initial_state"  # of flopscan's own operator alone
FLAG = "delta_softplus"
INDICES = ("cu_seqlens", "seq_idx")  # tensors that say where a sequence begins: no arithmetic

_ALIASES = {
    "u": ("xs", "x", "us"),
    "delta": ("dts", "dt", "deltas"),
    "A": ("As",),
    "B": ("Bs",),
    "C": ("Cs",),
    "D": ("Ds",),
    "z": ("zs",),
    "delta_bias": ("bias", "dt_bias", "dts_bias", "dt_projs_bias"),
    STATE: (),
    FLAG: ("dt_softplus", "softplus"),
}
_ROLES = {name: role for role, aliases in _ALIASES.items() for name in (role, *aliases)}

_GATED = (*REQUIRED, *OPTIONAL, FLAG, "return_last_state", "cu_seqlens")
_PLAIN = (*REQUIRED, "D", "delta_bias", FLAG)
_ROWS = (*_PLAIN, "nrows", "backnrows", "oflex")

_REPOSITORY = {
    "SelectiveScanCuda": (*_PLAIN, "oflex", "backend"),
    "SelectiveScan": (*_PLAIN, "nrows"),
    **{f"SelectiveScan{kernel}": _ROWS for kernel in ("Mamba", "Core", "Oflex", "NRow", "Fake")},
}

# by the module that a package or repository has the class in (its last parts are enough), then by class; older versions
# have a part of the same list, from its beginning
SIGNATURES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "mamba_ssm.ops.selective_scan_interface": {"SelectiveScanFn": _GATED},
    "selective_scan.selective_scan_interface": {
        "SelectiveScanFn": (*_PLAIN, "nrows"),
        "SelectiveScan": (*_PLAIN, "nrows"),
    },
    "csms6s": _REPOSITORY,
    "vmamba": _REPOSITORY,
}
CLASSES = tuple(dict.fromkeys(name for classes in SIGNATURES.values() for name in classes))


def bind(call: GraphCall) -> tuple[Call, str]:
    """The scan that ``call`` is, and a note of what was taken on trust ('' for nothing). Raises ContractError."""
    if call.parameters is None:
        return _by_shapes(call)
    known, own = _declared(call), tuple(name for name, _ in call.parameters)
    if known is not None and not own:  # a decorator hides the names
        call = replace(call, parameters=tuple((name, None) for name in known))
    operands, strangers = _roles(call)
    notes = []
    if call.qualified and known is None:
        notes.append(f"{call.qualified} is bound by the names of its own parameters and by its shapes")
    elif known is not None and own != known[: len(own)]:
        notes.append(f"{call.qualified}{_version(call)} has another signature than the one known; bound by its names")
    if strangers:
        notes.append(f"{call.name}: what {', '.join(strangers)} means was not looked at")
    return _checked(call, operands), "; ".join(notes)


def _declared(call: GraphCall) -> tuple[str, ...] | None:
    """The parameters that the package or repository declares for this class, None for a class of somebody's own."""
    module, _, name = call.qualified.rpartition(".")
    for home, classes in SIGNATURES.items():
        if (module == home or module.endswith(f".{home}")) and name in classes:
            return classes[name]
    return None


def _version(call: GraphCall) -> str:
    """The installed version of the package that has the class, in brackets; '' where it is not a package."""
    package = call.qualified.partition(".")[0]
    if _declared(call) is None or not package:
        return ""
    try:
        return f" ({importlib.metadata.version(package)})"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _roles(call: GraphCall) -> tuple[dict[str, Any], list[str]]:
    """The operands by role, and the given parameters that no known signature has. Raises ContractError."""
    roles: dict[str, Any] = {}
    strangers = []
    usual = {name for classes in SIGNATURES.values() for names in classes.values() for name in names} | {
        "keep",
        "dtype",
    }
    for name, value in call.named().items():
        role = _ROLES.get(name)
        if role is None:
            if isinstance(value, TensorSpec) and name not in INDICES:
                raise ContractError(f"{_who(call)}: its operand '{name}' {value.shape} is none that a scan has")
            if name not in usual:
                strangers.append(name)
        elif role in roles:
            raise ContractError(f"{_who(call)}: two of its parameters are '{role}', the second is '{name}'")
        else:
            roles[role] = value
    missing = [role for role in REQUIRED if role not in roles]
    if missing:
        has = ", ".join(name for name, _ in call.parameters or ()) or "none that can be read"
        raise ContractError(f"{_who(call)}: no parameter is '{' or '.join(missing)}'; its parameters are {has}")
    return roles, strangers


def _who(call: GraphCall) -> str:
    return f"{call.qualified or call.name}{_version(call)}"


def _checked(call: GraphCall, operands: Mapping[str, Any]) -> Call:
    """The scan of ``operands``, held against the contract. Raises ContractError."""
    args: dict[str, Any] = {}
    for role in (*REQUIRED, *OPTIONAL, STATE):
        value = operands.get(role)
        if not (isinstance(value, TensorSpec) or (value is None and role not in REQUIRED)):
            raise ContractError(f"{_who(call)}: operand '{role}' is {value!r}, expected a tensor")
        args[role] = value
    softplus = operands.get(FLAG)
    if softplus is not None and not isinstance(softplus, (bool, int)):
        raise ContractError(f"{_who(call)}: operand '{FLAG}' is {softplus}, expected True or False")
    args[FLAG] = bool(softplus)
    if len(args["A"].shape) == 1:  # VMamba's kernel for one state: A (d), B and C (b g l)
        args["A"] = replace(args["A"], shape=(*args["A"].shape, 1))
        for role in ("B", "C"):
            if len(args[role].shape) == 3:
                batch, groups, length = args[role].shape
                args[role] = replace(args[role], shape=(batch, groups, 1, length))
    bound = Call(OPERATOR, args, call.outputs)
    CONTRACT_OF(replace(bound, op=_who(call))).bind(
        _who(call), {role: args[role] for role in (*REQUIRED, *OPTIONAL, STATE)}
    )
    return bound


def _by_shapes(call: GraphCall) -> tuple[Call, str]:
    """The scan of a graph without Python objects: tensors in the order that every known signature has."""
    tensors = [value for value in call.operands if isinstance(value, TensorSpec)]
    if len(tensors) < len(REQUIRED):
        raise ContractError(f"{call.name}: {len(tensors)} tensors, a scan has at least u, delta, A, B and C")
    operands: dict[str, Any] = dict(zip(REQUIRED, tensors, strict=False))
    rest = tensors[len(REQUIRED) :]
    gates = [i for i, spec in enumerate(rest) if len(spec.shape) == 3]
    vectors = [i for i, spec in enumerate(rest) if len(spec.shape) == 1]
    if len(gates) > 1 or len(vectors) > 2 or len(gates) + len(vectors) != len(rest):
        shapes = ", ".join(str(spec.shape) for spec in rest)
        raise ContractError(f"{call.name}: after u, delta, A, B and C come {shapes}, expected D, z and delta_bias")
    if len(vectors) == 1 and not gates:
        raise ContractError(
            f"{call.name}: the operand {rest[0].shape} after C fits 'D' and 'delta_bias' alike, and the graph has no "
            "Python function to tell; flopscan does not guess, trace the model again in this process"
        )
    if gates:
        operands["z"] = rest[gates[0]]
    for i in vectors:
        first = i < gates[0] if gates else i == vectors[0]
        role = "D" if first else "delta_bias"
        if role in operands:
            raise ContractError(f"{call.name}: two operands would be '{role}'")
        operands[role] = rest[i]
    operands[FLAG] = True
    assumed = ", ".join((*REQUIRED, *OPTIONAL))
    note = f"{call.name}: the graph has no Python function; assumed the order {assumed}, and a softplus of delta"
    return _checked(call, operands), note

"""Contracts: what shapes an operator takes, in axis letters, and the binding of real shapes to those letters.

    u: b d l, A: d n, B: d n | b n l | b g n l, D?: d, x: *s, d % g

Each operand has one or more forms. A letter is an axis that must be the same size wherever it occurs; ``2l`` is twice
that axis, a number is itself, ``_`` is any size, and ``*s`` is the product of all the axes that the others leave over.
``?`` marks an operand that may be absent. ``d % g`` says that d is a multiple of g.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flopscan.core.trace import TensorSpec
from flopscan.errors import ContractError, RuleError

_MULTIPLE = re.compile(r"\s*(\w+) % (\w+)\s*")
_TOKEN = re.compile(r"(\d*)([A-Za-z]\w*)?|\*([A-Za-z]\w*)|_")


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of a contract: its name, its forms (each a tuple of axis tokens), whether it may be absent."""

    name: str
    forms: tuple[tuple[str, ...], ...]
    optional: bool

    def expected(self) -> str:
        """The forms as an error text names them."""
        quoted = [f"'{' '.join(form)}'" for form in self.forms]
        return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


@dataclass(frozen=True, slots=True)
class Binding:
    """Axis sizes by letter, the form that each operand took, and which operands were given."""

    sizes: Mapping[str, int]
    forms: Mapping[str, str]

    @property
    def given(self) -> frozenset[str]:
        """The operands that were there."""
        return frozenset(self.forms)


@dataclass(frozen=True, slots=True)
class Contract:
    """A parsed contract; `bind` matches shapes against it or says what is wrong."""

    text: str
    operands: tuple[Operand, ...]
    multiples: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def parse(text: str) -> Contract:
        """The contract that ``text`` writes down. Raises RuleError where it cannot be read."""
        operands = []
        parts = text.split(",")
        multiples = [(found[1], found[2]) for part in parts if (found := _MULTIPLE.fullmatch(part))]
        for part in parts:
            if _MULTIPLE.fullmatch(part):
                continue
            name, colon, forms = part.partition(":")
            name = name.strip()
            if not colon or not name:
                raise RuleError(f"contract {text!r}: expected 'name: axes', got {part.strip()!r}")
            tokens = tuple(tuple(form.split()) for form in forms.split("|"))
            for token in (t for form in tokens for t in form):
                if not _TOKEN.fullmatch(token):
                    raise RuleError(f"contract {text!r}: {token!r} is not an axis letter, a number, '*letter' or '_'")
            operands.append(Operand(name.removesuffix("?"), tokens, name.endswith("?")))
        return Contract(text, tuple(operands), tuple(multiples))

    def bind(self, op: str, tensors: Mapping[str, TensorSpec | None]) -> Binding:
        """The sizes of every axis. Operands with one form are bound first, so that they decide between forms of others.

        Raises ContractError in words that name the operand, the axes and where each was bound.
        """
        sizes: dict[str, int] = {}
        origin: dict[str, str] = {}
        forms: dict[str, str] = {}
        for operand in sorted(self.operands, key=lambda o: len(o.forms) > 1):
            spec = tensors.get(operand.name)
            if spec is None:
                if not operand.optional:
                    raise ContractError(f"{op}: operand '{operand.name}' is missing, expected {operand.expected()}")
                continue
            fits = [form for form in operand.forms if _conflict(form, spec.shape, sizes) is None]
            if len(fits) != 1:
                raise ContractError(_explain(op, operand, spec, sizes, origin, tensors, fits))
            for letter, size in _letters(fits[0], spec.shape, sizes).items():
                if letter not in sizes:
                    sizes[letter] = size
                    origin[letter] = operand.name
            forms[operand.name] = " ".join(fits[0])
        for whole, part in self.multiples:
            if whole in sizes and part in sizes and (not sizes[part] or sizes[whole] % sizes[part]):
                name, of = origin[part], origin[whole]
                raise ContractError(
                    f"{op}: operand '{name}' is {_shape(tensors[name])}, expected '{forms[name]}': axis {part} is"
                    f" {sizes[part]}, which does not divide {whole}, {sizes[whole]} in '{of}' {_shape(tensors[of])}"
                )
        return Binding(sizes, forms)


def _split(form: tuple[str, ...], rank: int) -> tuple[int, int] | None:
    """The positions that a ``*`` token takes in a shape of ``rank``, or None where the rank does not fit."""
    stars = [i for i, token in enumerate(form) if token.startswith("*")]
    if not stars:
        return (rank, rank) if len(form) == rank else None
    after = len(form) - stars[0] - 1
    return (stars[0], rank - after) if rank >= len(form) - 1 else None


def _pairs(form: tuple[str, ...], shape: tuple[int, ...]) -> list[tuple[str, int]] | None:
    span = _split(form, len(shape))
    if span is None:
        return None
    if span == (len(shape), len(shape)) and len(form) == len(shape):
        return list(zip(form, shape, strict=True))
    left, right = span
    fixed = (*shape[:left], math.prod(shape[left:right]), *shape[right:])
    return list(zip(form, fixed, strict=True))


def _conflict(form: tuple[str, ...], shape: tuple[int, ...], sizes: Mapping[str, int]) -> str | None:
    """None where ``shape`` fits ``form`` under ``sizes``, else the first token that does not ('' for the rank)."""
    pairs = _pairs(form, shape)
    if pairs is None:
        return ""
    seen = dict(sizes)
    for token, size in pairs:
        factor, letter = _parse(token)
        if letter is None:
            if factor is not None and size != factor:
                return token
        elif (factor and size % factor) or seen.setdefault(letter, size // (factor or 1)) != size // (factor or 1):
            return token
    return None


def _parse(token: str) -> tuple[int | None, str | None]:
    match = _TOKEN.fullmatch(token)
    assert match is not None
    number, letter, star = match.groups()
    return (int(number) if number else None), letter or star


def _letters(form: tuple[str, ...], shape: tuple[int, ...], sizes: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for token, size in _pairs(form, shape) or ():
        factor, letter = _parse(token)
        if letter is not None:
            found.setdefault(letter, size // (factor or 1))
    return found


def _explain(
    op: str,
    operand: Operand,
    spec: TensorSpec,
    sizes: Mapping[str, int],
    origin: Mapping[str, str],
    tensors: Mapping[str, TensorSpec | None],
    fits: list[tuple[str, ...]],
) -> str:
    head = f"{op}: operand '{operand.name}' is {spec.shape}, expected {operand.expected()}"
    groups: dict[str, list[str]] = {}
    for letter, name in origin.items():
        groups.setdefault(name, []).append(f"{letter}={sizes[letter]}")
    where = [f"{', '.join(g)} (from '{name}' {_shape(tensors[name])})" for name, g in groups.items()]
    context = f"\n  where {' and '.join(where)}" if where else ""
    if len(fits) > 1:
        roles = " and ".join(f"'{' '.join(form)}'" for form in fits)
        return f"{head}{context}: it fits {roles} alike; flopscan does not guess, give sizes that tell them apart"
    reasons = []
    for form in operand.forms:
        token = _conflict(form, spec.shape, sizes)
        if token:
            reasons.append(_clash(token, form, operand.name, spec, sizes, origin))
    if not reasons:
        return f"{head}{context}: it has {len(spec.shape)} {'axis' if len(spec.shape) == 1 else 'axes'}"
    return f"{head}{context}: {'; '.join(dict.fromkeys(reasons))}"


def _clash(
    token: str,
    form: tuple[str, ...],
    name: str,
    spec: TensorSpec,
    sizes: Mapping[str, int],
    origin: Mapping[str, str],
) -> str:
    size = dict(_pairs(form, spec.shape) or ())[token]
    factor, letter = _parse(token)
    if letter is None:
        return f"an axis of '{name}' is {size}, not {token}"
    if letter not in origin:
        return f"axis {letter} has two sizes in '{name}'"
    if factor:
        return f"axis {token} is {size} in '{name}' where {letter} is {sizes[letter]} in '{origin[letter]}'"
    return f"axis {letter} is {size} in '{name}' and {sizes[letter]} in '{origin[letter]}'"


def _shape(spec: TensorSpec | None) -> str:
    return str(spec.shape) if spec is not None else "()"

"""Operands held against the axes that an operator declares for them, before anything is launched.

    shapes = Shapes("selective_scan")
    shapes.take("u", u, "b d l")
    shapes.take("B", B, "d n", "b n l", "b g n l")

The first operand that has a letter gives its size. ``2l`` is twice that axis, a number is itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

LETTERS = {
    torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64",
    torch.complex64: "complex64", torch.complex128: "complex128", torch.int32: "int32", torch.int64: "int64",
}  # fmt: skip


class Shapes:
    """The sizes of the axes of one call, by letter, and the operand that gave each."""

    def __init__(self, op: str) -> None:
        self.op = op
        self.sizes: dict[str, int] = {}
        self._from: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._device: tuple[str, torch.device] | None = None

    def take(self, name: str, tensor: Tensor, *forms: str) -> str:
        """The form that ``tensor`` has, whose letters are bound then. Raises ValueError where it has none of them."""
        if tensor.layout is not torch.strided:
            raise ValueError(f"{self.op}: operand '{name}' is {tensor.layout}, expected a strided tensor")
        self._same_device(name, tensor)
        shape = tuple(tensor.shape)
        self._shapes[name] = shape
        of_rank = [form for form in forms if len(form.split()) == len(shape)]
        for form in of_rank:
            if self._conflict(form, shape) is None:
                for token, size in zip(form.split(), shape, strict=True):
                    if token.isalpha() and token not in self.sizes:
                        self.sizes[token], self._from[token] = size, name
                return form
        raise ValueError(self._mismatch(name, shape, forms, of_rank))

    def divides(self, part: str, whole: str) -> None:
        """Raise ValueError unless axis ``part``, where it is bound, divides axis ``whole``."""
        if part in self.sizes and self.sizes[whole] % self.sizes[part]:
            raise ValueError(
                f"{self.op}: axis {part} is {self.sizes[part]} in '{self._from[part]}' {self._shown(part)}, and does"
                f" not divide {whole}, {self.sizes[whole]} in '{self._from[whole]}' {self._shown(whole)}"
            )

    def within(self, letter: str, least: int, most: int | None = None) -> None:
        """Raise ValueError unless the size of an axis lies between ``least`` and ``most``."""
        size = self.sizes[letter]
        if size < least or (most is not None and size > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ValueError(
                f"{self.op}: axis {letter} is {size} in '{self._from[letter]}' {self._shown(letter)}, expected {bounds}"
            )

    def _shown(self, letter: str) -> tuple[int, ...]:
        return self._shapes[self._from[letter]]

    def _same_device(self, name: str, tensor: Tensor) -> None:
        if self._device is None:
            self._device = (name, tensor.device)
        elif tensor.device != self._device[1]:
            first, device = self._device
            raise ValueError(f"{self.op}: operand '{name}' is on {tensor.device} and '{first}' on {device}")

    def _conflict(self, form: str, shape: tuple[int, ...]) -> tuple[str, int] | None:
        """The first axis of ``form`` that ``shape`` contradicts, and the size that was expected there."""
        for token, size in zip(form.split(), shape, strict=True):
            letter = token.lstrip("0123456789")
            times = int(token[: len(token) - len(letter)] or 1)
            expected = times * self.sizes[letter] if letter in self.sizes else None if letter else times
            if expected is not None and size != expected:
                return token, expected
        return None

    def _mismatch(self, name: str, shape: tuple[int, ...], forms: tuple[str, ...], of_rank: list[str]) -> str:
        text = f"{self.op}: operand '{name}' is {shape}, expected {_either(map(repr, forms))}"
        known = [x for x in self.sizes if any(x == t.lstrip("0123456789") for form in forms for t in form.split())]
        origins: dict[str, list[str]] = {}
        for letter in known:
            origins.setdefault(self._from[letter], []).append(f"{letter}={self.sizes[letter]}")
        if not origins:
            return text
        where = " and ".join(f"{', '.join(x)} (from '{of}' {self._shapes[of]})" for of, x in origins.items())
        conflict = self._conflict(of_rank[-1], shape) if of_rank else None
        if conflict is None:
            return f"{text}\n  where {where}"
        token, expected = conflict
        found = shape[of_rank[-1].split().index(token)]
        return f"{text}\n  where {where}: axis {token} is {found} in '{name}', and {expected} there"


def check_dtype(op: str, name: str, tensor: Tensor, allowed: Iterable[torch.dtype], why: str = "") -> None:
    """Raise TypeError unless ``tensor`` has one of the dtypes ``allowed``."""
    allowed = tuple(allowed)
    if tensor.dtype not in allowed:
        names = _either(LETTERS[dtype] for dtype in allowed)
        raise TypeError(f"{op}: operand '{name}' is {str(tensor.dtype)[6:]}, expected {names}{why}")


def check_tensors(op: str, operands: Mapping[str, object], optional: Iterable[str] = ()) -> None:
    """Raise TypeError for an operand that is no tensor, and is not one of ``optional`` and None."""
    for name, value in operands.items():
        if not (isinstance(value, Tensor) or (value is None and name in optional)):
            raise TypeError(f"{op}: operand '{name}' is {type(value).__name__}, expected a tensor")


_MANY = 4096  # kinds of operands that are remembered of an operator


def remembered(check: Callable[..., None]) -> Callable[..., None]:
    """``check``, which sees shapes, dtypes and devices alone, asked once for each kind of operands that it lets by."""
    passed: set[Any] = set()

    @functools.wraps(check)
    def asked_once(*args: Any, **kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            check(*args, **kwargs)
            return
        kind = (*map(_kind, args), *kwargs, *map(_kind, kwargs.values()))
        if _NEW in kind:
            check(*args, **kwargs)
        elif kind not in passed:
            check(*args, **kwargs)
            if len(passed) >= _MANY:
                passed.clear()
            passed.add(kind)

    return asked_once


_NEW = object()  # for what is never remembered


def _kind(value: Any) -> Any:
    """What a check sees of a value: of sizes that are symbols, and of what is no plain tensor, nothing to remember."""
    if type(value) in (Tensor, torch.nn.Parameter):
        return value.shape, value.dtype, value.device, value.layout
    return value if value is None or isinstance(value, torch.dtype | str | bool) else _NEW


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last

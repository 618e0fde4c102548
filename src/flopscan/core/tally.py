"""Numbers that tally what is done to them: run a reference on them, read off what it computed and what it cost.

A `Num` carries a value and the tally that it reports to, so one run of a reference proves two things: that it computes
what the operator computes, and that the rule's formula is its exact cost. Conventions of the tally:

* ``fma(a, b, c)`` is one multiply-add; ``a * b + c`` written with operators is a multiplication and an addition;
* a comparison is one ``cmp``, the selection that it feeds is part of it; a selection by a stored mask is one ``cmp``;
* a sign flip and an absolute value are free: they are operand modifiers of every arithmetic unit.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Tally = Counter


class Truth:
    """The result of a comparison that was just made and counted."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return self.value


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Num) else x


def _quotient(a: Any, b: Any) -> Any:
    return a / b if b else math.nan


class Num:
    """A real number that reports every operation on it to its tally."""

    __slots__ = ("tally", "value")

    def __init__(self, value: float, tally: Tally[str]) -> None:
        self.value = value
        self.tally = tally

    def did(self, kind: str, value: float, times: int = 1) -> Num:
        """A new number with ``value``, after counting ``times`` operations of ``kind``."""
        self.tally[kind] += times
        return Num(value, self.tally)

    def __add__(self, other: Any) -> Num:
        if isinstance(other, Pair):
            return NotImplemented
        return self.did("add", self.value + _value(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Num:
        if isinstance(other, Pair):
            return NotImplemented
        return self.did("add", self.value - _value(other))

    def __rsub__(self, other: Any) -> Num:
        return self.did("add", _value(other) - self.value)

    def __mul__(self, other: Any) -> Num:
        if isinstance(other, Pair):
            return NotImplemented
        return self.did("mul", self.value * _value(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Num:
        if isinstance(other, Pair):
            return NotImplemented
        return self.did("div", _quotient(self.value, _value(other)))

    def __rtruediv__(self, other: Any) -> Num:
        return self.did("div", _quotient(_value(other), self.value))

    def __neg__(self) -> Num:
        return Num(-self.value, self.tally)

    def __abs__(self) -> Num:
        return Num(abs(self.value), self.tally)

    def _compare(self, truth: bool) -> Truth:
        self.tally["cmp"] += 1
        return Truth(truth)

    def __lt__(self, other: Any) -> Truth:
        return self._compare(self.value < _value(other))

    def __le__(self, other: Any) -> Truth:
        return self._compare(self.value <= _value(other))

    def __gt__(self, other: Any) -> Truth:
        return self._compare(self.value > _value(other))

    def __ge__(self, other: Any) -> Truth:
        return self._compare(self.value >= _value(other))

    def __eq__(self, other: object) -> Truth:  # type: ignore[override]
        return self._compare(self.value == _value(other))

    def __ne__(self, other: object) -> Truth:  # type: ignore[override]
        return self._compare(self.value != _value(other))

    __hash__ = None  # type: ignore[assignment]

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"Num({self.value!r})"


def fma(a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` as one multiply-add; ``c`` may be 0, a fresh accumulator."""
    owner = next((x for x in (a, b, c) if isinstance(x, Num)), None)
    if owner is None:
        return a * b + c
    return owner.did("fma", _value(a) * _value(b) + _value(c))


def _function(kind: str, compute: Callable[..., float]) -> Callable[..., Any]:
    def apply(x: Any, *others: Any) -> Any:
        owner = next((y for y in (x, *others) if isinstance(y, Num)), None)
        try:
            value = compute(_value(x), *(_value(y) for y in others))
        except (ArithmeticError, ValueError):  # where Python raises, IEEE arithmetic goes on with inf or nan
            value = math.nan
        return value if owner is None else owner.did(kind, value)

    return apply


def special(kind: str, compute: Callable[..., float]) -> Callable[..., Any]:
    """A function of one or more numbers that counts as one operation of ``kind``: for functions not listed here."""
    return _function(kind, compute)


exp = _function("exp", math.exp)
exp2 = _function("exp", lambda x: 2.0**x)
expm1 = _function("exp", math.expm1)
log = _function("exp", math.log)
log1p = _function("exp", math.log1p)
log2 = _function("exp", math.log2)
log10 = _function("exp", math.log10)
sqrt = _function("sqrt", math.sqrt)
rsqrt = _function("sqrt", lambda x: 1.0 / math.sqrt(x))
sin, cos, tan = (_function("trig", f) for f in (math.sin, math.cos, math.tan))
tanh = _function("trig", math.tanh)
erf = _function("trig", math.erf)
maximum = _function("cmp", max)
minimum = _function("cmp", min)


def select(condition: Any, yes: Any, no: Any) -> Any:
    """``yes`` or ``no``: free right after a comparison (it is part of it), one ``cmp`` by a stored mask."""
    chosen = yes if condition else no
    if isinstance(condition, Truth):
        return chosen
    owner = next((x for x in (yes, no) if isinstance(x, Num)), None)
    return chosen if owner is None else owner.did("cmp", _value(chosen))


class Array:
    """A dense array of numbers (tallying or plain), indexed by a tuple; `a[i]` of more axes is copied out."""

    __slots__ = ("data", "shape")

    def __init__(self, shape: Sequence[int], data: Iterable[Any]) -> None:
        self.shape = tuple(shape)
        self.data = list(data)

    @staticmethod
    def make(shape: Sequence[int], compute: Callable[..., Any]) -> Array:
        """The array whose element at ``(i, j, ..)`` is ``compute(i, j, ..)``."""
        return Array(shape, (compute(*i) for i in itertools.product(*map(range, shape))))

    def _offset(self, index: tuple[int, ...]) -> int:
        offset = 0
        for i, size in zip(index, self.shape, strict=True):
            if not -size <= i < size:
                raise IndexError(f"index {index} in an array of shape {self.shape}")
            offset = offset * size + i % size
        return offset

    def __getitem__(self, index: int | tuple[int, ...]) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        if len(index) == len(self.shape):
            return self.data[self._offset(index)]
        rest = self.shape[len(index) :]
        start = Array(self.shape[: len(index)], ())._offset(index) * math.prod(rest)
        return Array(rest, self.data[start : start + math.prod(rest)])

    def __setitem__(self, index: int | tuple[int, ...], value: Any) -> None:
        self.data[self._offset(index if isinstance(index, tuple) else (index,))] = value

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self.shape[0]))

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> Array:
        """The same elements in another shape."""
        return Array(shape, self.data)

    def map(self, compute: Callable[[Any], Any]) -> Array:
        """The array of ``compute(element)``."""
        return Array(self.shape, map(compute, self.data))


def total(values: Iterable[Any]) -> Any:
    """The sum of ``values`` by ``n - 1`` additions."""
    iterator = iter(values)
    result = next(iterator, 0.0)
    for value in iterator:
        result = result + value
    return result


def dot(a: Iterable[Any], b: Iterable[Any], start: Any = 0.0) -> Any:
    """The inner product by one multiply-add a pair, onto an accumulator that starts at zero or at ``start``."""
    result = start
    for x, y in zip(a, b, strict=True):
        result = fma(x, y, result)
    return result


class Pair:
    """A complex number of two tallying reals: complex arithmetic in the real operations that it takes."""

    __slots__ = ("im", "re")

    def __init__(self, re: Any, im: Any) -> None:
        self.re = re
        self.im = im

    @staticmethod
    def of(x: Any) -> Pair:
        """``x`` as a pair; a real number has no imaginary part to compute with."""
        return x if isinstance(x, Pair) else Pair(x.real, x.imag) if isinstance(x, complex) else Pair(x, None)

    def __add__(self, other: Any) -> Pair:
        other = Pair.of(other)
        return Pair(self.re + other.re, self.im if other.im is None else self.im + other.im)

    __radd__ = __add__

    def __neg__(self) -> Pair:
        return Pair(-self.re, -self.im)

    def __sub__(self, other: Any) -> Pair:
        other = Pair.of(other)
        return Pair(self.re - other.re, self.im if other.im is None else self.im - other.im)

    def __rsub__(self, other: Any) -> Pair:
        return Pair.of(-self) + other

    def __mul__(self, other: Any) -> Pair:
        other = Pair.of(other)
        if other.im is None:
            return Pair(self.re * other.re, self.im * other.re)
        return Pair(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Pair:
        other = Pair.of(other)
        if other.im is None:
            return Pair(self.re / other.re, self.im / other.re)
        size = other.re * other.re + other.im * other.im
        top = self * Pair(other.re, -other.im)
        return Pair(top.re / size, top.im / size)

    def __abs__(self) -> Any:
        return sqrt(self.re * self.re + self.im * self.im)


def complex_fma(a: Pair, b: Pair, c: Pair) -> Pair:
    """``a * b + c`` of complex numbers: four multiply-adds."""
    re = fma(a.re, b.re, fma(-a.im, b.im, c.re))
    return Pair(re, fma(a.re, b.im, fma(a.im, b.re, c.im)))


def complex_exp(x: Pair) -> Pair:
    """e to a complex power: one exponential, a sine and a cosine, two multiplications."""
    size = exp(x.re)
    return Pair(size * cos(x.im), size * sin(x.im))

"""Why two conventions count a family differently, in words: a sum of reasons, each with its amount."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flopscan.core.convention import Convention
from flopscan.report.places import Place

Reason = tuple[str, int]
_STEP = 3  # passes of a training step: one forward, and two products for each of it backward
_LARGEST = 400  # so many an element are said as such, of two sums over windows
_FEW = 8  # and beside multiply-adds
_KERNELS = ("selective scan", "SSD", "delta rule")


def of_family(name: str, places: Iterable[Place], a: Convention, b: Convention) -> Iterator[Reason]:
    """The difference in one family: what one of them alone counts, and what both do."""
    places = list(places)
    first, second = sum(p.first for p in places), sum(p.second for p in places)
    if not first or not second:
        if first != second:
            yield (f"- {name}" if first else f"+ {name}"), second - first
        return
    missed = sum(p.first for p in places if not p.second), sum(p.second for p in places if not p.first)
    if missed[0]:
        yield f"- {name} that {b.name} does not count", -missed[0]
    if missed[1]:
        yield f"+ {name} that {a.name} does not count", missed[1]
    unnamed, left = Place(), 0
    for place in (p for p in places if p.first and p.second and p.first != p.second):
        found = dict(_of_place(name, place, a, b))
        rest = place.second - place.first - sum(found.values())
        if rest and (reason := _by_elements(name, place, rest, a, b)):
            found[reason] = rest
        elif rest:
            unnamed.add(place)
            left += rest
        yield from found.items()
    if left:
        yield _by_formulas(name, unnamed, a, b), left


def _of_place(name: str, place: Place, a: Convention, b: Convention) -> Iterator[Reason]:
    """The difference where both count: units, passes, biases, masks."""
    difference = place.second - place.first
    scales = list(_scales(place.multiply_adds, a, b))
    rest = difference - sum(amount for _, amount in scales)
    if abs(rest) >= abs(difference):  # neither counts this family by its multiply-adds
        scales, rest = [], difference
    yield from scales
    kinds = list(_candidates(name, place, a, b))
    while kinds:  # one of each kind
        reason, amount, kind = min(
            ((reason, amount, kind) for kind in kinds for reason, amount in kind.items()),
            key=lambda found: abs(rest - found[1]),
        )
        if 2 * abs(rest - amount) >= abs(rest):  # it does not explain the better part of what is left
            break
        yield reason, amount
        rest -= amount
        kinds.remove(kind)


def _weight(convention: Convention) -> tuple[int, int]:
    """What a multiply-add is in a convention's unit, and in how many passes it counts."""
    return 2 if convention.unit == "FLOP" else 1, _STEP if convention.whole is not None else 1


def _scales(multiply_adds: int, a: Convention, b: Convention) -> Iterator[Reason]:
    (unit_a, passes_a), (unit_b, passes_b) = _weight(a), _weight(b)
    if not multiply_adds:
        return
    if unit_a != unit_b:
        reason = "x2: a multiply-add is two" if unit_b > unit_a else "/2: a multiply-add is one"
        yield reason, (unit_b - unit_a) * passes_a * multiply_adds
    if passes_a != passes_b:
        reason = "x3: forward, and backward twice as much" if passes_b > passes_a else "/3: forward alone"
        yield reason, unit_b * (passes_b - passes_a) * multiply_adds


def _candidates(name: str, place: Place, a: Convention, b: Convention) -> Iterator[dict[str, int]]:
    """Reasons of each kind that are known by their amounts, where there is such a thing here."""
    (unit_a, passes_a), (unit_b, passes_b) = _weight(a), _weight(b)
    if place.biases and passes_a != passes_b:
        yield {f"{sign} bias, by six a token": times * place.biases for sign, times in (("+", 6), ("-", -6))}
    elif place.biases:
        yield {
            f"{'+' if times > 0 else '-'} bias{' twice' * (abs(times) == 2)}": times * place.biases
            for times in (1, -1, 2, -2)
        }
    if place.masked:
        hidden = "pairs that a mask hides"
        yield {f"+ {hidden}": unit_b * passes_b * place.masked, f"- {hidden}": -unit_a * passes_a * place.masked}
    if place.beside and (a.weights or b.weights):
        what = f"{name}: {'softmax and scale' if place.pairs else 'what is no multiply-add'}"
        yield {f"+ {what}": place.beside, f"- {what}": -place.beside}


def _by_elements(name: str, place: Place, rest: int, a: Convention, b: Convention) -> str:
    """What is left as a whole number an element; empty where it is none."""
    if name in _KERNELS:
        return ""
    largest = _FEW if place.multiply_adds else _LARGEST
    for what, count in (("a pair", place.pairs), ("an element", place.outputs), ("an input", place.inputs)):
        if not count or rest % count or abs(rest) > largest * count:
            continue
        if not place.multiply_adds and not place.first % count and not place.second % count:
            return f"{name}: {place.second // count:,} {what}, not {place.first // count:,}"
        return f"{name}: {abs(rest) // count:,} {what} {'more' if rest > 0 else 'less'}"
    return ""


def _by_formulas(name: str, place: Place, a: Convention, b: Convention) -> str:
    """What is left of a family: two formulas, by their names or by what they give on average."""
    if name in _KERNELS:
        return f"{name}: {_kernel(name, b)}, not {_kernel(name, a)}"
    if a.whole is not None or b.whole is not None:
        return f"{name}: {_by(b, place)}, not {_by(a, place)}"
    what, count = ("a multiply-add", place.multiply_adds) if place.multiply_adds else ("an element", place.outputs)
    if not count:
        return f"{name}: {b.name}'s formula, not {a.name}'s"
    return f"{name}: {place.second / count:.3g} {what} on average, not {place.first / count:.3g}"


def _kernel(name: str, convention: Convention) -> str:
    """The formula of a recurrence as the convention says it, or that it is what a loop in torch shows."""
    said = {"selective scan": convention.scan, "SSD": convention.ssd}.get(name, "")
    if said:
        return said
    return "its arithmetic" if convention.weights else f"what {convention.name} sees of a loop in torch"


def _by(convention: Convention, place: Place) -> str:
    """How it counts a family that one of the two counts by parameters, or by pairs of positions."""
    if convention.whole is None:
        return f"{convention.name}'s arithmetic"
    return f"{convention.name}'s six a {'pair and channel' if place.pairs else 'parameter and token'}"

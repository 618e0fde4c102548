"""Connectionist temporal classification: a recursion over 2l + 1 states at each step of each sequence."""

from __future__ import annotations

import functools
import math
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, exp, maximum, special, total
from flopscan.core.trace import Call
from flopscan.rules import rule


def _lengths(call: Call, name: str, longest: int, count: int) -> list[int]:
    """The lengths where they are known (a list of numbers), else the longest that the shapes allow for each."""
    known = call.get(name)
    if isinstance(known, (list, tuple)) and all(isinstance(x, int) for x in known):
        return list(known)
    return [longest] * count


def _sizes(call: Call) -> dict[str, Any]:
    steps, count = call["log_probs"].shape[0], call["log_probs"].shape[1]
    alphas = call.outputs[1].shape[-1] if len(call.outputs) > 1 else 1
    labels = _lengths(call, "target_lengths", (alphas - 1) // 2, count)
    return {"sequences": list(zip(_lengths(call, "input_lengths", steps, count), labels, strict=True))}


_log = special("exp", lambda x: math.log(x) if x > 0 else -math.inf)


def _combined(terms: list[Any]) -> Any:
    """The logsumexp of one to three terms, some of which may be -inf."""
    if len(terms) == 1:
        return terms[0]
    largest = functools.reduce(maximum, terms)
    base = 0.0 if largest.value == -math.inf else largest
    return largest + _log(total([exp(x - base) for x in terms]))


def _ctc(
    log_probs: Array, targets: Array, input_lengths: list[int], target_lengths: list[int], blank: int = 0
) -> tuple[Array, None]:
    losses = []
    for b, (steps, labels) in enumerate(zip(input_lengths, target_lengths, strict=True)):
        states = [blank] * (2 * labels + 1)
        states[1::2] = [targets[b, i] for i in range(labels)]
        impossible = log_probs[0, b, blank].did("add", -math.inf, 0)
        alpha = [log_probs[0, b, state] if s < 2 else impossible for s, state in enumerate(states)]
        for t in range(1, steps):
            reach = [alpha[max(s - 2 if s % 2 else s - 1, 0) : s + 1] for s in range(len(states))]
            alpha = [_combined(terms) + log_probs[t, b, state] for terms, state in zip(reach, states, strict=True)]
        losses.append(-_combined(alpha[-2:]))
    return Array((len(losses),), losses), None


@rule(
    "aten::_ctc_loss", "aten::_cudnn_ctc_loss",
    sizes=_sizes,
    reference=_ctc,
    source="Graves et al., Connectionist Temporal Classification (2006), section 4.1, in logarithms",
)  # fmt: skip
def ctc_loss(sequences: Any) -> Cost:
    """The forward variables of every state at every step but the first, and the last two added up.

    A state adds up one (the first), two (blanks and the first label) or three predecessors, by a logsumexp of k terms:
    k - 1 cmp, 2k add, k + 1 exp, and 1 add for the step. No label repeats the one before it, which is up to the values.
    """
    cost = Cost()
    for steps, labels in sequences:
        step = Cost(add=12 * labels - 1, exp=7 * labels - 1, cmp=3 * labels - 1) if labels else Cost(add=1)
        cost += max(steps - 1, 0) * step + (Cost(add=4, exp=3, cmp=1) if labels else Cost())
    return cost

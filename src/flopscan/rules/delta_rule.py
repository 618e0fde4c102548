"""Gated delta rule and Kimi delta attention (KDA): a state of k keys by v values that unlearns before it learns.

For each batch b, head h and step l: S = exp(decay) S, e = value - S^T key, S = S + key (beta e)^T, output = S^T query,
with query scaled by 1/sqrt(k). The decay is one number a head (gated delta rule) or one a key channel (KDA). A group g
of query and key heads serves h / g consecutive value heads. Here k and v are the channels of a key and of a value, and
s counts the sequences that an initial state starts (more than b where sequences are packed into one row).
Source: Yang et al., "Gated Delta Networks" (arXiv 2412.06464); Kimi Team, "Kimi Linear" (arXiv 2510.26692);
transformers 5 `torch_recurrent_gated_delta_rule`, `recurrent_kimi_delta_attention`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, dot, exp, fma, log1p, rsqrt, select, total
from flopscan.core.trace import Call
from flopscan.rules import delta_chunks, rule

SHARED = "query: b l g k, key: b l g k, value: b l h v, initial_state?: s h k v, A_log?: *a, dt_bias?: *p"
GATED = f"{SHARED}, decay?: b l h"
CHANNELWISE = f"{SHARED}, decay: b l h k"
_EPSILON = 1e-6


class _Vector:
    """A query or a key as the state sees it: scaled, and with ``normalise`` of unit length before that."""

    def __init__(self, raw: Array, scale: float | None, normalise: bool) -> None:
        self.scale, self.factor = scale, scale
        if normalise:
            inverse = rsqrt(dot(raw.data, raw.data, _EPSILON))
            self.factor = inverse if scale is None else scale * inverse
        self.normalise = normalise
        self.values = [x if self.factor is None else self.factor * x for x in raw.data]

    def back(self, slopes: list[Any]) -> list[Any]:
        """The gradient of the raw vector from that of the values."""
        if not self.normalise:
            return [x if self.factor is None else self.factor * x for x in slopes]
        along = dot(self.values, slopes)
        if self.scale is not None:
            along = along * self.scale**-2
        return [self.factor * (dx - x * along) for x, dx in zip(self.values, slopes, strict=True)]


class _Beta:
    """How much of the error is learned: beta as given or its sigmoid, doubled where eigenvalues may be negative."""

    def __init__(self, raw: Any, sigmoid: bool, doubled: bool) -> None:
        self.value = self.part = raw
        if sigmoid:
            self.part = 1.0 / (1.0 + exp(-raw))
            self.value = 2.0 * self.part if doubled else self.part
        self.sigmoid = sigmoid

    def back(self, slope: Any) -> Any:
        """The gradient of beta as given."""
        return slope * self.value * (1.0 - self.part) if self.sigmoid else slope


class _Gate:
    """The log of a decay: as given, -exp(A_log) softplus(x + bias), or lower_bound sigmoid(exp(A_log) (x + bias))."""

    def __init__(self, raw: Any, rate: Any, bias: Any, inside: bool, lower_bound: float | None) -> None:
        self.value, self.rate, self.inside, self.lower_bound = raw, rate, inside, lower_bound
        if not inside:
            return
        x = raw if bias is None else raw + bias
        if lower_bound is None:
            power, linear = exp(x), x > 20.0
            self.slope: Callable[[], Any] = lambda: select(linear, 1.0, power / (1.0 + power))
            self.value = -rate * select(linear, x, log1p(power))
        else:
            self.driven = x if rate is None else rate * x
            self.part = 1.0 / (1.0 + exp(-self.driven))
            self.value = lower_bound * self.part

    def back(self, slope: Any) -> tuple[Any, Any, Any]:
        """The gradient of what was given, and two factors whose product is the gradient of A_log."""
        if not self.inside:
            return slope, None, None
        if self.lower_bound is None:
            return slope * -self.rate * self.slope(), slope, self.value
        driven = slope * self.value * (1.0 - self.part)
        return (driven if self.rate is None else self.rate * driven), driven, self.driven


class _Sequence:
    """The operands of one batch element, each as the state sees it; what two heads share is computed once."""

    def __init__(self, b: int, call: dict[str, Any]) -> None:
        query, key, value, decay = (call.get(n) for n in ("query", "key", "value", "decay"))
        assert query is not None and key is not None and value is not None
        _, self.length, self.groups, self.k = query.shape
        self.heads, self.v = value.shape[2:]
        normalise = bool(call.get("use_qk_l2norm_in_kernel"))
        scale = call.get("scale") or self.k**-0.5
        steps, groups, heads = range(self.length), range(self.groups), range(self.heads)
        self.queries = [[_Vector(query[b, i, g], scale, normalise) for g in groups] for i in steps]
        self.keys = [[_Vector(key[b, i, g], None, normalise) for g in groups] for i in steps]
        self.values = [[value[b, i, h].data for h in heads] for i in steps]
        self.betas, self.gates = None, None
        if (beta := call.get("beta")) is not None:
            modes = (bool(call.get("use_beta_sigmoid_in_kernel")), bool(call.get("allow_neg_eigval")))
            flat = [[beta[b, i, h] for h in heads] for i in steps]
            self.betas = [[[_Beta(x, *modes) for x in _flat(at)] for at in row] for row in flat]
        if decay is not None:
            inside, rates, bias = bool(call.get("use_gate_in_kernel")), call.get("rates"), call.get("dt_bias")
            width = len(_flat(decay[b, 0, 0]))

            def gate(i: int, h: int, c: int) -> _Gate:
                own = None if bias is None else bias.data[h * width + c]
                rate = None if rates is None else rates[h]
                return _Gate(_flat(decay[b, i, h])[c], rate, own, inside, call.get("lower_bound"))

            self.gates = [[[gate(i, h, c) for c in range(width)] for h in heads] for i in steps]

    def at(self, i: int, h: int) -> tuple[Any, ...]:
        """Query, key, value, the factors of the state's rows and beta, of head h at step i."""
        g = h * self.groups // self.heads
        factors, betas = None, None
        if self.gates is not None:
            factors = [exp(gate.value) for gate in self.gates[i][h]]
            factors = factors * (self.k // len(factors))
        if self.betas is not None:
            betas = [beta.value for beta in self.betas[i][h]]
            betas = betas * (self.v // len(betas))
        return self.queries[i][g].values, self.keys[i][g].values, self.values[i][h], factors, betas


def _flat(x: Any) -> list[Any]:
    return x.data if isinstance(x, Array) else [x]


def _learn(S: list[list[Any]], key: list[Any], value: list[Any], factors: Any, betas: Any) -> tuple[Any, ...]:
    """The decayed state, the error, the part of it that is learned, and the state after the step."""
    if factors is not None:
        S = [[a * x for x in row] for a, row in zip(factors, S, strict=True)]
    error = list(value)
    for x, row in zip(key, S, strict=True):
        error = [fma(-x, s, e) for s, e in zip(row, error, strict=True)]
    learned = error if betas is None else [beta * e for beta, e in zip(betas, error, strict=True)]
    after = [[fma(x, d, s) for d, s in zip(learned, row, strict=True)] for x, row in zip(key, S, strict=True)]
    return S, error, learned, after


def _start(initial: Array | None, b: int, h: int, k: int, v: int) -> list[list[Any]]:
    return [[0.0] * v if initial is None else initial[b, h, i].data for i in range(k)]


def _with_rates(call: dict[str, Any]) -> dict[str, Any]:
    """exp(A_log), once a head."""
    A_log = call.get("A_log")
    return {**call, "rates": None if A_log is None else [exp(x) for x in A_log.data]}


def recurrence(
    query: Array, key: Array, value: Array, decay: Array | None = None, beta: Array | None = None,
    initial_state: Array | None = None, A_log: Array | None = None, dt_bias: Array | None = None,
    scale: float | None = None, use_qk_l2norm_in_kernel: bool = False, use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False, use_gate_in_kernel: bool = False, lower_bound: float | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """The definition: the output and the last state."""
    call = _with_rates(locals())
    (batch, _, heads, v), k = value.shape, key.shape[3]
    out = Array(value.shape, [0.0] * len(value.data))
    last: list[Any] = []
    for b in range(batch):
        sequence = _Sequence(b, call)
        for h in range(heads):
            S = _start(initial_state, b, h, k, v)
            for i in range(sequence.length):
                q, x, values, factors, betas = sequence.at(i, h)
                *_, S = _learn(S, x, values, factors, betas)
                for j in range(v):
                    out[b, i, h, j] = dot(q, (row[j] for row in S))
            last += [x for row in S for x in row]
    return out, Array((batch, heads, k, v), last)


def recurrence_backward(
    grad: Array, query: Array, key: Array, value: Array, decay: Array | None = None, beta: Array | None = None,
    initial_state: Array | None = None, A_log: Array | None = None, dt_bias: Array | None = None,
    scale: float | None = None, use_qk_l2norm_in_kernel: bool = False, use_beta_sigmoid_in_kernel: bool = False,
    allow_neg_eigval: bool = False, use_gate_in_kernel: bool = False, lower_bound: float | None = None,
) -> tuple[Array | None, ...]:  # fmt: skip
    """The gradients of query, key, value, decay, beta, initial_state, A_log and dt_bias; the states are made again."""
    call = _with_rates(locals())
    batch, heads = value.shape[0], value.shape[2]
    names = ("query", "key", "value", "decay", "beta", "initial_state", "A_log", "dt_bias")
    result = {n: Array(call[n].shape, [0.0] * len(call[n].data)) for n in names if call[n] is not None}
    for b in range(batch):
        sequence = _Sequence(b, call)
        slopes = [[([0.0] * sequence.k, [0.0] * sequence.k) for _ in range(sequence.groups)] for _ in sequence.keys]
        for h in range(heads):
            S = _start(initial_state, b, h, sequence.k, sequence.v)
            steps = []
            for i in range(sequence.length):
                _, x, values, factors, betas = sequence.at(i, h)
                steps.append((factors, betas, *_learn(S, x, values, factors, betas)))
                S = steps[-1][-1]
            _reverse(b, h, grad, sequence, steps, slopes, result)
        for i, row in enumerate(slopes):
            for g, (dq, dk) in enumerate(row):
                for c, x in enumerate(sequence.queries[i][g].back(dq)):
                    result["query"][b, i, g, c] = x
                for c, x in enumerate(sequence.keys[i][g].back(dk)):
                    result["key"][b, i, g, c] = x
    if dt_bias is not None and decay is not None:
        width = len(dt_bias.data)
        result["dt_bias"].data = [total(result["decay"].data[c::width]) for c in range(width)]
    return tuple(result.get(n) for n in names)


def _reverse(
    b: int, h: int, grad: Array, sequence: _Sequence, steps: list[Any], slopes: list[Any], result: dict[str, Array]
) -> None:
    """The adjoint of the state from the last step of head h to the first."""
    k, v, g = sequence.k, sequence.v, h * sequence.groups // sequence.heads
    adjoint = [[0.0] * v for _ in range(k)]
    for i in reversed(range(sequence.length)):
        factors, betas, decayed, error, learned, after = steps[i]
        q, x = sequence.queries[i][g].values, sequence.keys[i][g].values
        dout, (dq, dk) = grad[b, i, h].data, slopes[i][g]
        adjoint = [[fma(q[c], dout[j], adjoint[c][j]) for j in range(v)] for c in range(k)]
        dlearned = [dot(x, (row[j] for row in adjoint)) for j in range(v)]
        derror = dlearned if betas is None else [beta * d for beta, d in zip(betas, dlearned, strict=True)]
        for c in range(k):
            dq[c] = dot(after[c], dout, dq[c])
            dk[c] = dot((-s for s in decayed[c]), derror, dot(adjoint[c], learned, dk[c]))
        if sequence.betas is not None:
            result["beta"][b, i, h] = sequence.betas[i][h][0].back(dot(dlearned, error))
        for j in range(v):
            result["value"][b, i, h, j] = derror[j]
        adjoint = [[fma(-x[c], derror[j], adjoint[c][j]) for j in range(v)] for c in range(k)]
        if factors is not None:
            _decay_back(b, i, h, adjoint, decayed, sequence, result)
            adjoint = [[a * s for s in row] for a, row in zip(factors, adjoint, strict=True)]
    if "initial_state" in result:
        for c in range(k):
            for j in range(v):
                result["initial_state"][b, h, c, j] = adjoint[c][j]


def _decay_back(
    b: int, i: int, h: int, adjoint: list[Any], decayed: list[Any], sequence: _Sequence, result: dict[str, Array]
) -> None:
    """The gradient of the decay, one sum over the state (or over the row that a channel's decay scales)."""
    assert sequence.gates is not None
    gates, decay = sequence.gates[i][h], result["decay"]
    rows = sequence.k // len(gates)
    for c, gate in enumerate(gates):
        slope: Any = 0.0
        for r in range(c * rows, (c + 1) * rows):
            slope = dot(adjoint[r], decayed[r], slope)
        raw, driven, factor = gate.back(slope)
        decay[(b, i, h, c) if len(decay.shape) > 3 else (b, i, h)] = raw
        if "A_log" in result:
            result["A_log"].data[h] = fma(driven, factor, result["A_log"].data[h])


def prepared(b: Any, l: Any, g: Any, k: Any, gates: Any, given: frozenset[str], call: Call) -> Cost:
    """Before the state: the scale of the query, norms, and where the kernel does these, beta and decay.

    The query's scale is k mul. With norms each query and key takes k multiply-adds, an rsqrt and k mul, and the scale
    1 mul. A sigmoid is an exp, an add and a div. ``gates`` is how many decays a step has over all heads; each is
    -rate * softplus(x), 2 exp + 1 cmp + 1 mul, or bound * sigmoid(rate * x); a bias is an add.
    """
    norms = bool(call.get("use_qk_l2norm_in_kernel"))
    cost = (Cost(fma=2 * k, sqrt=2, mul=2 * k + 1) if norms else Cost(mul=k)) * (b * l * g)
    if "beta" in given and call.get("use_beta_sigmoid_in_kernel"):
        cost += Cost(exp=1, add=1, div=1, mul=1 if call.get("allow_neg_eigval") else 0) * call["beta"].numel
    if "decay" in given and call.get("use_gate_in_kernel"):
        rate = "A_log" in given
        bounded = Cost(exp=1, add=1, div=1, mul=1 + rate)
        each = Cost(exp=2, cmp=1, mul=1) if call.get("lower_bound") is None else bounded
        cost += (each + Cost(add=1 if "dt_bias" in given else 0)) * (b * l * gates)
        cost += Cost(exp=call["A_log"].numel if rate else 0)
    return cost


def prepared_backward(b: Any, l: Any, g: Any, k: Any, gates: Any, given: frozenset[str], call: Call) -> Cost:
    """All of `prepared` again, and its gradients.

    Of a norm y = r x: dx = r (dy - y (y . dy)), k multiply-adds, 2k mul and k add; the scale is 1 mul there, k mul
    without norms. Of a sigmoid: 2 mul and an add. Of softplus: its slope p / (1 + p), an add and a div, and 2 mul.
    A_log sums a product over steps, a multiply-add a gate; a bias sums gates, b*l - 1 add.
    """
    cost = prepared(b, l, g, k, gates, given, call)
    norms = bool(call.get("use_qk_l2norm_in_kernel"))
    cost += (Cost(fma=2 * k, mul=4 * k + 1, add=2 * k) if norms else Cost(mul=k)) * (b * l * g)
    if "beta" in given and call.get("use_beta_sigmoid_in_kernel"):
        cost += Cost(mul=2, add=1) * call["beta"].numel
    if "decay" in given and call.get("use_gate_in_kernel"):
        rate = "A_log" in given
        bounded = Cost(mul=2 + rate, add=1, fma=1 if rate else 0)
        each = Cost(add=1, div=1, mul=2, fma=1) if call.get("lower_bound") is None else bounded
        cost += each * (b * l * gates)
        if "dt_bias" in given:
            cost += Cost(add=call["dt_bias"].numel * (b * l - 1))
    return cost


def forward(b: Any, l: Any, h: Any, k: Any, v: Any, gates: Any, given: frozenset[str]) -> Cost:
    """Per (b,l,h,k,v): the decay 1 mul; the error, the update and the read-out a multiply-add each: 7 FLOPs.

    beta is a mul for each value, a decay an exp; the error starts from the value, which takes no addition.
    """
    decays, learns = "decay" in given, "beta" in given
    each_state = Cost(fma=3, mul=1 if decays else 0)
    return each_state * (b * l * h * k * v) + Cost(mul=b * l * h * v if learns else 0, exp=b * l * gates * decays)


def backward(b: Any, l: Any, h: Any, k: Any, v: Any, gates: Any, given: frozenset[str]) -> Cost:
    """Per (b,l,h,k,v), the states made again: 8 multiply-adds, with a decay one more and 2 mul: 20 FLOPs.

    Decay, error and update again; then the adjoint of the state takes the output's gradient (1 multiply-add) and gives
    the query's, the learned error's and two terms of the key's (4); the error's gradient goes back into the adjoint
    (1), the decay's is their product summed (1), and the adjoint decays (1 mul). beta: 2v mul and v multiply-adds.
    """
    decays, learns = "decay" in given, "beta" in given
    each_state = Cost(fma=9, mul=2) if decays else Cost(fma=8)
    each_value = Cost(mul=2, fma=1) if learns else Cost()
    return each_state * (b * l * h * k * v) + each_value * (b * l * h * v) + Cost(exp=b * l * gates * decays)


Formula = Callable[..., Cost]


def _tiers(core: Formula, around: Formula, chunks: Formula, channelwise: bool) -> tuple[Formula, Formula]:
    """The ideal and the executed cost of one operator."""

    def ideal(b: Any, l: Any, g: Any, h: Any, k: Any, v: Any, given: frozenset[str], call: Call) -> Cost:
        gates = h * k if channelwise else h
        return core(b, l, h, k, v, gates, given) + around(b, l, g, k, gates, given, call)

    def executed(b: Any, l: Any, g: Any, h: Any, k: Any, v: Any, given: frozenset[str], call: Call) -> Cost:
        """With a chunk size that the kernels have, the products of the chunk form; else step by step."""
        c = call.get("chunk_size")
        if c not in delta_chunks.SIZES:
            return ideal(b, l, g, h, k, v, given, call)
        gates = h * k if channelwise else h
        products = chunks(c, k, v, call) * (b * h * math.ceil(l / c))
        return Cost(fma=products) + around(b, l, g, k, gates, given, call)

    ideal.__doc__ = core.__doc__
    return ideal, executed


def _declare(op: str, contract: str, channelwise: bool, chunks: tuple[Formula, Formula]) -> None:
    ideal, executed = _tiers(forward, prepared, chunks[0], channelwise)
    contract = f"{contract}, beta?: b l h | b l h v"
    chunked = functools.partial(rule, matrix="executed")
    chunked(op, contract=contract, executed=executed, reference=recurrence)(ideal)
    ideal, executed = _tiers(backward, prepared_backward, chunks[1], channelwise)
    contract = f"grad: b l h v, {contract.removesuffix(' | b l h v')}"
    chunked(f"{op}_backward", contract=contract, executed=executed, reference=recurrence_backward)(ideal)


_declare("flopscan::gated_delta_rule", GATED, False, (delta_chunks.gated_forward, delta_chunks.gated_backward))
_declare("flopscan::kda", CHANNELWISE, True, (delta_chunks.kda_forward, delta_chunks.kda_backward))

"""The kernels of `flopscan.ops.selective_scan.triton`.

A program takes a few channels of one sequence along l. `forward_scan` and `backward_scan` have a chunk of positions at
a time and go through the states one by one: a thread holds a run of positions, and runs are scanned across threads.
`forward_states` has all states n x d of a position and goes from one position to the next, over segments of l at the
same time where `segment_edges` has found out what enters them.
The letters of the gradient are those of cuda/backward.cu.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _softplus(x):
    """max(x, 0) + log1p(exp(-|x|)), the logarithm by a polynomial that is right to a relative 1.3e-7."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    p = 5.232629366e-3 * e - 2.950498648e-2
    p = p * e + 7.822556049e-2
    p = p * e - 1.366321445e-1
    p = p * e + 1.910599321e-1
    p = p * e - 2.484297901e-1
    p = p * e + 3.331909776e-1
    p = p * e - 4.999949336e-1
    p = p * e + 9.999999404e-1
    return p * e + tl.where(x < 0, 0.0, x)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(-x * LOG2E))


@triton.jit
def _combine(decay, add, decay_after, add_after):
    """Two runs of h = decay h + add, one after the other."""
    return decay * decay_after, add * decay_after + add_after


@triton.jit
def _paired(decay, add, BLOCK: tl.constexpr, LENGTH: tl.constexpr, BACK: tl.constexpr):
    """Of every two neighbours (BLOCK, LENGTH) the one that comes first in the walk, and both as one."""
    decay_first, decay_second = tl.split(tl.reshape(decay, (BLOCK, LENGTH // 2, 2)))
    add_first, add_second = tl.split(tl.reshape(add, (BLOCK, LENGTH // 2, 2)))
    if BACK:
        decay_first, decay_second, add_first, add_second = decay_second, decay_first, add_second, add_first
    return decay_first, add_first, decay_first * decay_second, add_first * decay_second + add_second


@triton.jit
def _apart(decay_first, add_first, enters, BLOCK: tl.constexpr, LENGTH: tl.constexpr, BACK: tl.constexpr):
    """What enters each of two neighbours, of what enters them together: (BLOCK, LENGTH)."""
    enters_second = decay_first * enters + add_first
    both = tl.join(enters_second, enters) if BACK else tl.join(enters, enters_second)
    return tl.reshape(both, (BLOCK, LENGTH))


@triton.jit
def _entering(decay, add, start, BLOCK: tl.constexpr, LENGTH: tl.constexpr, BACK: tl.constexpr):
    """What enters each position of h = decay h + add (BLOCK, LENGTH), where ``start`` (BLOCK) enters the first.

    BACK: from the last position to the first. Also what leaves each run of 8 positions, in the order of the walk: the
    last of it leaves the whole. Runs, which a thread holds, are paired until one number stands for each; these are
    scanned across threads, and the pairs are taken apart again.
    """
    decay_1, add_1, decay, add = _paired(decay, add, BLOCK, LENGTH, BACK)
    decay_2, add_2, decay, add = _paired(decay, add, BLOCK, LENGTH // 2, BACK)
    decay_4, add_4, decay, add = _paired(decay, add, BLOCK, LENGTH // 4, BACK)
    RUNS: tl.constexpr = LENGTH // 8
    at = tl.broadcast_to(tl.arange(0, RUNS)[None, :], (BLOCK, RUNS))
    if BACK:  # a scan with reverse=True would shuffle every operand five times
        decay, add = tl.gather(decay, RUNS - 1 - at, 1), tl.gather(add, RUNS - 1 - at, 1)
    decay, add = tl.associative_scan((decay, add), 1, _combine)
    leaves = decay * start[:, None] + add
    before = tl.gather(leaves, tl.maximum(RUNS - 2 - at if BACK else at - 1, 0), 1)
    enters = tl.where(at == (RUNS - 1 if BACK else 0), start[:, None], before)
    enters = _apart(decay_4, add_4, enters, BLOCK, LENGTH // 4, BACK)
    enters = _apart(decay_2, add_2, enters, BLOCK, LENGTH // 2, BACK)
    return _apart(decay_1, add_1, enters, BLOCK, LENGTH, BACK), leaves


@triton.jit
def _load(operand, i, j, k, step_i, step_j, step_k, inside):
    """An operand of three axes in float32, zero where not ``inside``."""
    return tl.load(operand + i * step_i + j * step_j + k * step_k, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _place(channels, groups, BLOCK: tl.constexpr):
    """Sequence, group, block of the group, and the channels of this program with those that exist."""
    per_group = channels // groups
    blocks = tl.cdiv(per_group, BLOCK)
    index = tl.program_id(0)
    block = index % blocks
    group = (index // blocks) % groups
    offset = block * BLOCK + tl.arange(0, BLOCK)
    return (index // blocks // groups).to(tl.int64), group, block, group * per_group + offset, offset < per_group


@triton.jit
def segment_edges(
    u, delta, A, B, bias, edge, edge_sum,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, B_b, B_g, B_n, B_l,
    channels, length, states, groups, segment,
    SOFTPLUS: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """What each segment of l but the last makes of a state of zero, b segments d n, and its sum of delta."""
    if ALIGN > 1:
        length = length // ALIGN * ALIGN
        u_b, u_d = u_b // ALIGN * ALIGN, u_d // ALIGN * ALIGN
        delta_b, delta_d = delta_b // ALIGN * ALIGN, delta_d // ALIGN * ALIGN
        B_b, B_g, B_n = B_b // ALIGN * ALIGN, B_g // ALIGN * ALIGN, B_n // ALIGN * ALIGN
    b, g, _, d, exists = _place(channels, groups, BLOCK)
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    k = tl.arange(0, CHUNK)
    chunks = segment // CHUNK
    row = (b * tl.cdiv(length, segment) + tl.program_id(1)) * channels + d
    after = tl.zeros((BLOCK,), tl.float32)
    for turn in range(chunks):
        t = (tl.program_id(1) * segment + (chunks - 1 - turn) * CHUNK + k).to(tl.int64)
        inside = exists[:, None] & (t < length)[None, :]
        x = _load(u, b, d[:, None], t[None, :], u_b, u_d, u_l, inside)
        step = _load(delta, b, d[:, None], t[None, :], delta_b, delta_d, delta_l, inside) + add[:, None]
        if SOFTPLUS:
            step = _softplus(step)
        step = tl.where(inside, step, 0.0)
        enters = step * x
        ones = tl.full((BLOCK, CHUNK), 1.0, tl.float32)
        rest = _entering(ones, step, after, BLOCK, CHUNK, True)[0]
        after += tl.sum(step, 1)
        for n in range(states):
            a = tl.load(A + d * states + n, mask=exists, other=0.0) * LOG2E
            Bt = _load(B + b * B_b, g, n, t, B_g, B_n, B_l, t < length)
            h = tl.load(edge + row * states + n, mask=exists & (turn > 0), other=0.0)
            h += tl.sum(tl.exp2(rest * a[:, None]) * (enters * Bt[None, :]), 1)
            tl.store(edge + row * states + n, h, mask=exists)
        tl.debug_barrier()  # what one thread put into edge, others take from there
    tl.store(edge_sum + row, after, mask=exists)


@triton.jit
def forward_states(
    u, delta, A, B, C, D, z, bias, initial, out, last, saved, edge, edge_sum,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    channels, length, states, groups, segment,
    SOFTPLUS: tl.constexpr, KEEP: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    b, g, _, d, exists = _place(channels, groups, BLOCK)
    n = tl.arange(0, N)
    held = (n < states)[:, None] & exists[None, :]
    at = d[None, :] * states + n[:, None]
    a = tl.load(A + at, mask=held, other=0.0) * LOG2E
    h = tl.zeros((N, BLOCK), tl.float32)
    if initial is not None:
        h = tl.load(initial + b * channels * states + at, mask=held, other=0.0)
    segments, before = tl.cdiv(length, segment), tl.program_id(1)
    if edge is not None:
        for earlier in range(before):
            row = (b * segments + earlier) * channels
            passes = tl.exp2(tl.load(edge_sum + row + d, mask=exists, other=0.0)[None, :] * a)
            h = passes * h + tl.load(edge + row * states + at, mask=held, other=0.0)
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    skip = tl.zeros((BLOCK,), tl.float32)
    if D is not None:
        skip = tl.load(D + d, mask=exists, other=0.0)
    k = tl.arange(0, TILE)
    chunks = tl.cdiv(length, CHUNK)
    for t0 in range(before * segment, tl.minimum((before + 1) * segment, length), TILE):
        if KEEP:  # noqa: SIM102 - known when compiled, the other condition when run
            if t0 % CHUNK == 0:
                tl.store(saved + (b * chunks + t0 // CHUNK) * channels * states + at, h, mask=held)
        t = (t0 + k).to(tl.int64)
        inside = (t < length)[:, None] & exists[None, :]
        x = _load(u, b, d[None, :], t[:, None], u_b, u_d, u_l, inside)
        step = _load(delta, b, d[None, :], t[:, None], delta_b, delta_d, delta_l, inside) + add[None, :]
        if SOFTPLUS:
            step = _softplus(step)
        step = tl.where(inside, step, 0.0)
        given = (t < length)[:, None] & (n < states)[None, :]
        Bt = _load(B + b * B_b, g, n[None, :], t[:, None], B_g, B_n, B_l, given)
        Ct = _load(C + b * C_b, g, n[None, :], t[:, None], C_g, C_n, C_l, given)
        enters = step * x
        y = tl.zeros((TILE, BLOCK), tl.float32)
        for i in tl.static_range(TILE):
            here = (k == i)[:, None]
            decay = tl.exp2(tl.sum(tl.where(here, step, 0.0), 0)[None, :] * a)
            row = tl.sum(tl.where(here, enters, 0.0), 0)[None, :]
            h = decay * h + row * tl.sum(tl.where(here, Bt, 0.0), 0)[:, None]
            y = tl.where(here, tl.sum(h * tl.sum(tl.where(here, Ct, 0.0), 0)[:, None], 0)[None, :], y)
        y += skip[None, :] * x
        if z is not None:
            gate = _load(z, b, d[None, :], t[:, None], z_b, z_d, z_l, inside)
            y *= gate * _sigmoid(gate)
        tl.store(out + (b * channels + d[None, :]) * length + t[:, None], y.to(out.dtype.element_ty), mask=inside)
    if before == segments - 1:
        tl.store(last + b * channels * states + at, h, mask=held)


@triton.jit
def forward_scan(
    u, delta, A, B, C, D, z, bias, initial, out, last, saved,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    channels, length, states, groups,
    SOFTPLUS: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    if ALIGN > 1:  # said so that the compiler can see it: it heeds multiple_of for no argument
        length = length // ALIGN * ALIGN
        u_b, u_d = u_b // ALIGN * ALIGN, u_d // ALIGN * ALIGN
        delta_b, delta_d = delta_b // ALIGN * ALIGN, delta_d // ALIGN * ALIGN
        z_b, z_d = z_b // ALIGN * ALIGN, z_d // ALIGN * ALIGN
        B_b, B_g, B_n = B_b // ALIGN * ALIGN, B_g // ALIGN * ALIGN, B_n // ALIGN * ALIGN
        C_b, C_g, C_n = C_b // ALIGN * ALIGN, C_g // ALIGN * ALIGN, C_n // ALIGN * ALIGN
    b, g, _, d, exists = _place(channels, groups, BLOCK)
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    k = tl.arange(0, CHUNK)
    chunks = tl.cdiv(length, CHUNK)
    mine = b * channels * states + d * states
    run = tl.arange(0, CHUNK // 8)[None, :]
    is_last, to_last = exists[:, None] & (run == CHUNK // 8 - 1), mine[:, None] + 0 * run
    for chunk in range(chunks):
        t = (chunk * CHUNK + k).to(tl.int64)
        inside = exists[:, None] & (t < length)[None, :]
        x = _load(u, b, d[:, None], t[None, :], u_b, u_d, u_l, inside)
        step = _load(delta, b, d[:, None], t[None, :], delta_b, delta_d, delta_l, inside) + add[:, None]
        if SOFTPLUS:
            step = _softplus(step)
        step = tl.where(inside, step, 0.0)
        enters = step * x
        y = tl.zeros((BLOCK, CHUNK), tl.float32)
        if D is not None:
            y = tl.load(D + d, mask=exists, other=0.0)[:, None] * x
        for n in range(states):
            h = tl.load(last + mine + n, mask=exists & (chunk > 0), other=0.0)
            if initial is not None:
                h += tl.load(initial + mine + n, mask=exists & (chunk == 0), other=0.0)
            if KEEP:
                tl.store(saved + (b * chunks + chunk) * channels * states + d * states + n, h, mask=exists)
            a = tl.load(A + d * states + n, mask=exists, other=0.0) * LOG2E
            Bt = _load(B + b * B_b, g, n, t, B_g, B_n, B_l, t < length)
            Ct = _load(C + b * C_b, g, n, t, C_g, C_n, C_l, t < length)
            decay = tl.exp2(step * a[:, None])
            comes = enters * Bt[None, :]
            before, leaves = _entering(decay, comes, h, BLOCK, CHUNK, False)
            state = decay * before + comes
            tl.store(last + to_last + n, leaves, mask=is_last)
            y += state * Ct[None, :]
        if z is not None:
            gate = _load(z, b, d[:, None], t[None, :], z_b, z_d, z_l, inside)
            y *= gate * _sigmoid(gate)
        tl.store(out + (b * channels + d[:, None]) * length + t[None, :], y.to(out.dtype.element_ty), mask=inside)
        tl.debug_barrier()  # what one thread put into last, others take from there


@triton.jit
def backward_scan(
    grad, grad_last, u, delta, A, B, C, D, z, bias, saved, carry,
    grad_u, grad_delta, grad_z, grad_B, grad_C, grad_A, grad_D, grad_bias,
    grad_b, grad_d, grad_l, u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l,
    B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l, part, channels, length, states, groups,
    SOFTPLUS: tl.constexpr, ATOMIC: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    if ALIGN > 1:
        length = length // ALIGN * ALIGN
        grad_b, grad_d = grad_b // ALIGN * ALIGN, grad_d // ALIGN * ALIGN
        u_b, u_d = u_b // ALIGN * ALIGN, u_d // ALIGN * ALIGN
        delta_b, delta_d = delta_b // ALIGN * ALIGN, delta_d // ALIGN * ALIGN
        z_b, z_d = z_b // ALIGN * ALIGN, z_d // ALIGN * ALIGN
        B_b, B_g, B_n = B_b // ALIGN * ALIGN, B_g // ALIGN * ALIGN, B_n // ALIGN * ALIGN
        C_b, C_g, C_n = C_b // ALIGN * ALIGN, C_g // ALIGN * ALIGN, C_n // ALIGN * ALIGN
    b, g, block, d, exists = _place(channels, groups, BLOCK)
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    skip = tl.zeros((BLOCK,), tl.float32)
    if D is not None:
        skip = tl.load(D + d, mask=exists, other=0.0)
    sum_D = tl.zeros((BLOCK,), tl.float32)
    sum_bias = tl.zeros((BLOCK,), tl.float32)
    k = tl.arange(0, CHUNK)
    chunks = tl.cdiv(length, CHUNK)
    mine = b * channels * states + d * states
    run = tl.arange(0, CHUNK // 8)[None, :]
    is_last, to_last = exists[:, None] & (run == CHUNK // 8 - 1), mine[:, None] + 0 * run
    for turn in range(chunks):
        chunk = chunks - 1 - turn
        t = (chunk * CHUNK + k).to(tl.int64)
        inside = exists[:, None] & (t < length)[None, :]
        x = _load(u, b, d[:, None], t[None, :], u_b, u_d, u_l, inside)
        step = _load(delta, b, d[:, None], t[None, :], delta_b, delta_d, delta_l, inside) + add[:, None]
        slope = tl.where(inside, 1.0, 0.0)
        if SOFTPLUS:
            slope *= _sigmoid(step)
            step = _softplus(step)
        step = tl.where(inside, step, 0.0)
        coming = _load(grad, b, d[:, None], t[None, :], grad_b, grad_d, grad_l, inside)
        dy = coming
        if z is not None:
            gate = _load(z, b, d[:, None], t[None, :], z_b, z_d, z_l, inside)
            dy *= gate * _sigmoid(gate)
        enters = step * x
        S = tl.zeros((BLOCK, CHUNK), tl.float32)
        T = tl.zeros((BLOCK, CHUNK), tl.float32)
        y = tl.zeros((BLOCK, CHUNK), tl.float32)
        for n in range(states):
            h = tl.load(saved + (b * chunks + chunk) * channels * states + d * states + n, mask=exists, other=0.0)
            r = tl.load(carry + mine + n, mask=exists & (turn > 0), other=0.0)
            if grad_last is not None:
                r += tl.load(grad_last + mine + n, mask=exists & (turn == 0), other=0.0)
            sum_A = tl.load(grad_A + mine + n, mask=exists & (turn > 0), other=0.0)
            a = tl.load(A + d * states + n, mask=exists, other=0.0)
            Bt = _load(B + b * B_b, g, n, t, B_g, B_n, B_l, t < length)
            Ct = _load(C + b * C_b, g, n, t, C_g, C_n, C_l, t < length)
            decay = tl.exp2(step * (a * LOG2E)[:, None])
            comes = enters * Bt[None, :]
            before = _entering(decay, comes, h, BLOCK, CHUNK, False)[0]
            state = decay * before + comes
            G = Ct[None, :] * dy
            r_here, leaves = _entering(decay, decay * G, r, BLOCK, CHUNK, True)
            tl.store(carry + to_last + n, leaves, mask=is_last)
            G += r_here
            S += G * Bt[None, :]
            through = decay * G * before
            T += through * a[:, None]
            if z is not None:
                y += state * Ct[None, :]
            tl.store(grad_A + mine + n, sum_A + tl.sum(step * through, 1), mask=exists)
            into = ((b * groups + g) * states + n) * length + t
            dB = tl.sum(G * enters, 0)
            dC = tl.sum(state * dy, 0)
            if ATOMIC:
                tl.atomic_add(grad_B + into, dB, mask=t < length, sem="relaxed")
                tl.atomic_add(grad_C + into, dC, mask=t < length, sem="relaxed")
            else:
                tl.store(grad_B + block * part + into, dB, mask=t < length)
                tl.store(grad_C + block * part + into, dC, mask=t < length)
        du = step * S + skip[:, None] * dy
        ddelta = (x * S + T) * slope
        sum_D += tl.sum(dy * x, 1)
        sum_bias += tl.sum(ddelta, 1)
        to = (b * channels + d[:, None]) * length + t[None, :]
        tl.store(grad_u + to, du.to(grad_u.dtype.element_ty), mask=inside)
        tl.store(grad_delta + to, ddelta.to(grad_delta.dtype.element_ty), mask=inside)
        if z is not None:
            open_ = _sigmoid(gate)
            dz = coming * (y + skip[:, None] * x) * open_ * (1.0 + gate * (1.0 - open_))
            tl.store(grad_z + to, dz.to(grad_z.dtype.element_ty), mask=inside)
        tl.debug_barrier()  # what one thread put into carry and grad_A, others take from there
    tl.store(grad_D + b * channels + d, sum_D, mask=exists)
    tl.store(grad_bias + b * channels + d, sum_bias, mask=exists)

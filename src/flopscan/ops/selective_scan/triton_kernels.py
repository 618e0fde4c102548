"""The kernels of `flopscan.ops.selective_scan.triton`.

A program takes a few channels of one sequence along all of l. With two states and more it holds the states n x d of a
position and goes from one to the next; with one state it scans a chunk of positions at once.
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
def _combine_passed(decay, add, passed, decay_after, add_after, passed_after):
    """The same with what the last position's decay let pass: h less what was added there, without a difference."""
    through = add * decay_after
    return decay * decay_after, through + add_after, through + passed_after


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
def forward_states(
    u, delta, A, B, C, D, z, bias, initial, out, last, saved,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    channels, length, states, groups,
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
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    skip = tl.zeros((BLOCK,), tl.float32)
    if D is not None:
        skip = tl.load(D + d, mask=exists, other=0.0)
    k = tl.arange(0, TILE)
    chunks = tl.cdiv(length, CHUNK)
    for t0 in range(0, length, TILE):
        if KEEP:  # noqa: SIM102 - known when compiled, the other condition when run
            if t0 % CHUNK == 0:
                tl.store(saved + (b * chunks + t0 // CHUNK) * channels * states + at, h, mask=held)
        t = (t0 + k).to(tl.int64)
        inside = (t < length)[:, None] & exists[None, :]
        x = tl.load(u + b * u_b + d[None, :] * u_d + t[:, None] * u_l, mask=inside, other=0.0).to(tl.float32)
        step = tl.load(delta + b * delta_b + d[None, :] * delta_d + t[:, None] * delta_l, mask=inside, other=0.0)
        step = step.to(tl.float32) + add[None, :]
        if SOFTPLUS:
            step = _softplus(step)
        step = tl.where(inside, step, 0.0)
        given = (t < length)[:, None] & (n < states)[None, :]
        Bt = tl.load(B + b * B_b + g * B_g + n[None, :] * B_n + t[:, None] * B_l, mask=given, other=0.0).to(tl.float32)
        Ct = tl.load(C + b * C_b + g * C_g + n[None, :] * C_n + t[:, None] * C_l, mask=given, other=0.0).to(tl.float32)
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
            gate = tl.load(z + b * z_b + d[None, :] * z_d + t[:, None] * z_l, mask=inside, other=0.0).to(tl.float32)
            y *= gate * _sigmoid(gate)
        tl.store(out + (b * channels + d[None, :]) * length + t[:, None], y.to(out.dtype.element_ty), mask=inside)
    tl.store(last + b * channels * states + at, h, mask=held)


@triton.jit
def backward_states(
    grad, grad_last, u, delta, A, B, C, D, z, bias, saved, scratch,
    grad_u, grad_delta, grad_z, grad_B, grad_C, grad_A, grad_D, grad_bias, grad_initial,
    grad_b, grad_d, grad_l, u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l,
    B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l, part, channels, length, states, groups,
    SOFTPLUS: tl.constexpr, ATOMIC: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    b, g, block, d, exists = _place(channels, groups, BLOCK)
    n = tl.arange(0, N)
    held = (n < states)[:, None] & exists[None, :]
    at = d[None, :] * states + n[:, None]
    a = tl.load(A + at, mask=held, other=0.0) * LOG2E
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    skip = tl.zeros((BLOCK,), tl.float32)
    if D is not None:
        skip = tl.load(D + d, mask=exists, other=0.0)
    r = tl.zeros((N, BLOCK), tl.float32)
    if grad_last is not None:
        r = tl.load(grad_last + b * channels * states + at, mask=held, other=0.0)
    sum_A = tl.zeros((N, BLOCK), tl.float32)
    sum_D = tl.zeros((BLOCK,), tl.float32)
    sum_bias = tl.zeros((BLOCK,), tl.float32)
    k = tl.arange(0, TILE)
    chunks = tl.cdiv(length, CHUNK)
    mine = (
        scratch + tl.program_id(0).to(tl.int64) * CHUNK * N * BLOCK + n[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    )
    for turn in range(chunks):
        chunk = chunks - 1 - turn
        first = chunk * CHUNK
        tiles = tl.cdiv(tl.minimum(length - first, CHUNK), TILE)
        h = tl.load(saved + (b * chunks + chunk) * channels * states + at, mask=held, other=0.0)
        for tile in range(tiles):  # the states before every position of the chunk
            t = (first + tile * TILE + k).to(tl.int64)
            inside = (t < length)[:, None] & exists[None, :]
            x = tl.load(u + b * u_b + d[None, :] * u_d + t[:, None] * u_l, mask=inside, other=0.0).to(tl.float32)
            step = tl.load(delta + b * delta_b + d[None, :] * delta_d + t[:, None] * delta_l, mask=inside, other=0.0)
            step = step.to(tl.float32) + add[None, :]
            if SOFTPLUS:
                step = _softplus(step)
            step = tl.where(inside, step, 0.0)
            given = (t < length)[:, None] & (n < states)[None, :]
            Bt = tl.load(B + b * B_b + g * B_g + n[None, :] * B_n + t[:, None] * B_l, mask=given, other=0.0).to(
                tl.float32
            )
            enters = step * x
            for i in tl.static_range(TILE):
                here = (k == i)[:, None]
                tl.store(mine + (tile * TILE + i) * N * BLOCK, h)
                decay = tl.exp2(tl.sum(tl.where(here, step, 0.0), 0)[None, :] * a)
                row = tl.sum(tl.where(here, enters, 0.0), 0)[None, :]
                h = decay * h + row * tl.sum(tl.where(here, Bt, 0.0), 0)[:, None]
        tl.debug_barrier()
        for back in range(tiles):
            tile = tiles - 1 - back
            t = (first + tile * TILE + k).to(tl.int64)
            inside = (t < length)[:, None] & exists[None, :]
            x = tl.load(u + b * u_b + d[None, :] * u_d + t[:, None] * u_l, mask=inside, other=0.0).to(tl.float32)
            step = tl.load(delta + b * delta_b + d[None, :] * delta_d + t[:, None] * delta_l, mask=inside, other=0.0)
            step = step.to(tl.float32) + add[None, :]
            slope = tl.where(inside, 1.0, 0.0)
            if SOFTPLUS:
                slope *= _sigmoid(step)
                step = _softplus(step)
            step = tl.where(inside, step, 0.0)
            coming = tl.load(grad + b * grad_b + d[None, :] * grad_d + t[:, None] * grad_l, mask=inside, other=0.0)
            coming = coming.to(tl.float32)
            dy = coming
            if z is not None:
                gate = tl.load(z + b * z_b + d[None, :] * z_d + t[:, None] * z_l, mask=inside, other=0.0).to(tl.float32)
                dy = coming * gate * _sigmoid(gate)
            given = (t < length)[:, None] & (n < states)[None, :]
            Bt = tl.load(B + b * B_b + g * B_g + n[None, :] * B_n + t[:, None] * B_l, mask=given, other=0.0).to(
                tl.float32
            )
            Ct = tl.load(C + b * C_b + g * C_g + n[None, :] * C_n + t[:, None] * C_l, mask=given, other=0.0).to(
                tl.float32
            )
            enters = step * x
            S = tl.zeros((TILE, BLOCK), tl.float32)
            T = tl.zeros((TILE, BLOCK), tl.float32)
            y = tl.zeros((TILE, BLOCK), tl.float32)
            dB = tl.zeros((TILE, N), tl.float32)
            dC = tl.zeros((TILE, N), tl.float32)
            for j in tl.static_range(TILE):
                i = TILE - 1 - j
                here = (k == i)[:, None]
                before = tl.load(mine + (tile * TILE + i) * N * BLOCK)
                length_here = tl.sum(tl.where(here, step, 0.0), 0)[None, :]
                enters_here = tl.sum(tl.where(here, enters, 0.0), 0)[None, :]
                dy_here = tl.sum(tl.where(here, dy, 0.0), 0)[None, :]
                B_here = tl.sum(tl.where(here, Bt, 0.0), 0)[:, None]
                C_here = tl.sum(tl.where(here, Ct, 0.0), 0)[:, None]
                decay = tl.exp2(length_here * a)
                state = decay * before + enters_here * B_here
                G = C_here * dy_here + r
                S = tl.where(here, tl.sum(G * B_here, 0)[None, :], S)
                dB = tl.where(here, tl.sum(G * enters_here, 1)[None, :], dB)
                dC = tl.where(here, tl.sum(state * dy_here, 1)[None, :], dC)
                if z is not None:
                    y = tl.where(here, tl.sum(state * C_here, 0)[None, :], y)
                r = decay * G
                through = r * before
                sum_A += length_here * through
                T = tl.where(here, tl.sum(through * a, 0)[None, :], T)
            du = step * S + skip[None, :] * dy
            ddelta = (x * S + T / LOG2E) * slope
            sum_D += tl.sum(dy * x, 0)
            sum_bias += tl.sum(ddelta, 0)
            to = (b * channels + d[None, :]) * length + t[:, None]
            tl.store(grad_u + to, du.to(grad_u.dtype.element_ty), mask=inside)
            tl.store(grad_delta + to, ddelta.to(grad_delta.dtype.element_ty), mask=inside)
            if z is not None:
                gate = tl.load(z + b * z_b + d[None, :] * z_d + t[:, None] * z_l, mask=inside, other=0.0).to(tl.float32)
                open_ = _sigmoid(gate)
                dz = coming * (y + skip[None, :] * x) * open_ * (1.0 + gate * (1.0 - open_))
                tl.store(grad_z + to, dz.to(grad_z.dtype.element_ty), mask=inside)
            into = ((b * groups + g) * states + n[None, :]) * length + t[:, None]
            if ATOMIC:
                tl.atomic_add(grad_B + into, dB, mask=given, sem="relaxed")
                tl.atomic_add(grad_C + into, dC, mask=given, sem="relaxed")
            else:
                tl.store(grad_B + block * part + into, dB, mask=given)
                tl.store(grad_C + block * part + into, dC, mask=given)
        tl.debug_barrier()
    tl.store(grad_A + b * channels * states + at, sum_A, mask=held)
    tl.store(grad_D + b * channels + d, sum_D, mask=exists)
    tl.store(grad_bias + b * channels + d, sum_bias, mask=exists)
    if grad_initial is not None:
        tl.store(grad_initial + b * channels * states + at, r, mask=held)


@triton.jit
def forward_rows(
    u, delta, A, B, C, D, z, bias, initial, out, last, saved,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    channels, length, states, groups,
    SOFTPLUS: tl.constexpr, KEEP: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    CHUNK: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    if ALIGN > 1:  # a step of 1 is no tensor
        length = tl.multiple_of(length, ALIGN)
        u_b, u_d = tl.multiple_of(u_b, ALIGN), tl.multiple_of(u_d, ALIGN)
        delta_b, delta_d = tl.multiple_of(delta_b, ALIGN), tl.multiple_of(delta_d, ALIGN)
        z_b, z_d = tl.multiple_of(z_b, ALIGN), tl.multiple_of(z_d, ALIGN)
    b, g, _, d, exists = _place(channels, groups, BLOCK)
    a = tl.load(A + d, mask=exists, other=0.0) * LOG2E
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    h = tl.zeros((BLOCK,), tl.float32)
    if initial is not None:
        h = tl.load(initial + b * channels + d, mask=exists, other=0.0)
    k = tl.arange(0, CHUNK)
    chunks = tl.cdiv(length, CHUNK)
    for chunk in range(chunks):
        if KEEP:
            tl.store(saved + (b * chunks + chunk) * channels + d, h, mask=exists)
        t = (chunk * CHUNK + k).to(tl.int64)
        inside = exists[:, None] & (t < length)[None, :]
        x = tl.load(u + b * u_b + d[:, None] * u_d + t[None, :] * u_l, mask=inside, other=0.0).to(tl.float32)
        step = tl.load(delta + b * delta_b + d[:, None] * delta_d + t[None, :] * delta_l, mask=inside, other=0.0)
        step = step.to(tl.float32) + add[:, None]
        if SOFTPLUS:
            step = _softplus(step)
        step = tl.where(inside, step, 0.0)
        Bt = tl.load(B + b * B_b + g * B_g + t * B_l, mask=t < length, other=0.0).to(tl.float32)
        Ct = tl.load(C + b * C_b + g * C_g + t * C_l, mask=t < length, other=0.0).to(tl.float32)
        decay, state = tl.associative_scan((tl.exp2(step * a[:, None]), step * x * Bt[None, :]), 1, _combine)
        state += decay * h[:, None]
        h = tl.sum(tl.where((k == CHUNK - 1)[None, :], state, 0.0), 1)
        y = state * Ct[None, :]
        if D is not None:
            y += tl.load(D + d, mask=exists, other=0.0)[:, None] * x
        if z is not None:
            gate = tl.load(z + b * z_b + d[:, None] * z_d + t[None, :] * z_l, mask=inside, other=0.0).to(tl.float32)
            y *= gate * _sigmoid(gate)
        tl.store(out + (b * channels + d[:, None]) * length + t[None, :], y.to(out.dtype.element_ty), mask=inside)
    tl.store(last + b * channels + d, h, mask=exists)


@triton.jit
def backward_rows(
    grad, grad_last, u, delta, A, B, C, D, z, bias, saved, scratch,
    grad_u, grad_delta, grad_z, grad_B, grad_C, grad_A, grad_D, grad_bias, grad_initial,
    grad_b, grad_d, grad_l, u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l,
    B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l, part, channels, length, states, groups,
    SOFTPLUS: tl.constexpr, ATOMIC: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    CHUNK: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    if ALIGN > 1:
        length = tl.multiple_of(length, ALIGN)
        grad_b, grad_d = tl.multiple_of(grad_b, ALIGN), tl.multiple_of(grad_d, ALIGN)
        u_b, u_d = tl.multiple_of(u_b, ALIGN), tl.multiple_of(u_d, ALIGN)
        delta_b, delta_d = tl.multiple_of(delta_b, ALIGN), tl.multiple_of(delta_d, ALIGN)
        z_b, z_d = tl.multiple_of(z_b, ALIGN), tl.multiple_of(z_d, ALIGN)
    b, g, block, d, exists = _place(channels, groups, BLOCK)
    a = tl.load(A + d, mask=exists, other=0.0) * LOG2E
    add = tl.zeros((BLOCK,), tl.float32)
    if bias is not None:
        add = tl.load(bias + d, mask=exists, other=0.0)
    skip = tl.zeros((BLOCK,), tl.float32)
    if D is not None:
        skip = tl.load(D + d, mask=exists, other=0.0)
    G_next = tl.zeros((BLOCK,), tl.float32)
    if grad_last is not None:
        G_next = tl.load(grad_last + b * channels + d, mask=exists, other=0.0)
    decay_first = tl.zeros((BLOCK,), tl.float32)
    sum_A = tl.zeros((BLOCK,), tl.float32)
    sum_D = tl.zeros((BLOCK,), tl.float32)
    sum_bias = tl.zeros((BLOCK,), tl.float32)
    k = tl.arange(0, CHUNK)
    chunks = tl.cdiv(length, CHUNK)
    for turn in range(chunks):
        chunk = chunks - 1 - turn
        h = tl.load(saved + (b * chunks + chunk) * channels + d, mask=exists, other=0.0)
        t = (chunk * CHUNK + k).to(tl.int64)
        inside = exists[:, None] & (t < length)[None, :]
        after = exists[:, None] & (t + 1 < length)[None, :]
        x = tl.load(u + b * u_b + d[:, None] * u_d + t[None, :] * u_l, mask=inside, other=0.0).to(tl.float32)
        row = delta + b * delta_b + d[:, None] * delta_d + t[None, :] * delta_l
        step = tl.load(row, mask=inside, other=0.0).to(tl.float32) + add[:, None]
        step_after = tl.load(row + delta_l, mask=after, other=0.0).to(tl.float32) + add[:, None]
        slope = tl.where(inside, 1.0, 0.0)
        if SOFTPLUS:
            slope *= _sigmoid(step)
            step = _softplus(step)
            step_after = _softplus(step_after)
        step = tl.where(inside, step, 0.0)
        step_after = tl.where(after, step_after, 0.0)
        coming = tl.load(grad + b * grad_b + d[:, None] * grad_d + t[None, :] * grad_l, mask=inside, other=0.0)
        coming = coming.to(tl.float32)
        dy = coming
        if z is not None:
            gate = tl.load(z + b * z_b + d[:, None] * z_d + t[None, :] * z_l, mask=inside, other=0.0).to(tl.float32)
            dy = coming * gate * _sigmoid(gate)
        Bt = tl.load(B + b * B_b + g * B_g + t * B_l, mask=t < length, other=0.0).to(tl.float32)[None, :]
        Ct = tl.load(C + b * C_b + g * C_g + t * C_l, mask=t < length, other=0.0).to(tl.float32)[None, :]
        decay = tl.exp2(step * a[:, None])
        enters = step * x * Bt
        run, state, passed = tl.associative_scan((decay, enters, tl.zeros_like(enters)), 1, _combine_passed)
        state += run * h[:, None]
        passed += run * h[:, None]
        run, G = tl.associative_scan((tl.exp2(step_after * a[:, None]), Ct * dy), 1, _combine, reverse=True)
        G += run * G_next[:, None]
        first = (k == 0)[None, :]
        G_next = tl.sum(tl.where(first, G, 0.0), 1)
        decay_first = tl.sum(tl.where(first, decay, 0.0), 1)
        through = G * passed  # r[l-1] h[l-1]
        S = G * Bt
        du = step * S + skip[:, None] * dy
        ddelta = (x * S + through * (a / LOG2E)[:, None]) * slope
        sum_A += tl.sum(step * through, 1)
        sum_D += tl.sum(dy * x, 1)
        sum_bias += tl.sum(ddelta, 1)
        to = (b * channels + d[:, None]) * length + t[None, :]
        tl.store(grad_u + to, du.to(grad_u.dtype.element_ty), mask=inside)
        tl.store(grad_delta + to, ddelta.to(grad_delta.dtype.element_ty), mask=inside)
        if z is not None:
            open_ = _sigmoid(gate)
            dz = coming * (state * Ct + skip[:, None] * x) * open_ * (1.0 + gate * (1.0 - open_))
            tl.store(grad_z + to, dz.to(grad_z.dtype.element_ty), mask=inside)
        into = (b * groups + g) * length + t
        dB = tl.sum(tl.where(inside, G * step * x, 0.0), 0)
        dC = tl.sum(tl.where(inside, state * dy, 0.0), 0)
        if ATOMIC:
            tl.atomic_add(grad_B + into, dB, mask=t < length, sem="relaxed")
            tl.atomic_add(grad_C + into, dC, mask=t < length, sem="relaxed")
        else:
            tl.store(grad_B + block * part + into, dB, mask=t < length)
            tl.store(grad_C + block * part + into, dC, mask=t < length)
    tl.store(grad_A + b * channels + d, sum_A, mask=exists)
    tl.store(grad_D + b * channels + d, sum_D, mask=exists)
    tl.store(grad_bias + b * channels + d, sum_bias, mask=exists)
    if grad_initial is not None:
        tl.store(grad_initial + b * channels + d, decay_first * G_next, mask=exists)

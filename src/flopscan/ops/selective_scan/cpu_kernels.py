"""The selective scan on a CPU, compiled by Numba: sixteen channels at once, tile after tile of the length.

A block is sixteen neighbouring channels of one group; where the group has no more, its last block has fewer. A tile is
64 positions of a block, position by position, so that all that is done to it stays in the first-level cache. Within a
tile the states are taken one after the other: each runs over the positions in registers, and B and C, which all
channels share, are single numbers. Nothing is of size l n but by tiles.

The gradient goes through stretches of ``every`` positions from the last to the first. At the start of each the forward
kept the states; from there they are computed again. The sums over channels of B and C are kept in sixteen lanes until
all blocks have been through a stretch.

Addresses are integers and offsets count elements of float32. What belongs to blocks lies by block: A, g k n 16;
D and delta_bias, g k 16; states, b g k n 16, where k counts the blocks of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from flopscan.ops.selective_scan.lanes import (
    LANES,
    add,
    exp2,
    fma,
    get,
    load,
    mul,
    put,
    sigmoid,
    softplus,
    splat,
    store,
    total,
    transpose,
)

TILE = 64
SIZE = TILE * LANES  # of a tile, in elements
BYTES = 4


class Scan(NamedTuple):
    """The operands of a scan as integers: sizes, flags, addresses (0 for what is absent) and strides."""

    d: int
    l: int
    n: int
    g: int
    blocks: int  # of a group
    every: int
    softplus: int
    u: int
    u_b: int
    u_d: int
    u_l: int
    delta: int
    delta_b: int
    delta_d: int
    delta_l: int
    z: int
    z_b: int
    z_d: int
    z_l: int
    B: int
    B_b: int
    B_g: int
    B_n: int
    B_l: int
    C: int
    C_b: int
    C_g: int
    C_n: int
    C_l: int
    A: int
    D: int
    bias: int
    states: int  # before the first position, after it in the end
    saved: int  # b, stretch, n, d
    out: int  # b d l


class Gradients(NamedTuple):
    """Where the gradient of the output is, and where the gradients go."""

    grad: int
    grad_b: int
    grad_d: int
    grad_l: int
    u: int  # b d l
    delta: int  # b d l
    z: int  # b d l
    A: int  # b g k n 16
    B: int  # b g parts n l
    C: int  # b g parts n l
    D: int  # b g k 16
    bias: int  # b g k 16
    states: int  # b g k n 16: of the states after the last position, in the end of those before the first
    parts: int  # in how many parts the blocks of a group are worked on


def _compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled at its first call, and cached on disk where there is a place for that."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache can anything be written
        return njit(**options)(function)


@_compiled
def _load_tile(tile: Any, source: Any, by_channel: Any, by_step: Any, lanes: Any, steps: Any) -> None:
    """Bring a block at some positions into a tile, zero where the block has no channel."""
    t = 0
    if lanes == LANES and by_step == 1:
        while t + LANES <= steps:
            transpose(source + BYTES * t, by_channel, tile + BYTES * t * LANES, LANES)
            t += LANES
    elif lanes == LANES and by_channel == 1:
        while t < steps:
            store(tile, t * LANES, load(source, t * by_step))
            t += 1
    while t < steps:
        for i in range(lanes):
            put(tile, t * LANES + i, get(source, i * by_channel + t * by_step))
        for i in range(lanes, LANES):
            put(tile, t * LANES + i, np.float32(0))
        t += 1


@_compiled
def _store_tile(target: Any, by_channel: Any, lanes: Any, steps: Any, tile: Any) -> None:
    """Write a tile to the channels of a block, whose positions lie next to each other."""
    t = 0
    if lanes == LANES:
        while t + LANES <= steps:
            transpose(tile + BYTES * t * LANES, LANES, target + BYTES * t, by_channel)
            t += LANES
    while t < steps:
        for i in range(lanes):
            put(target, i * by_channel + t, get(tile, t * LANES + i))
        t += 1


@_compiled
def _keep(saved: Any, d: Any, n: Any, lanes: Any, states: Any) -> None:
    """Write the states of a block to ``saved`` (n d)."""
    for j in range(n):
        if lanes == LANES:
            store(saved, j * d, load(states, j * LANES))
        else:
            for i in range(lanes):
                put(saved, j * d + i, get(states, j * LANES + i))


@_compiled
def _kept(states: Any, saved: Any, d: Any, n: Any, lanes: Any) -> None:
    """Read the states of a block from ``saved`` (n d), zero where it has no channel."""
    for j in range(n):
        if lanes == LANES:
            store(states, j * LANES, load(saved, j * d))
        else:
            for i in range(LANES):
                put(states, j * LANES + i, get(saved, j * d + i) if i < lanes else np.float32(0))


@_compiled
def _steps_of(s: Any, delta: Any, bias: Any, steps: Any) -> None:
    """Make the step sizes of a tile final."""
    offset = load(bias, 0)
    for t in range(steps):
        x = add(load(delta, t * LANES), offset)
        store(delta, t * LANES, softplus(x) if s.softplus else x)


@_compiled
def _advance(states: Any, A: Any, n: Any, B: Any, B_n: Any, B_l: Any, delta: Any, drive: Any, steps: Any) -> None:
    """Move the states of a block over a tile, without an output."""
    for j in range(n):
        a = mul(load(A, j * LANES), splat(np.float32(1.4426950408889634)))
        h = load(states, j * LANES)
        for t in range(steps):
            h = fma(
                exp2(mul(load(delta, t * LANES), a)), h, mul(load(drive, t * LANES), splat(get(B, j * B_n + t * B_l)))
            )
        store(states, j * LANES, h)


@_compiled
def _scan_tile(
    states: Any, A: Any, n: Any, B: Any, B_n: Any, B_l: Any, C: Any, C_n: Any, C_l: Any,
    delta: Any, drive: Any, y: Any, steps: Any,
) -> None:  # fmt: skip
    """Move the states of a block over a tile and add to ``y`` what is read from them."""
    for j in range(n):
        a = mul(load(A, j * LANES), splat(np.float32(1.4426950408889634)))
        h = load(states, j * LANES)
        for t in range(steps):
            b, c = splat(get(B, j * B_n + t * B_l)), splat(get(C, j * C_n + t * C_l))
            h = fma(exp2(mul(load(delta, t * LANES), a)), h, mul(load(drive, t * LANES), b))
            store(y, t * LANES, fma(h, c, load(y, t * LANES)))
        store(states, j * LANES, h)


@_compiled
def forward(s: Any, first: Any, last: Any, scratch: Any) -> None:
    """Scan the blocks from ``first`` to ``last``; ``scratch`` has 4 tiles."""
    delta, drive, y, u = scratch, scratch + BYTES * SIZE, scratch + 2 * BYTES * SIZE, scratch + 3 * BYTES * SIZE
    stretches = (s.l + s.every - 1) // s.every
    for task in range(first, last):
        b, within = task // (s.g * s.blocks), task % (s.g * s.blocks)
        g, k = within // s.blocks, within % s.blocks
        channel, lanes = g * (s.d // s.g) + k * LANES, min(LANES, s.d // s.g - k * LANES)
        states, A = s.states + BYTES * task * s.n * LANES, s.A + BYTES * within * s.n * LANES
        B, C = s.B + BYTES * (b * s.B_b + g * s.B_g), s.C + BYTES * (b * s.C_b + g * s.C_g)
        for t0 in range(0, s.l, TILE):
            steps = min(TILE, s.l - t0)
            if s.saved and t0 % s.every == 0:
                row = (b * stretches + t0 // s.every) * s.n * s.d
                _keep(s.saved + BYTES * (row + channel), s.d, s.n, lanes, states)
            _load_tile(u, s.u + BYTES * (b * s.u_b + channel * s.u_d + t0 * s.u_l), s.u_d, s.u_l, lanes, steps)
            at = s.delta + BYTES * (b * s.delta_b + channel * s.delta_d + t0 * s.delta_l)
            _load_tile(delta, at, s.delta_d, s.delta_l, lanes, steps)
            _steps_of(s, delta, s.bias + BYTES * within * LANES, steps)
            skip = load(s.D, within * LANES) if s.D else splat(np.float32(0))
            for t in range(steps):
                x = load(u, t * LANES)
                store(drive, t * LANES, mul(load(delta, t * LANES), x))
                store(y, t * LANES, mul(skip, x) if s.D else skip)
            _scan_tile(
                states, A, s.n, B + BYTES * t0 * s.B_l, s.B_n, s.B_l, C + BYTES * t0 * s.C_l, s.C_n, s.C_l,
                delta, drive, y, steps,
            )  # fmt: skip
            if s.z:
                at = s.z + BYTES * (b * s.z_b + channel * s.z_d + t0 * s.z_l)
                _load_tile(u, at, s.z_d, s.z_l, lanes, steps)
                for t in range(steps):
                    z = load(u, t * LANES)
                    store(y, t * LANES, mul(load(y, t * LANES), mul(z, sigmoid(z))))
            _store_tile(s.out + BYTES * ((b * s.d + channel) * s.l + t0), s.l, lanes, steps, y)


@_compiled
def _states_tile(
    states: Any, A: Any, B: Any, B_l: Any, C: Any, C_l: Any, delta: Any, drive: Any, y: Any, wants_y: Any,
    decay: Any, before: Any, after: Any, steps: Any,
) -> None:  # fmt: skip
    """One state of a block over a tile: its factors, what these leave of the state before, and the state after."""
    a = mul(load(A, 0), splat(np.float32(1.4426950408889634)))
    h = load(states, 0)
    for t in range(steps):
        factor = exp2(mul(load(delta, t * LANES), a))
        left = mul(factor, h)
        h = fma(load(drive, t * LANES), splat(get(B, t * B_l)), left)
        store(decay, t * LANES, factor)
        store(before, t * LANES, left)
        store(after, t * LANES, h)
        if wants_y:
            store(y, t * LANES, fma(h, splat(get(C, t * C_l)), load(y, t * LANES)))


@_compiled
def _adjoint_tile(
    carry: Any, A: Any, of_A: Any, B: Any, B_l: Any, C: Any, C_l: Any, of_B: Any, of_C: Any, delta: Any, drive: Any,
    dy: Any, through_input: Any, through_decay: Any, decay: Any, before: Any, after: Any, steps: Any,
) -> None:  # fmt: skip
    """The gradients by way of one state of a block, from the last position of a tile to the first."""
    a, grad, sums = load(A, 0), load(carry, 0), splat(np.float32(0))
    for back in range(steps):
        t = steps - 1 - back
        at = t * LANES
        out = load(dy, at)
        grad = fma(out, splat(get(C, t * C_l)), grad)  # of the state
        store(of_C, at, fma(out, load(after, at), load(of_C, at)))
        store(of_B, at, fma(grad, load(drive, at), load(of_B, at)))
        store(through_input, at, fma(grad, splat(get(B, t * B_l)), load(through_input, at)))
        exponent = mul(grad, load(before, at))  # the gradient of delta A
        sums = fma(exponent, load(delta, at), sums)
        store(through_decay, at, fma(exponent, a, load(through_decay, at)))
        grad = mul(grad, load(decay, at))
    store(carry, 0, grad)
    store(of_A, 0, add(load(of_A, 0), sums))  # tile by tile, which rounds less than one position after the other


@_compiled
def _operands_tile(
    s: Any, r: Any, b: Any, channel: Any, lanes: Any, within: Any, t0: Any, steps: Any,
    delta: Any, slope: Any, u: Any, drive: Any, z: Any, grad: Any, dy: Any,
) -> None:  # fmt: skip
    """What the gradient needs of a tile before any state: final step sizes and their slope, delta u, and that of y."""
    _load_tile(u, s.u + BYTES * (b * s.u_b + channel * s.u_d + t0 * s.u_l), s.u_d, s.u_l, lanes, steps)
    at = s.delta + BYTES * (b * s.delta_b + channel * s.delta_d + t0 * s.delta_l)
    _load_tile(delta, at, s.delta_d, s.delta_l, lanes, steps)
    at = r.grad + BYTES * (b * r.grad_b + channel * r.grad_d + t0 * r.grad_l)
    _load_tile(grad, at, r.grad_d, r.grad_l, lanes, steps)
    if s.z:
        _load_tile(z, s.z + BYTES * (b * s.z_b + channel * s.z_d + t0 * s.z_l), s.z_d, s.z_l, lanes, steps)
    offset = load(s.bias, within * LANES)
    for t in range(steps):
        at = t * LANES
        x = add(load(delta, at), offset)
        if s.softplus:
            store(slope, at, sigmoid(x))
            x = softplus(x)
        store(delta, at, x)
        store(drive, at, mul(x, load(u, at)))
        out = load(grad, at)
        if s.z:
            gate = load(z, at)
            out = mul(out, mul(gate, sigmoid(gate)))
        store(dy, at, out)


@_compiled
def _gradients_tile(
    s: Any, r: Any, b: Any, channel: Any, lanes: Any, block: Any, within: Any, t0: Any, steps: Any,
    delta: Any, slope: Any, u: Any, z: Any, grad: Any, dy: Any, y: Any, through_input: Any, through_decay: Any,
) -> None:  # fmt: skip
    """Write the gradients of u, delta and z in a tile, add up those of D and of the bias."""
    zero, one = splat(np.float32(0)), splat(np.float32(1))
    skip = load(s.D, within * LANES) if s.D else zero
    of_D, of_bias = zero, zero
    for t in range(steps):
        at = t * LANES
        out, x, into = load(dy, at), load(u, at), load(through_input, at)
        of_delta = fma(x, into, load(through_decay, at))
        if s.softplus:
            of_delta = mul(of_delta, load(slope, at))
        of_bias = add(of_bias, of_delta)
        of_u = mul(load(delta, at), into)
        if s.D:
            of_u = fma(skip, out, of_u)
            of_D = fma(out, x, of_D)
        if s.z:
            gate = load(z, at)
            s1 = sigmoid(gate)
            rest = fma(mul(gate, splat(np.float32(-1))), s1, add(one, gate))  # 1 + z (1 - sigmoid)
            read = fma(skip, x, load(y, at)) if s.D else load(y, at)
            store(z, at, mul(mul(load(grad, at), read), mul(s1, rest)))
        store(through_input, at, of_u)
        store(through_decay, at, of_delta)
    store(r.D, block * LANES, add(load(r.D, block * LANES), of_D))
    store(r.bias, block * LANES, add(load(r.bias, block * LANES), of_bias))
    target = BYTES * ((b * s.d + channel) * s.l + t0)
    _store_tile(r.u + target, s.l, lanes, steps, through_input)
    _store_tile(r.delta + target, s.l, lanes, steps, through_decay)
    if s.z:
        _store_tile(r.z + target, s.l, lanes, steps, z)


@_compiled
def _clear(target: Any, tiles: Any) -> None:
    """Write zeros."""
    for i in range(tiles * TILE):
        store(target, i * LANES, splat(np.float32(0)))


@_compiled
def _block_backward(
    s: Any, r: Any, b: Any, g: Any, k: Any, t0: Any, t1: Any, scratch: Any, starts: Any, of_B: Any, of_C: Any
) -> None:
    """The gradients of one block in a stretch of positions; those of B and C lane by lane, onto what is there."""
    tile = BYTES * SIZE
    delta, slope, u, drive = scratch, scratch + tile, scratch + 2 * tile, scratch + 3 * tile
    z, grad, dy = scratch + 4 * tile, scratch + 5 * tile, scratch + 6 * tile
    y, into, through = scratch + 7 * tile, scratch + 8 * tile, scratch + 9 * tile
    decay, before, after = scratch + 10 * tile, scratch + 11 * tile, scratch + 12 * tile
    within = g * s.blocks + k
    block = b * s.g * s.blocks + within
    channel, lanes = g * (s.d // s.g) + k * LANES, min(LANES, s.d // s.g - k * LANES)
    one = BYTES * LANES
    A, of_A, carry = s.A + within * s.n * one, r.A + block * s.n * one, r.states + block * s.n * one
    B, C = s.B + BYTES * (b * s.B_b + g * s.B_g), s.C + BYTES * (b * s.C_b + g * s.C_g)
    stretches = (s.l + s.every - 1) // s.every
    row = (b * stretches + t0 // s.every) * s.n * s.d
    _kept(starts, s.saved + BYTES * (row + channel), s.d, s.n, lanes)
    tiles = (t1 - t0 + TILE - 1) // TILE
    for i in range(1, tiles):  # the states at the start of every tile
        t = t0 + (i - 1) * TILE
        _operands_tile(s, r, b, channel, lanes, within, t, TILE, delta, slope, u, drive, z, grad, dy)
        for j in range(s.n):
            store(starts, (i * s.n + j) * LANES, load(starts, ((i - 1) * s.n + j) * LANES))
        _advance(starts + i * s.n * one, A, s.n, B + BYTES * t * s.B_l, s.B_n, s.B_l, delta, drive, TILE)
    for back in range(tiles):
        i = tiles - 1 - back
        t = t0 + i * TILE
        steps = min(TILE, t1 - t)
        _operands_tile(s, r, b, channel, lanes, within, t, steps, delta, slope, u, drive, z, grad, dy)
        _clear(y, 3)  # and the sums over the states
        for j in range(s.n):
            at_B, at_C = B + BYTES * (j * s.B_n + t * s.B_l), C + BYTES * (j * s.C_n + t * s.C_l)
            _states_tile(
                starts + (i * s.n + j) * one, A + j * one, at_B, s.B_l, at_C, s.C_l, delta, drive, y, s.z,
                decay, before, after, steps,
            )  # fmt: skip
            place = (j * s.every + i * TILE) * one
            _adjoint_tile(
                carry + j * one, A + j * one, of_A + j * one, at_B, s.B_l, at_C, s.C_l, of_B + place, of_C + place,
                delta, drive, dy, into, through, decay, before, after, steps,
            )  # fmt: skip
        _gradients_tile(
            s, r, b, channel, lanes, block, within, t, steps, delta, slope, u, z, grad, dy, y, into, through
        )


@_compiled
def backward(s: Any, r: Any, first: Any, last: Any, scratch: Any) -> None:
    """The gradients by way of parts of groups, from ``first`` to ``last``.

    ``scratch`` has 13 tiles, the states of a block at every tile of a stretch, and twice n stretches in lanes.
    """
    starts = scratch + 13 * BYTES * SIZE
    of_B = starts + BYTES * LANES * s.n * (s.every // TILE)
    of_C = of_B + BYTES * LANES * s.n * s.every
    stretches = (s.l + s.every - 1) // s.every
    for task in range(first, last):
        group, part = task // r.parts, task % r.parts
        b, g = group // s.g, group % s.g
        low, high = s.blocks * part // r.parts, s.blocks * (part + 1) // r.parts
        for back in range(stretches):
            t0 = (stretches - 1 - back) * s.every
            t1 = min(t0 + s.every, s.l)
            _clear(of_B, 2 * s.n * s.every // TILE)
            for k in range(low, high):
                _block_backward(s, r, b, g, k, t0, t1, scratch, starts, of_B, of_C)
            for j in range(s.n):
                row = (task * s.n + j) * s.l + t0
                for t in range(t1 - t0):
                    put(r.B, row + t, total(load(of_B, (j * s.every + t) * LANES)))
                    put(r.C, row + t, total(load(of_C, (j * s.every + t) * LANES)))

"""The cross selective scan on a CPU, compiled by Numba: four scans of an image that read and write it in their orders.

Sixteen channels of the image are brought in once, pixel by pixel, so that a pixel is one line of the cache in whatever
order it is come by; the outputs of the four directions are added up in the same place, and written once. All else is
as in `flopscan.ops.selective_scan.cpu_kernels`, whose tiles these are: what differs by direction (delta, B and C) lies
in the order of its direction.

Addresses are integers and offsets count elements of float32. k counts the directions, and what belongs to blocks of
channels lies by direction and block: A, k blocks n 16; D and delta_bias, k blocks 16.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flopscan.ops.selective_scan.cpu_kernels import (
    BYTES,
    SIZE,
    TILE,
    _advance,
    _clear,
    _compiled,
    _keep,
    _kept,
    _load_tile,
    _scan_tile,
    _states_tile,
    _steps_of,
    _store_tile,
)
from flopscan.ops.selective_scan.lanes import (
    LANES,
    add,
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
    totals,
)

DIRECTIONS = 4


class Scan(NamedTuple):
    """The operands as integers: sizes, flags, addresses (0 for what is absent) and strides."""

    d: int
    h: int
    w: int
    n: int
    blocks: int
    every: int
    softplus: int
    parts: int  # in how many parts the directions are worked on: 1 or 4
    x: int
    x_b: int
    x_d: int
    x_h: int
    x_w: int
    delta: int
    delta_b: int
    delta_k: int
    delta_d: int
    delta_l: int
    B: int
    B_b: int
    B_k: int
    B_n: int
    B_l: int
    C: int
    C_b: int
    C_k: int
    C_n: int
    C_l: int
    A: int
    D: int
    bias: int
    saved: int  # b k stretch n d
    out: int  # b parts d l


class Gradients(NamedTuple):
    """Where the gradient of the output is, and where the gradients go."""

    grad: int
    grad_b: int
    grad_d: int
    grad_h: int
    grad_w: int
    x: int  # b d l
    delta: int  # b k d l
    A: int  # b k blocks n 16
    B: int  # b parts k n l
    C: int  # b parts k n l
    D: int  # b k blocks 16
    bias: int  # b k blocks 16
    parts: int  # in how many parts the blocks are worked on


@_compiled
def _start(k: Any, h: Any, w: Any, t: Any) -> Any:
    """Where step ``t`` of direction ``k`` is: its pixel, and how far along the run of pixels that it is in."""
    height, width = (h, w) if k % 2 else (h * w, 1)
    if k >= 2:
        t = h * w - 1 - t
    along = t % height
    return along * width + t // height, along


@_compiled
def _next(k: Any, pixel: Any, along: Any, height: Any, width: Any) -> Any:
    """The pixel after this one in direction ``k``, and how far along its row or column it is."""
    if k < 2:
        along, pixel = along + 1, pixel + width
        if along == height:
            along, pixel = 0, pixel + 1 - height * width
    else:
        along, pixel = along - 1, pixel - width
        if along < 0:
            along, pixel = height - 1, pixel - 1 + height * width
    return pixel, along


@_compiled
def _gather(tile: Any, image: Any, k: Any, h: Any, w: Any, t0: Any, steps: Any) -> None:
    """Bring the pixels of an image (l 16) that direction ``k`` comes by from step ``t0`` on into a tile."""
    height, width = (h, w) if k % 2 else (h * w, 1)
    pixel, along = _start(k, h, w, t0)
    for t in range(steps):
        store(tile, t * LANES, load(image, pixel * LANES))
        pixel, along = _next(k, pixel, along, height, width)


@_compiled
def _scatter(tile: Any, image: Any, k: Any, h: Any, w: Any, t0: Any, steps: Any) -> None:
    """Add a tile to the pixels of an image that direction ``k`` comes by from step ``t0`` on."""
    height, width = (h, w) if k % 2 else (h * w, 1)
    pixel, along = _start(k, h, w, t0)
    for t in range(steps):
        store(image, pixel * LANES, add(load(image, pixel * LANES), load(tile, t * LANES)))
        pixel, along = _next(k, pixel, along, height, width)


@_compiled
def _load_image(
    image: Any, source: Any, by_channel: Any, by_row: Any, by_pixel: Any, lanes: Any, h: Any, w: Any
) -> Any:
    """Bring a block of channels of a whole image into ``image`` (l 16)."""
    if by_row == w * by_pixel:
        h, w = 1, h * w
    for i in range(h):
        _load_tile(image + BYTES * i * w * LANES, source + BYTES * i * by_row, by_channel, by_pixel, lanes, w)


@_compiled
def _zero(target: Any, rows: Any) -> None:
    """Write zeros to so many lines of sixteen."""
    for i in range(rows):
        store(target, i * LANES, splat(np.float32(0)))


@_compiled
def _add_totals(tile: Any, target: Any, steps: Any) -> None:
    """Add the sums over the channels of a tile to what is at its positions."""
    t = 0
    while t + LANES <= steps:
        store(target, t, add(load(target, t), totals(tile + BYTES * t * LANES)))
        t += LANES
    while t < steps:
        put(target, t, get(target, t) + total(load(tile, t * LANES)))
        t += 1


@_compiled
def _scan_direction(
    s: Any, b: Any, k: Any, block: Any, lanes: Any, scratch: Any, states: Any, image: Any, out: Any
) -> None:
    """Scan a block of channels of an image (l 16) in one direction, and add the output to the image ``out``."""
    delta, drive, y, x = scratch, scratch + BYTES * SIZE, scratch + 2 * BYTES * SIZE, scratch + 3 * BYTES * SIZE
    l, within, channel = s.h * s.w, k * s.blocks + block, block * LANES
    stretches = (l + s.every - 1) // s.every
    A = s.A + BYTES * within * s.n * LANES
    B, C = s.B + BYTES * (b * s.B_b + k * s.B_k), s.C + BYTES * (b * s.C_b + k * s.C_k)
    source = s.delta + BYTES * (b * s.delta_b + k * s.delta_k + channel * s.delta_d)
    skip = load(s.D, within * LANES) if s.D else splat(np.float32(0))
    _zero(states, s.n)
    for t0 in range(0, l, TILE):
        steps = min(TILE, l - t0)
        if s.saved and t0 % s.every == 0:
            row = ((b * DIRECTIONS + k) * stretches + t0 // s.every) * s.n * s.d
            _keep(s.saved + BYTES * (row + channel), s.d, s.n, lanes, states)
        _gather(x, image, k, s.h, s.w, t0, steps)
        _load_tile(delta, source + BYTES * t0 * s.delta_l, s.delta_d, s.delta_l, lanes, steps)
        _steps_of(s, delta, s.bias + BYTES * within * LANES, steps)
        for t in range(steps):
            pixel = load(x, t * LANES)
            store(drive, t * LANES, mul(load(delta, t * LANES), pixel))
            store(y, t * LANES, mul(skip, pixel) if s.D else skip)
        _scan_tile(
            states, A, s.n, B + BYTES * t0 * s.B_l, s.B_n, s.B_l, C + BYTES * t0 * s.C_l, s.C_n, s.C_l,
            delta, drive, y, steps,
        )  # fmt: skip
        _scatter(y, out, k, s.h, s.w, t0, steps)


@_compiled
def forward(s: Any, first: Any, last: Any, scratch: Any) -> None:
    """Scan blocks, by batch, block and part, from ``first`` to ``last``; ``scratch``: 4 tiles, states, 2 images."""
    l = s.h * s.w
    states = scratch + 4 * BYTES * SIZE
    image = states + BYTES * s.n * LANES
    out = image + BYTES * l * LANES
    batch = DIRECTIONS // s.parts
    for task in range(first, last):
        part, row = task % s.parts, task // s.parts
        b, block = row // s.blocks, row % s.blocks
        channel, lanes = block * LANES, min(LANES, s.d - block * LANES)
        at = s.x + BYTES * (b * s.x_b + channel * s.x_d)
        _load_image(image, at, s.x_d, s.x_h, s.x_w, lanes, s.h, s.w)
        _zero(out, l)
        for k in range(part * batch, (part + 1) * batch):
            _scan_direction(s, b, k, block, lanes, scratch, states, image, out)
        target = ((part + s.parts * b) * s.d + channel) * l
        _store_tile(s.out + BYTES * target, l, lanes, l, out)


@_compiled
def _adjoint_tile(
    carry: Any, A: Any, of_A: Any, B: Any, B_l: Any, C: Any, C_l: Any, of_B: Any, of_C: Any, delta: Any, drive: Any,
    dy: Any, through_input: Any, through_decay: Any, decay: Any, before: Any, after: Any, steps: Any,
) -> None:  # fmt: skip
    """As that of the scan of sequences, but that the gradients of B and C are those of this tile alone."""
    a, grad, sums = load(A, 0), load(carry, 0), splat(np.float32(0))
    for back in range(steps):
        t = steps - 1 - back
        at = t * LANES
        out = load(dy, at)
        grad = fma(out, splat(get(C, t * C_l)), grad)  # of the state
        store(of_C, at, mul(out, load(after, at)))
        store(of_B, at, mul(grad, load(drive, at)))
        store(through_input, at, fma(grad, splat(get(B, t * B_l)), load(through_input, at)))
        exponent = mul(grad, load(before, at))  # the gradient of delta A
        sums = fma(exponent, load(delta, at), sums)
        store(through_decay, at, fma(exponent, a, load(through_decay, at)))
        grad = mul(grad, load(decay, at))
    store(carry, 0, grad)
    store(of_A, 0, add(load(of_A, 0), sums))


@_compiled
def _operands_tile(
    s: Any, k: Any, source: Any, bias: Any, t0: Any, steps: Any, lanes: Any, image: Any,
    delta: Any, slope: Any, x: Any, drive: Any,
) -> None:  # fmt: skip
    """What the gradient needs of a tile before any state: final step sizes and their slope, and delta x."""
    _gather(x, image, k, s.h, s.w, t0, steps)
    _load_tile(delta, source + BYTES * t0 * s.delta_l, s.delta_d, s.delta_l, lanes, steps)
    offset = load(bias, 0)
    for t in range(steps):
        at = t * LANES
        step = add(load(delta, at), offset)
        if s.softplus:
            store(slope, at, sigmoid(step))
            step = softplus(step)
        store(delta, at, step)
        store(drive, at, mul(step, load(x, at)))


@_compiled
def _gradients_tile(
    s: Any, D: Any, of_D: Any, of_bias: Any, steps: Any,
    delta: Any, slope: Any, x: Any, dy: Any, through_input: Any, through_decay: Any,
) -> None:  # fmt: skip
    """Make the gradients of x and delta in a tile, where those by way of the states were; add up D's and the bias's."""
    zero = splat(np.float32(0))
    skip = load(D, 0) if s.D else zero
    sum_D, sum_bias = zero, zero
    for t in range(steps):
        at = t * LANES
        out, pixel, into = load(dy, at), load(x, at), load(through_input, at)
        of_delta = fma(pixel, into, load(through_decay, at))
        if s.softplus:
            of_delta = mul(of_delta, load(slope, at))
        sum_bias = add(sum_bias, of_delta)
        of_x = mul(load(delta, at), into)
        if s.D:
            of_x = fma(skip, out, of_x)
            sum_D = fma(out, pixel, sum_D)
        store(through_input, at, of_x)
        store(through_decay, at, of_delta)
    store(of_D, 0, add(load(of_D, 0), sum_D))
    store(of_bias, 0, add(load(of_bias, 0), sum_bias))


@_compiled
def _direction_backward(
    s: Any, r: Any, b: Any, k: Any, block: Any, lanes: Any, scratch: Any, starts: Any, image: Any, grad: Any, of_x: Any,
    into_B: Any, into_C: Any,
) -> None:  # fmt: skip
    """The gradients by way of one direction of a block; those of x, B and C are added to what is there."""
    tile = BYTES * SIZE
    delta, slope, x, drive, dy = (
        scratch, scratch + tile, scratch + 2 * tile, scratch + 3 * tile, scratch + 4 * tile,
    )  # fmt: skip
    y, into, through = scratch + 5 * tile, scratch + 6 * tile, scratch + 7 * tile
    decay, before, after = scratch + 8 * tile, scratch + 9 * tile, scratch + 10 * tile
    of_B, of_C = scratch + 11 * tile, scratch + 12 * tile
    one = BYTES * LANES
    l, within, channel = s.h * s.w, k * s.blocks + block, block * LANES
    row = b * DIRECTIONS * s.blocks + within
    A, of_A, carry = s.A + within * s.n * one, r.A + row * s.n * one, starts
    states, bias = starts + s.n * one, s.bias + within * one
    B, C = s.B + BYTES * (b * s.B_b + k * s.B_k), s.C + BYTES * (b * s.C_b + k * s.C_k)
    source = s.delta + BYTES * (b * s.delta_b + k * s.delta_k + channel * s.delta_d)
    stretches = (l + s.every - 1) // s.every
    _zero(carry, s.n)
    for stretch in range(stretches):
        t0 = (stretches - 1 - stretch) * s.every
        t1 = min(t0 + s.every, l)
        kept = ((b * DIRECTIONS + k) * stretches + t0 // s.every) * s.n * s.d
        _kept(states, s.saved + BYTES * (kept + channel), s.d, s.n, lanes)
        tiles = (t1 - t0 + TILE - 1) // TILE
        for i in range(1, tiles):  # the states at the start of every tile
            t = t0 + (i - 1) * TILE
            _operands_tile(s, k, source, bias, t, TILE, lanes, image, delta, slope, x, drive)
            for j in range(s.n):
                store(states, (i * s.n + j) * LANES, load(states, ((i - 1) * s.n + j) * LANES))
            _advance(states + i * s.n * one, A, s.n, B + BYTES * t * s.B_l, s.B_n, s.B_l, delta, drive, TILE)
        for back in range(tiles):
            i = tiles - 1 - back
            t = t0 + i * TILE
            steps = min(TILE, t1 - t)
            _operands_tile(s, k, source, bias, t, steps, lanes, image, delta, slope, x, drive)
            _gather(dy, grad, k, s.h, s.w, t, steps)
            _clear(into, 2)
            for j in range(s.n):
                at_B, at_C = B + BYTES * (j * s.B_n + t * s.B_l), C + BYTES * (j * s.C_n + t * s.C_l)
                _states_tile(
                    states + (i * s.n + j) * one, A + j * one, at_B, s.B_l, at_C, s.C_l, delta, drive, y, 0,
                    decay, before, after, steps,
                )  # fmt: skip
                _adjoint_tile(
                    carry + j * one, A + j * one, of_A + j * one, at_B, s.B_l, at_C, s.C_l, of_B, of_C,
                    delta, drive, dy, into, through, decay, before, after, steps,
                )  # fmt: skip
                place = BYTES * ((k * s.n + j) * l + t)
                _add_totals(of_B, into_B + place, steps)
                _add_totals(of_C, into_C + place, steps)
            _gradients_tile(
                s, s.D + within * one, r.D + row * one, r.bias + row * one, steps, delta, slope, x, dy, into, through
            )
            _scatter(into, of_x, k, s.h, s.w, t, steps)
            target = ((b * DIRECTIONS + k) * s.d + channel) * l + t
            _store_tile(r.delta + BYTES * target, l, lanes, steps, through)


@_compiled
def backward(s: Any, r: Any, first: Any, last: Any, scratch: Any) -> None:
    """The gradients by way of parts of the blocks of each batch, from ``first`` to ``last``.

    ``scratch`` has 13 tiles, the states of a block one time more than a stretch has tiles, and 3 images. Those of B
    and C are zero before.
    """
    l = s.h * s.w
    starts = scratch + 13 * BYTES * SIZE
    image = starts + BYTES * LANES * s.n * (s.every // TILE + 1)
    grad = image + BYTES * l * LANES
    of_x = grad + BYTES * l * LANES
    for task in range(first, last):
        b, part = task // r.parts, task % r.parts
        row = BYTES * task * DIRECTIONS * s.n * l
        for block in range(s.blocks * part // r.parts, s.blocks * (part + 1) // r.parts):
            channel, lanes = block * LANES, min(LANES, s.d - block * LANES)
            at = s.x + BYTES * (b * s.x_b + channel * s.x_d)
            _load_image(image, at, s.x_d, s.x_h, s.x_w, lanes, s.h, s.w)
            at = r.grad + BYTES * (b * r.grad_b + channel * r.grad_d)
            _load_image(grad, at, r.grad_d, r.grad_h, r.grad_w, lanes, s.h, s.w)
            _zero(of_x, l)
            for k in range(DIRECTIONS):
                _direction_backward(s, r, b, k, block, lanes, scratch, starts, image, grad, of_x, r.B + row, r.C + row)
            _store_tile(r.x + BYTES * ((b * s.d + channel) * l), l, lanes, l, of_x)

"""Every answer of `shapes.py` beside torch's own meta kernel, on random operands."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from flopscan.capture import shapes
from flopscan.capture.engine import operator_of

aten = torch.ops.aten


def tensor(r: random.Random, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A meta tensor of ``shape`` whose dimensions lie in memory in a random order."""
    order = list(range(len(shape)))
    if r.random() < 0.5:
        r.shuffle(order)
    data = torch.empty([shape[i] for i in order], dtype=dtype, device="meta")
    return data.permute([order.index(i) for i in range(len(shape))])


def broadcastable(r: random.Random, shape: tuple[int, ...]) -> Tensor:
    kept = shape[r.randint(0, len(shape)) :] if r.random() < 0.3 else shape
    return tensor(r, *(1 if r.random() < 0.2 else n for n in kept))


def elementwise(r: random.Random) -> tuple[Any, list[Any]]:
    shape = tuple(r.choice((1, 2, 3, 5)) for _ in range(r.randint(1, 4)))
    a, b = tensor(r, *shape), broadcastable(r, shape)
    return r.choice(
        [
            (aten.add.Tensor, [a, b]),
            (aten.mul.Tensor, [a, 2.0]),
            (aten.div.Tensor, [a, b.to(torch.float64)]),
            (aten.sub.Tensor, [b, a]),
            (aten.gt.Tensor, [a, b]),
            (aten.where.self, [a > 0, a, b]),
            (aten.relu.default, [a]),
            (aten.gelu.default, [a]),
            (aten.pow.Tensor_Scalar, [a, 2]),
            (aten.silu_backward.default, [a, tensor(r, *shape)]),
            (aten.maximum.default, [a, b.to(torch.float16)]),
        ]
    )


def products(r: random.Random) -> tuple[Any, list[Any]]:
    b, m, k, n = (r.randint(1, 4) for _ in range(4))
    bias = tensor(r, *r.choice([(n,), (1, n), (m, n)]))
    return r.choice(
        [
            (aten.mm.default, [tensor(r, m, k), tensor(r, k, n)]),
            (aten.addmm.default, [bias, tensor(r, m, k), tensor(r, k, n)]),
            (aten.bmm.default, [tensor(r, b, m, k), tensor(r, b, k, n)]),
            (aten.baddbmm.default, [tensor(r, b, m, n), tensor(r, b, m, k), tensor(r, b, k, n)]),
        ]
    )


def convolutions(r: random.Random) -> tuple[Any, list[Any]]:
    rank, groups = r.choice((1, 2, 3)), r.choice((1, 2))
    cin, cout, k = 2 * groups, 3 * groups, r.choice((1, 2, 3))
    size = [r.randint(5, 9) for _ in range(rank)]
    transposed = r.random() < 0.4
    weight = (cin, cout // groups) if transposed else (cout, cin // groups)
    x = torch.empty(r.randint(1, 2), cin, *size, device="meta")
    w = torch.empty(*weight, *[k] * rank, device="meta")
    stride, padding = [r.randint(1, 2)] * rank, [r.randint(0, 1)] * rank
    extra = [stride[0] - 1 if transposed else 0] * rank
    bias = torch.empty(cout, device="meta") if r.random() < 0.5 else None
    return aten.convolution.default, [x, w, bias, stride, padding, [r.randint(1, 2)] * rank, transposed, extra, groups]


def norms(r: random.Random) -> tuple[Any, list[Any]]:
    x = tensor(r, 2, 3, 4, 5)
    weight = torch.empty(3, device="meta")
    last = torch.empty(5, device="meta")
    dim = r.randint(-4, 3)
    return r.choice(
        [
            (aten.native_layer_norm.default, [x, [5], last, last, 1e-5]),
            (aten.native_layer_norm.default, [x.contiguous(), [4, 5], None, None, 1e-5]),
            (aten.native_batch_norm.default, [x.contiguous(), weight, weight, weight, weight, True, 0.1, 1e-5]),
            (aten._softmax.default, [x, dim, False]),
            (aten._log_softmax.default, [x, dim, False]),
            (aten.sum.dim_IntList, [x, [dim], r.random() < 0.5]),
            (aten.mean.dim, [x, [-1, 1], r.random() < 0.5]),
        ]
    )


def movement(r: random.Random) -> tuple[Any, list[Any]]:
    dim = r.randint(-3, 2)
    shapes_ = [[2, 3, 4] for _ in range(2)]
    shapes_[1][dim] = 6
    x = tensor(r, 1, 2, 6, 8)
    return r.choice(
        [
            (aten.cat.default, [[tensor(r, *s) for s in shapes_], dim]),
            (aten.stack.default, [[tensor(r, 2, 3, 4) for _ in range(3)], r.randint(-4, 3)]),
            (aten.flip.default, [x, [r.randint(-4, 3)]]),
            (aten.clone.default, [x]),
            (aten._to_copy.default, [x]),
            (aten._unsafe_view.default, [torch.empty(4, 6, device="meta"), [2, 12]]),
            (aten.embedding.default, [tensor(r, 9, 4), torch.empty(2, 3, dtype=torch.int64, device="meta")]),
            (aten.max_pool2d_with_indices.default, [x.contiguous(), [2, 2], r.choice(([], [1, 1])), [1, 1]]),
        ]
    )


def same(mine: Any, theirs: Any) -> bool:
    """Equal sizes and dtypes, and equal strides where a dimension has a second element."""
    if isinstance(mine, list):
        return all(same(m, t) for m, t in zip(mine, theirs, strict=True))
    size, stride, dtype = mine
    strides = zip(size, stride, theirs.stride(), strict=True)
    return size == theirs.size() and dtype == theirs.dtype and all(a == b for n, a, b in strides if n > 1)


@pytest.mark.parametrize("make", [elementwise, products, convolutions, norms, movement])
def test_answers_are_torchs(make: Any) -> None:
    r = random.Random(0)
    answered = 0
    for _ in range(400):
        func, args = make(r)
        mine = shapes.guess(func, operator_of(func), args, {})
        if mine is None:
            continue
        answered += 1
        theirs = func(*args)
        assert same(mine, theirs), (str(func), [(a.shape, a.stride()) for a in args if isinstance(a, Tensor)], mine)
    assert answered > 200  # a function that never answers proves nothing


def test_a_channels_last_convolution_stays_so_as_on_a_real_device() -> None:
    x, w = torch.empty(2, 4, 5, 5).to(memory_format=torch.channels_last), torch.empty(6, 4, 3, 3)
    args = [x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1]
    mine = shapes.guess(aten.convolution.default, operator_of(aten.convolution.default), args, {})
    assert same(mine, torch.conv2d(x, w))


def test_batch_norm_in_eval_mode_saves_nothing_as_on_a_real_device() -> None:
    x, c = torch.empty(2, 4, 5, 5), torch.empty(4)
    args = [x, c, c, c, c, False, 0.1, 1e-5]
    mine = shapes.guess(aten.native_batch_norm.default, operator_of(aten.native_batch_norm.default), args, {})
    assert same(mine, aten.native_batch_norm.default(*args))


@pytest.mark.skipif(not hasattr(aten, "_grouped_mm"), reason="this torch has no grouped product")
def test_a_grouped_product_has_the_shape_that_a_cpu_gives_it() -> None:
    a, b = torch.empty(6, 4), torch.empty(2, 4, 8)
    offsets = torch.tensor([3, 6], dtype=torch.int32)
    func = aten._grouped_mm.default
    assert same(shapes.guess(func, operator_of(func), [a, b], {"offs": offsets}), func(a, b, offs=offsets))

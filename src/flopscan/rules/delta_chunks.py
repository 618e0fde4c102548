"""What the chunk kernels of flash-linear-attention multiply for the delta rule: multiply-adds of one chunk and head.

The chunk form solves c steps at once: with A = (I + tril(beta k k^T))^-1 of c by c, w = A (beta k) and u = A (beta v)
stand for all its updates, and the state moves once a chunk. Counted are the products of the kernels (their tl.dot
sites, and contractions that they write out), on the whole tiles that they run, with the last chunk a full one; their
exponentials and other elementwise work on tiles are not. A is made from blocks of 16. Where transformers has no kernels
and runs a body in plain torch, these are what it stands for.
Source: fla-core 0.6.0, fla/ops/{gated_delta_rule, kda, common}, on a device with room for tiles of 128.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.trace import Call

SIZES = (16, 32, 64)
_BLOCK = 16
_TILE = 128


def inverse(c: int) -> int:
    """The inverse of a unit triangular matrix: 14 rows of each diagonal block by substitution, then blocks by products.

    A block at distance d from the diagonal takes d + 1 products of 16 by 16 by 16.
    """
    m = c // _BLOCK
    merges = sum((m - d) * (d + 1) for d in range(1, m))
    return m * (_BLOCK - 2) * _BLOCK**2 + merges * _BLOCK**3


def gated_forward(c: int, k: Any, v: Any, call: Call) -> Any:
    """3ckv through the state; k k^T, w and q k^T are c*c*k each, u and the read-out c*c*v, and the inverse.

    At c = 64 only the blocks on and below the diagonal of k k^T are made; q k^T is made again for each tile of v.
    """
    m = c // _BLOCK
    pairs = m * (m + 1) // 2 * _BLOCK**2 if c == 64 else c * c
    return 3 * c * k * v + pairs * k + c * c * (k * (1 + -(-v // _TILE)) + 2 * v) + inverse(c)


def gated_backward(c: int, k: Any, v: Any, call: Call) -> Any:
    """8ckv: 2 for the states again, 3 for their adjoint, 3 for q, k and w; 9c*c*k and 5c*c*v within chunks; 2c^3.

    One of the 5 is made again for each tile of k; 2c^3 is the gradient of the inverse, A^T dA A^T.
    """
    return 8 * c * k * v + c * c * (9 * k + (4 + -(-k // _TILE)) * v) + 2 * c**3


def kda_forward(c: int, k: Any, v: Any, call: Call) -> Any:
    """As the gated form, but with a decay a channel q k^T and k k^T are made block by block, each with its own decays.

    Blocks on the diagonal pair each step with those up to it, or are products of 16 by 16 where the gate is safe.
    """
    m = c // _BLOCK
    diagonal = _BLOCK**2 if call.get("safe_gate") else _BLOCK * (_BLOCK + 1) // 2
    scores = 2 * k * (m * (m - 1) // 2 * _BLOCK**2 + m * diagonal)
    return 3 * c * k * v + scores + c * c * (k + 2 * v) + inverse(c)


def kda_backward(c: int, k: Any, v: Any, call: Call) -> Any:
    """8ckv as the gated form; 3c*c*k and 5c*c*v within chunks; the scores' gradients block by block; 2c^3.

    Each of the two score matrices gives to rows and to columns. What the forward kept is not made again.
    """
    m = c // _BLOCK
    scores = 4 * k * m * (m + 1) // 2 * _BLOCK**2
    kept = c * c * (k + v) + 2 * c * k * v if call.get("disable_recompute") else 0
    return 8 * c * k * v + scores + c * c * (3 * k + 5 * v) + 2 * c**3 - kept

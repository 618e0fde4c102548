"""The formulas for training a language model, from a trace of its forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import flopscan
import torchvision_operators
from flopscan.errors import UsageError

WORDS, WIDTH, HEADS, TOKENS = 50, 16, 4, (2, 12)


class Layer(nn.Module):
    """Attention with keys of 4 and values of 6 a head."""

    def __init__(self, written: bool) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(WIDTH, HEADS * 4, bias=False), nn.Linear(WIDTH, HEADS * 4, bias=False)
        self.v, self.o = nn.Linear(WIDTH, HEADS * 6, bias=False), nn.Linear(HEADS * 6, WIDTH, bias=False)
        self.written = written

    def forward(self, x: Tensor) -> Tensor:
        """All heads over all pairs."""
        b, n, _ = x.shape
        q, k, v = (y(x).view(b, n, HEADS, -1).transpose(1, 2) for y in (self.q, self.k, self.v))
        y = (q @ k.mT).softmax(-1) @ v if self.written else F.scaled_dot_product_attention(q, k, v)
        return x + self.o(y.transpose(1, 2).reshape(b, n, -1))


class Router(nn.Module):
    """Who takes which token."""

    def __init__(self) -> None:
        super().__init__()
        self.top_k, self.num_experts = 2, 8
        self.weight = nn.Parameter(torch.zeros(8, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        return F.linear(x, self.weight)


class Experts(nn.Module):
    """Eight matrices, of which a token meets two; here all of them, for the shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """The first one."""
        return x @ self.weight[0]


class Model(nn.Module):
    """Two layers between an embedding and a head."""

    def __init__(self, *, written: bool = False, tied: bool = False, experts: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer(written) for _ in range(2))
        self.router, self.experts = (Router(), Experts()) if experts else (None, None)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Scores of the next word."""
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        if self.router is not None and self.experts is not None:
            x = x + self.experts(x) * self.router(x).mean(-1, keepdim=True)
        return self.head(x)


IN_LAYERS = 2 * WIDTH * HEADS * (4 + 4 + 6 + 6)
TABLE = WORDS * WIDTH
PAIRS = 2 * 2 * HEADS * 12 * 12  # layers, sequences, heads, positions squared


def counted(**options: Any) -> flopscan.Report:
    return flopscan.count(Model(**options), torch.zeros(TOKENS, dtype=torch.int64))


@pytest.mark.parametrize("written", [False, True])
def test_a_dense_model(written: bool) -> None:
    report = counted(written=written)
    assert report.params == IN_LAYERS + 2 * TABLE
    assert report.under("6nd") == 6 * 24 * (IN_LAYERS + 2 * TABLE)
    assert report.under("palm") == 6 * 24 * (IN_LAYERS + 2 * TABLE) + 12 * PAIRS * 4
    assert report.under("torchtitan") == 6 * 24 * (IN_LAYERS + TABLE) + 6 * PAIRS * (4 + 6)
    assert report.under("hf-trainer") == 6 * 24 * (IN_LAYERS + TABLE)


def test_a_head_that_shares_the_embedding_is_left_out_with_it() -> None:
    report = counted(tied=True)
    assert report.under("6nd") == 6 * 24 * (IN_LAYERS + TABLE)
    assert report.under("hf-trainer") == 6 * 24 * IN_LAYERS


def test_of_experts_torchtitan_counts_those_that_are_chosen() -> None:
    report = counted(experts=True)
    more = 8 * WIDTH + 8 * WIDTH * WIDTH
    assert report.under("hf-trainer") == 6 * 24 * (IN_LAYERS + TABLE + more)
    active = 8 * WIDTH + 2 * WIDTH * WIDTH
    assert report.under("torchtitan") == 6 * 24 * (IN_LAYERS + TABLE + active) + 6 * PAIRS * (4 + 6)


def test_modules_add_up_to_the_total() -> None:
    report = counted().using("palm")
    rows = report.by_module()
    assert rows[""].value == report.value == sum(row.own for row in rows.values())
    assert rows["layers.0"].value == (6 * 24 * IN_LAYERS + 12 * PAIRS * 4) // 2
    assert rows["embedding"].value == 6 * 24 * TABLE


@pytest.mark.parametrize("name", ["6nd", "palm", "torchtitan"])
def test_a_model_without_tokens_has_no_such_number(name: str) -> None:
    report = flopscan.count(nn.Linear(3, 4), (2, 3))
    with pytest.raises(UsageError, match=f"^{name} is a formula for language models, in parameters and tokens; exp"):
        report.under(name)


def test_the_trainer_takes_any_first_operand_for_tokens() -> None:
    assert flopscan.count(nn.Linear(3, 4), (2, 3)).under("hf-trainer") == 6 * (2 * 3) * (3 * 4 + 4)
    with pytest.raises(UsageError, match="expected a module called with one"):
        flopscan.count(torch.relu, (2, 3)).under("hf-trainer")


@pytest.mark.peers
@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "qwen2_moe", "mamba", "mamba2"])
def test_the_trainers_own_number(name: str) -> None:
    torchvision_operators.defined()
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from transformers import Trainer

    from conventions import small_models

    wrapped, (ids,) = small_models.made(name)
    model = wrapped.model
    trainer = Trainer.__new__(Trainer)
    trainer.model = model
    assert flopscan.count(model, input_ids=ids).under("hf-trainer") == trainer.floating_point_ops({"input_ids": ids})

"""Language models of transformers from their default configs, 1 x 128 tokens: derived totals, nothing uncounted."""

from __future__ import annotations

import pytest

import flopscan
from flopscan import conventions

pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

TOKENS = 128
PAIRS = TOKENS * (TOKENS + 1) // 2  # query-key pairs that a causal mask leaves


def test_gpt2() -> None:
    # 12 layers of 12 d^2 a token in the linears, 12 heads over the causal pairs, and the head of 50,257 words
    d = 768
    report = flopscan.count("hf:gpt2", strict=True)
    assert report.macs == 12 * (12 * d * d * TOKENS + 12 * PAIRS * 2 * 64) + d * 50_257 * TOKENS
    assert report.params == 124_439_808
    assert report.ledger.executed().fma - report.macs == 12 * 12 * (TOKENS**2 - PAIRS) * 2 * 64


def test_gpt2_on_a_cpu_is_the_same() -> None:
    options = {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 100}
    on_shapes = flopscan.count("hf:gpt2", options=options, strict=True)
    for_real = flopscan.count("hf:gpt2", options=options, run=True, strict=True)
    assert on_shapes.macs == for_real.macs
    assert "flopscan::scaled_dot_product_attention" in for_real.by_operator()


def test_llama() -> None:
    # grouped heads: 4 of 16 query heads share one of 4 key heads; queries and outputs d*d, keys and values d*256
    d, f, heads, size, kv = 1024, 2816, 16, 64, 4
    options = {
        "hidden_size": d, "intermediate_size": f, "num_hidden_layers": 3, "num_attention_heads": heads,
        "num_key_value_heads": kv, "vocab_size": 1000, "head_dim": size,
    }  # fmt: skip
    layer = TOKENS * (2 * d * d + 2 * d * kv * size + 3 * d * f) + heads * PAIRS * 2 * size
    assert flopscan.count("hf:llama", options=options, strict=True).macs == 3 * layer + TOKENS * d * 1000


def test_bert() -> None:
    # no causal mask: all pairs; the masked-word head has a transform of d*d
    d = 768
    report = flopscan.count("hf:bert", strict=True)
    layer = 12 * d * d * TOKENS + 12 * TOKENS**2 * 2 * 64
    assert report.macs == 12 * layer + TOKENS * (d * d + d * 30_522)


def test_qwen2_moe() -> None:
    # of 60 experts each token takes 4, and a shared one of 5,632; router 60, shared gate 1
    d, layers, expert, shared, vocab = 2048, 2, 1408, 5632, 1000
    options = {"num_hidden_layers": layers, "vocab_size": vocab}
    report = flopscan.count("hf:qwen2_moe", options=options, strict=True)
    attention = TOKENS * 4 * d * d + 16 * PAIRS * 2 * 128
    mixture = TOKENS * (60 * d + 4 * 3 * d * expert + 3 * d * shared + d)
    assert report.macs == layers * (attention + mixture) + TOKENS * d * vocab


def test_mamba_is_counted_by_its_scan_and_not_by_the_loop_that_stands_for_it() -> None:
    options = {"num_hidden_layers": 2, "vocab_size": 1000}
    report = flopscan.count("hf:mamba", options=options, strict=True)
    # in_proj d*2D, x_proj D*(R+2N), dt_proj R*D, out_proj D*d, convolution D*4 a token; two multiply-adds a state
    d, inner, rank, state = 768, 1536, 48, 16
    linear = d * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * d
    assert report.macs == TOKENS * (2 * (linear + inner * 4 + 2 * inner * state) + d * 1000)
    assert report.scan is not None
    assert report.scan.shapes == (f"2 x b=1 d={inner} l={TOKENS} n={state}",)


def test_a_loop_run_for_real_is_the_scan_too() -> None:
    options = {"num_hidden_layers": 1, "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64}
    tokens = flopscan.shape(1, 16, dtype="int64")
    on_shapes, run = (
        flopscan.count("hf:mamba", tokens, options=options, strict=True, run=really) for really in (False, True)
    )
    differ = [name for name in conventions.names() if on_shapes.under(name) != run.under(name)]
    assert not differ
    assert {r for r in run.by_operator() if r.startswith("flopscan::")} == {
        "flopscan::selective_scan", "flopscan::causal_conv1d",
    }  # fmt: skip


@pytest.mark.parametrize("target", ["hf:resnet", "hf:vit", "hf:swin", "hf:convnext", "hf:t5", "hf:mamba2", "hf:clip"])
def test_nothing_is_uncounted_forward(target: str) -> None:
    options = {"num_hidden_layers": 2} if target == "hf:mamba2" else {}
    assert flopscan.count(target, options=options, strict=True).flops > 0


@pytest.mark.parametrize("target", ["hf:resnet", "hf:vit", "hf:swin", "hf:gpt2", "hf:bert", "hf:llama"])
def test_nothing_is_uncounted_in_training(target: str) -> None:
    options = {"num_hidden_layers": 2} if target == "hf:llama" else {}
    report = flopscan.count(target, options=options, backward=True, training=True)
    assert report.uncounted == ()
    assert report.by_phase()["backward"].macs >= 1.9 * report.by_phase()["forward"].macs


def test_deberta_looks_at_no_value() -> None:
    options = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 96}
    on_shapes = flopscan.count("hf:deberta-v2", options={**options, "vocab_size": 100}, strict=True)
    for_real = flopscan.count("hf:deberta-v2", options={**options, "vocab_size": 100}, strict=True, run=True)
    assert on_shapes.macs == for_real.macs > TOKENS * (4 * 64 * 64 + 2 * 64 * 96)

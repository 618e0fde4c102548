"""Whole models on which the counters that hook modules and patch functions are compared with flopscan, made small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from conventions.mamba_vision import mamba_vision
from flopscan.models import vmamba
from flopscan.testing.nets import ResNet50, ViT

Made = tuple[nn.Module, Tensor]


def tokens(count: int = 20) -> Tensor:
    """Two sentences of word numbers."""
    return (torch.arange(2 * count) % 90).reshape(2, count)


def image(size: int, batch: int = 2) -> Tensor:
    """Images of noise."""
    return torch.randn(batch, 3, size, size)


def of_transformers(config: str, model: str, **options: Any) -> nn.Module:
    """A model of transformers from a configuration, with random weights and without a cache."""
    import transformers

    made = getattr(transformers, config)(**options)
    if hasattr(made, "use_cache"):
        made.use_cache = False
    return getattr(transformers, model)(made)


def _swin() -> Made:
    options = {"image_size": 64, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
    return of_transformers("SwinConfig", "SwinForImageClassification", **options), image(64)


def _convnext() -> Made:
    options = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
    return of_transformers("ConvNextConfig", "ConvNextForImageClassification", **options), image(64)


def _gpt2() -> Made:
    options = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 97, "n_positions": 64}
    return of_transformers("GPT2Config", "GPT2LMHeadModel", **options), tokens()


def _bert() -> Made:
    options = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return of_transformers("BertConfig", "BertForMaskedLM", vocab_size=97, **options), tokens()


_LLAMA = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 97,
}  # fmt: skip


def _llama() -> Made:
    return of_transformers("LlamaConfig", "LlamaForCausalLM", **_LLAMA), tokens()


def _qwen() -> Made:
    experts = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 40, "num_experts": 6}
    return of_transformers(
        "Qwen2MoeConfig", "Qwen2MoeForCausalLM", num_experts_per_tok=2, **experts, **_LLAMA
    ), tokens()


def _mamba() -> Made:
    options = {"hidden_size": 24, "num_hidden_layers": 2, "state_size": 8, "vocab_size": 97}
    return of_transformers("MambaConfig", "MambaForCausalLM", **options), tokens()


def _mamba2() -> Made:
    options = {"hidden_size": 24, "state_size": 8, "num_heads": 6, "head_dim": 8, "n_groups": 2, "chunk_size": 8}
    return of_transformers("Mamba2Config", "Mamba2ForCausalLM", num_hidden_layers=2, vocab_size=97, **options), tokens()


def _qwen3_next() -> Made:
    linear = {f"linear_{kind}_head_dim": 8 for kind in ("key", "value")}
    heads = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "head_dim": 8, "num_experts": 4}
    options = {**_LLAMA, **linear, **heads, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
    kinds = {"layer_types": ["linear_attention", "full_attention"], "num_experts_per_tok": 2}
    return of_transformers("Qwen3NextConfig", "Qwen3NextForCausalLM", **options, **kinds), tokens(70)


MODELS: dict[str, Callable[[], Made]] = {
    "ResNet-50": lambda: (ResNet50(), image(64)),
    "ViT-B, 2 blocks": lambda: (ViT(depth=2), image(224, 1)),
    "Swin": _swin,
    "ConvNeXt": _convnext,
    "MambaVision-T": lambda: (mamba_vision(), image(64)),
    "VMamba-T": lambda: (vmamba.build("vmamba_tiny", fused=False), image(64)),
    "VMamba-T v0": lambda: (vmamba.build("vmamba_tiny_v0", fused=False), image(32)),
    "GPT-2": _gpt2,
    "BERT": _bert,
    "Llama": _llama,
    "Qwen2-MoE": _qwen,
    "Mamba": _mamba,
    "Mamba-2": _mamba2,
    "Qwen3-Next": _qwen3_next,
}
IN_PLAIN_TORCH = ("ResNet-50", "ViT-B, 2 blocks", "MambaVision-T", "VMamba-T", "VMamba-T v0")

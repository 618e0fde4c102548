"""Whole models small enough to run in seconds, for tools that run what they count. One that is not installed skips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchvision_operators
from conventions import module_level_models
from conventions.mamba_vision import mamba_vision
from flopscan.models import vmamba
from flopscan.testing.nets import ResNet50, ViT


class Logits(nn.Module):
    """A model of transformers that takes one tensor by position and gives one."""

    def __init__(self, model: Any, name: str = "input_ids", **options: Any) -> None:
        super().__init__()
        self.model, self.name, self.options = model, name, options

    def forward(self, given: Tensor) -> Tensor:
        """The first result."""
        return self.model(**{self.name: given}, **self.options)[0]


def _language(model: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        transformers = pytest.importorskip("transformers")
        sizes = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
        return Logits(getattr(transformers, model)(getattr(transformers, config)(**sizes, **options)), use_cache=False)

    return make


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: pytest.importorskip("timm").create_model(name, **options)


_HEADS = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
IMAGES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet50": (ResNet50, 64),
    "vit_b": (lambda: ViT(depth=2), 224),
    "swin_t": (_timm("swin_tiny_patch4_window7_224", img_size=56), 56),
    "convnext_t": (_timm("convnext_tiny"), 64),
    "swin": (lambda: Logits(module_level_models.MODELS["Swin"]()[0], "pixel_values"), 64),
    "convnext": (lambda: Logits(module_level_models.MODELS["ConvNeXt"]()[0], "pixel_values"), 64),
    "mambavision_t": (mamba_vision, 64),
    "vmamba_t": (lambda: vmamba.build("vmamba_tiny", fused=False), 64),
}
TOKENS: dict[str, Callable[[], nn.Module]] = {
    "gpt2": _language("GPT2LMHeadModel", "GPT2Config", n_layer=2, n_embd=32, n_head=4),
    "bert": _language("BertModel", "BertConfig", **_HEADS),
    "llama": _language("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2, head_dim=8, **_HEADS),
    "qwen2_moe": _language(
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig", num_key_value_heads=4, num_experts=8, num_experts_per_tok=2,
        moe_intermediate_size=16, shared_expert_intermediate_size=24, **_HEADS,
    ),
    "mamba": _language("MambaForCausalLM", "MambaConfig", hidden_size=32, num_hidden_layers=2, state_size=8),
    "mamba2": _language(
        "Mamba2ForCausalLM", "Mamba2Config", hidden_size=32, num_hidden_layers=2, state_size=8, head_dim=16,
        num_heads=4, n_groups=1, chunk_size=8,
    ),
}  # fmt: skip
MODELS = (*IMAGES, *TOKENS)


def made(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model in eval mode and an input for it."""
    torchvision_operators.defined()
    if name in IMAGES:
        if name in ("swin", "convnext"):
            pytest.importorskip("transformers")
        make, size = IMAGES[name]
        return make().eval(), (torch.rand(1, 3, size, size),)
    return TOKENS[name]().eval(), (torch.arange(24).reshape(1, 24),)

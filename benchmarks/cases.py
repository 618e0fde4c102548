"""The models that counting is measured on, each with its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flopscan.models import vmamba
from flopscan.ops.selective_scan import reference
from flopscan.testing import nets


@dataclass(frozen=True)
class Case:
    """A model, what its input is called, its shape and dtype, and the packages that it needs."""

    name: str
    title: str
    build: Callable[[], Any]
    input: tuple[str, tuple[int, ...], str] = ("x", (1, 3, 224, 224), "float32")
    modules: tuple[str, ...] = ()


def llama(**sizes: int) -> Any:
    """A Llama with grouped-query attention and the vocabulary of Llama 3."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=128256, num_key_value_heads=8, max_position_embeddings=8192, **sizes)
    config.use_cache = False
    return LlamaForCausalLM(config)


def gpt2() -> Any:
    """GPT-2, the small one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(use_cache=False))


def mamba() -> Any:
    """Mamba-130m, which transformers runs as a loop where no CUDA kernel is installed."""
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(
        MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16, use_cache=False)
    )


def unrolled_vmamba() -> Any:
    """VMamba-T whose scan is a loop in plain torch, so that every tool sees what happens in it."""
    vmamba.selective_scan = reference.selective_scan
    return vmamba.build("vmamba_tiny", fused=False)


def _tokens(n: int) -> tuple[str, tuple[int, ...], str]:
    return "input_ids", (1, n), "int64"


CASES = (
    Case("resnet50", "ResNet-50", nets.ResNet50),
    Case("vit_b", "ViT-B/16", nets.ViT),
    Case("vmamba_tiny", "VMamba-T, scan as one operator", lambda: vmamba.build("vmamba_tiny", fused=False)),
    Case("vmamba_tiny_unrolled", "VMamba-T, scan in plain torch", unrolled_vmamba),
    Case("gpt2", "GPT-2, 128 tokens", gpt2, _tokens(128), ("transformers.models.gpt2.modeling_gpt2",)),
    Case("mamba_130m", "Mamba-130m, 128 tokens", mamba, _tokens(128), ("transformers.models.mamba.modeling_mamba",)),
    Case(
        "llama_8b",
        "Llama, 32 layers, 8 B, 2,048 tokens",
        lambda: llama(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32),
        _tokens(2048),
        ("transformers.models.llama.modeling_llama",),
    ),
    Case(
        "llama_405b",
        "Llama, 126 layers, 405 B, 2,048 tokens",
        lambda: llama(hidden_size=16384, intermediate_size=53248, num_hidden_layers=126, num_attention_heads=128),
        _tokens(2048),
        ("transformers.models.llama.modeling_llama",),
    ),
)

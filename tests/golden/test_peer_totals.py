"""What the real tools printed on ten whole models, and our conventions to the unit, on shapes.

`data/peer_totals.json` holds model -> definition and tool -> number; a tool that failed has no number there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import flopscan
import torchvision_operators
from flopscan.capture.build import without_weights
from golden.columns import TOTALS

pytestmark = pytest.mark.peers

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "peer_totals.json").read_text())["models"]
DECLARED = {  # (model, tool): how much more the tool prints, for sums and products of sizes, which no trace has
    ("mamba2_130m", "torchprofile 0.1.0"): 24,  # handlers.py, _mul: one in each of 24 layers
    ("llama1b", "torchprofile 0.1.0"): 32,  # the same: heads times repeats, for keys and values in 16 layers
    ("vit_b", "torch_flops 0.4.1"): 2,  # flops_ops.py, FunctionFLOPs_elemwise: the comparisons of the image's size
    ("swin_t", "torch_flops 0.4.1"): 26,  # the same: the arithmetic of paddings and windows
}


def _language(model: str, config: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        transformers = pytest.importorskip("transformers")
        return getattr(transformers, model)(getattr(transformers, config)(**options))

    return make


def _timm(name: str) -> Callable[[], Any]:
    def make() -> Any:
        return pytest.importorskip("timm").create_model(name)

    return make


MODELS: dict[str, Callable[[], Any]] = {
    "mamba130m": _language(
        "MambaForCausalLM", "MambaConfig", vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16,
        use_cache=False,
    ),
    "mamba2_130m": _language(
        "Mamba2ForCausalLM", "Mamba2Config", vocab_size=50288, hidden_size=768, num_hidden_layers=24, state_size=128,
        head_dim=64, num_heads=24, n_groups=1, chunk_size=256, use_cache=False,
    ),
    "gpt2": _language("GPT2LMHeadModel", "GPT2Config", use_cache=False),
    "bert": _language("BertModel", "BertConfig"),
    "qwen2moe": _language(
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig", vocab_size=32000, hidden_size=512, intermediate_size=1408,
        moe_intermediate_size=352, shared_expert_intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=8, num_experts=16, num_experts_per_tok=4, use_cache=False,
    ),
    "llama1b": _language(
        "LlamaForCausalLM", "LlamaConfig", vocab_size=128256, hidden_size=2048, intermediate_size=8192,
        num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
        max_position_embeddings=131072, tie_word_embeddings=True, use_cache=False,
    ),
    "vit_b": _timm("vit_base_patch16_224"),
    "swin_t": _timm("swin_tiny_patch4_window7_224"),
    "convnext_t": _timm("convnext_tiny"),
    "resnet50": lambda: pytest.importorskip("torchvision").models.resnet50(),
}  # fmt: skip


@functools.cache
def counted(name: str) -> flopscan.Report:
    """The model as the file defines it, 1x128 tokens or 1x3x224x224."""
    torchvision_operators.defined()
    with without_weights():
        model = MODELS[name]().eval()
    if hasattr(model, "get_input_embeddings") and hasattr(model, "config"):
        return flopscan.count(model, input_ids=torch.zeros(1, 128, dtype=torch.int64))
    return flopscan.count(model, (1, 3, 224, 224))


CASES = [
    (name, tool, number)
    for name, model in GOLDEN.items()
    for tool, said in model["tools"].items()
    for number in ("value", "macs")
    if said.get(number) is not None
]


@pytest.mark.parametrize(("name", "tool", "number"), CASES)
def test_the_total_is_the_tools(name: str, tool: str, number: str) -> None:
    printed = int(GOLDEN[name]["tools"][tool][number]) - DECLARED.get((name, tool), 0)
    assert counted(name).under(TOTALS[tool][number]) == printed


@pytest.mark.parametrize("name", GOLDEN)
def test_the_model_is_the_same(name: str) -> None:
    assert counted(name).params == GOLDEN[name]["params"]


def test_a_declared_difference_is_one_that_is_printed() -> None:
    assert set(DECLARED) <= {(name, tool) for name, tool, _ in CASES}

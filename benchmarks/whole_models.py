"""Twelve models of the field at full size, as their libraries make them: factories for ``flopscan compare --tools``.

    flopscan compare benchmarks/whole_models.py:swin_t --input 1x3x224x224 --tools all

With random weights, from their configuration; INPUTS are what they are counted on. timm, torchvision and mambavision
are in the folder `vision` of `make test-peers`; no CUDA kernel is needed: VMamba's and MambaVision's scan is flopscan's
operator, which to any other counter is what a compiled kernel is, one operator without a formula.
"""

from __future__ import annotations

import functools
from typing import Any

import torchvision_operators

IMAGE, TOKENS = "1x3x224x224", "1x128:int64"
INPUTS = {
    "resnet50": IMAGE, "vit_b": IMAGE, "swin_t": IMAGE, "convnext_t": IMAGE, "vmamba_t": IMAGE, "mambavision_t": IMAGE,
    "gpt2": TOKENS, "bert": TOKENS, "llama": TOKENS, "qwen2_moe": TOKENS, "mamba": TOKENS, "mamba2": TOKENS,
}  # fmt: skip
TITLES = {
    "resnet50": "ResNet-50", "vit_b": "ViT-B/16", "swin_t": "Swin-T", "convnext_t": "ConvNeXt-T",
    "vmamba_t": "VMamba-T", "mambavision_t": "MambaVision-T", "gpt2": "GPT-2", "bert": "BERT", "llama": "Llama, 1 B",
    "qwen2_moe": "Qwen2-MoE", "mamba": "Mamba, 130 M", "mamba2": "Mamba-2, 130 M",
}  # fmt: skip

_SIZES = "products of sizes in Python, of tensors of one element to torch.jit: torchprofile/handlers.py, _mul"
_NODES = "sums, products and comparisons of sizes, nodes to fx: torch_flops/flops_ops.py, FunctionFLOPs_elemwise"
_FOLDED = "a node each, which torch's exporter does not fold: onnx_tool/node.py"
# (model, convention): how much more the counter says, which a trace cannot tell, and the line that it comes from
DECLARED = {
    ("llama", "torchprofile"): (32, f"heads times repeats, for keys and values in each of 16 layers: {_SIZES}"),
    ("mamba2", "torchprofile"): (24, f"one in each of 24 layers: {_SIZES}"),
    ("mambavision_t", "torchprofile"): (36, f"windows and their sizes: {_SIZES}"),
    ("vit_b", "torch-flops"): (2, f"the image's size is compared with the model's: {_NODES}"),
    ("swin_t", "torch-flops"): (26, f"the arithmetic of paddings and windows: {_NODES}"),
    ("vit_b", "onnx-tool"): (6, f"the arithmetic of sizes, {_FOLDED}"),
    ("swin_t", "onnx-tool"): (15, f"the arithmetic of paddings and windows, {_FOLDED}"),
    ("bert", "onnx-tool"): (
        8 - 12 * 76,
        f"the arithmetic of sizes, {_FOLDED}; the scale of attention is one constant in each of 12 layers",
    ),
    ("mamba", "onnx-tool"): (24 * 7, f"where a layer's channels are halved, {_FOLDED}"),
}


@functools.cache
def counted(name: str) -> Any:
    """flopscan's report of the model called ``name``, on shapes. Raises ImportError where its library is missing."""
    import flopscan
    from flopscan.capture import arguments
    from flopscan.capture.build import without_weights

    (given,), _ = arguments.inputs((INPUTS[name],))
    with without_weights():
        model = globals()[name]().eval()
    return flopscan.count(model, given)


def _timm(name: str) -> Any:
    torchvision_operators.defined()
    import timm

    return timm.create_model(name)


def resnet50() -> Any:
    """torchvision's."""
    torchvision_operators.defined()
    import torchvision

    return torchvision.models.resnet50()


def vit_b() -> Any:
    """timm's ViT-B with patches of 16."""
    return _timm("vit_base_patch16_224")


def swin_t() -> Any:
    """timm's Swin-T, windows of 7."""
    return _timm("swin_tiny_patch4_window7_224")


def convnext_t() -> Any:
    """timm's ConvNeXt-T."""
    return _timm("convnext_tiny")


def vmamba_t() -> Any:
    """VMamba-T, the form of 4.9 G."""
    torchvision_operators.defined()  # for the tools that import it
    from flopscan.models import vmamba

    return vmamba.build("vmamba_tiny", fused=False)  # in its parts, as the authors' code runs it


def mambavision_t() -> Any:
    """NVIDIA's MambaVision-T, its scan as one operator."""
    torchvision_operators.defined()
    import flopscan
    from flopscan.ops import selective_scan

    with flopscan.stand_ins():
        from mambavision.models import mamba_vision
    mamba_vision.selective_scan_fn = lambda *operands, return_last_state=None, **named: selective_scan(
        *operands, **named
    )
    return mamba_vision.mamba_vision_T()


def _language(model: str, config: str, **options: Any) -> Any:
    torchvision_operators.defined()  # transformers looks at it where it is there
    import transformers

    return getattr(transformers, model)(getattr(transformers, config)(use_cache=False, **options))


def gpt2() -> Any:
    """The small one."""
    return _language("GPT2LMHeadModel", "GPT2Config")


def bert() -> Any:
    """The base one, without a head."""
    return _language("BertModel", "BertConfig")


def llama() -> Any:
    """The sizes of Llama 3.2 1B."""
    return _language(
        "LlamaForCausalLM", "LlamaConfig", vocab_size=128256, hidden_size=2048, intermediate_size=8192,
        num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
        max_position_embeddings=131072, tie_word_embeddings=True,
    )  # fmt: skip


def qwen2_moe() -> Any:
    """A small mixture: 8 layers of 16 experts, 4 of them a token."""
    return _language(
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig", vocab_size=32000, hidden_size=512, intermediate_size=1408,
        moe_intermediate_size=352, shared_expert_intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=8, num_experts=16, num_experts_per_tok=4,
    )  # fmt: skip


def mamba() -> Any:
    """Mamba-130m, which transformers runs as a loop where there is no kernel."""
    return _language(
        "MambaForCausalLM", "MambaConfig", vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16
    )


def mamba2() -> Any:
    """Mamba-2 130m, in chunks of 256."""
    return _language(
        "Mamba2ForCausalLM", "Mamba2Config", vocab_size=50288, hidden_size=768, num_hidden_layers=24, state_size=128,
        head_dim=64, num_heads=24, n_groups=1, chunk_size=256,
    )  # fmt: skip

"""hf: targets: from a model type, a folder or a name to a model on its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flopscan.capture import targets
from flopscan.core.trace import TensorSpec
from flopscan.errors import FlopscanError, UsageError

pytestmark = pytest.mark.peers
transformers = pytest.importorskip("transformers")
TOKENS = {"input_ids": TensorSpec((1, 128), "int64")}
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def build(name: str, **options: Any) -> targets.Target:
    return targets.build(name, options, with_weights=False)


@pytest.mark.parametrize(
    ("name", "options", "model", "inputs"),
    [
        ("gpt2", {"n_layer": 1}, "GPT2LMHeadModel", TOKENS),
        (
            "gpt2",
            {"num_hidden_layers": 1, "n_positions": 64},
            "GPT2LMHeadModel",
            {"input_ids": TensorSpec((1, 64), "int64")},
        ),
        ("llama", SMALL, "LlamaForCausalLM", TOKENS),
        ("mamba", {"num_hidden_layers": 1}, "MambaForCausalLM", TOKENS),
        ("bert", SMALL, "BertForMaskedLM", TOKENS),
        ("bert", {**SMALL, "is_decoder": True}, "BertLMHeadModel", TOKENS),
        ("t5", {"num_layers": 1}, "T5ForConditionalGeneration", {**TOKENS, "decoder_input_ids": TOKENS["input_ids"]}),
        ("vit", {**SMALL, "image_size": 64}, "ViTForImageClassification", {"pixel_values": TensorSpec((1, 3, 64, 64))}),
        ("sam2", {}, "Sam2Model", {"pixel_values": TensorSpec((1, 3, 1024, 1024))}),
        ("videomae", SMALL, "VideoMAEModel", {"pixel_values": TensorSpec((1, 16, 3, 224, 224))}),
        ("wav2vec2", SMALL, "Wav2Vec2Model", {"input_values": TensorSpec((1, 16_000))}),
        ("encodec", {}, "EncodecModel", {"input_values": TensorSpec((1, 1, 24_000))}),
        ("audio-spectrogram-transformer", SMALL, "ASTModel", {"input_values": TensorSpec((1, 1024, 128))}),
    ],
)
def test_model_types(name: str, options: dict[str, Any], model: str, inputs: dict[str, TensorSpec]) -> None:
    target = build(f"hf:{name}", **options)
    assert type(target.model).__name__ == model
    assert target.args == () and target.kwargs == inputs
    assert all(p.is_meta for p in target.model.parameters())
    assert not getattr(target.model.config, "use_cache", False)


def test_a_folder_names_its_architecture(tmp_path: Path) -> None:
    config = transformers.BertConfig(**SMALL, architectures=["BertForSequenceClassification"])
    config.save_pretrained(tmp_path)
    target = build(f"hf:{tmp_path}", hidden_act="relu")
    assert type(target.model).__name__ == "BertForSequenceClassification" and target.model.config.hidden_act == "relu"


def test_a_folder_without_or_with_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^the folder {tmp_path} has no config.json; expected one as save_pretrained"):
        build(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{ not json")
    with pytest.raises(FlopscanError, match=f"^cannot read the configuration of {tmp_path}: "):
        build(f"hf:{tmp_path}")


def test_options_that_the_configuration_does_not_have() -> None:
    with pytest.raises(UsageError) as raised:
        build("hf:llama", num_hidden_layer=2)
    assert str(raised.value).startswith(
        "the configuration of llama has no 'num_hidden_layer'; did you mean num_hidden_layers or "
    )


def test_a_name_that_is_no_type_where_there_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError) as raised:
        build("hf:gpt22")
    text = str(raised.value)
    assert text.startswith(
        f"'gpt22' is no model type of transformers {transformers.__version__} and no folder here, and"
    )
    assert "the hub cannot be reached; did you mean gpt2 or " in text

"""Models of transformers, made from their configuration, and an input that they take. Weights are never read."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from flopscan.capture.factories import made
from flopscan.capture.libraries import Made, near, needed
from flopscan.core.trace import TensorSpec
from flopscan.errors import FlopscanError, UsageError

TOKENS = 128
_RATE = 16_000  # samples a second, where the configuration of a model of speech does not say
# looks for padding among the tokens, which have no values here, only to warn of it
_ASKS_FOR_VALUES = "warn_if_padding_and_no_attention_mask"
_DECODERS = ("AutoModelForCausalLM", "AutoModelForMaskedLM")
_TASKS = ("AutoModelForSeq2SeqLM", "AutoModelForSpeechSeq2Seq", "AutoModelForImageClassification", "AutoModel")


def build(name: str, options: Mapping[str, Any]) -> Made:
    """The model of a type, folder or hub id, its configuration changed by ``options``, with a default input."""
    transformers: Any = needed("transformers", "hf")
    config = _configured(name, _config(transformers, name), {"use_cache": False, **options}, required=set(options))
    model = made(f"hf:{name}", lambda: _model(transformers, config), {})
    for module in model.modules():
        if hasattr(module, _ASKS_FOR_VALUES):
            setattr(module, _ASKS_FOR_VALUES, lambda *operands, **named: None)
    return model, (), _inputs(model, config)


def _config(transformers: Any, name: str) -> Any:
    """The configuration of a folder, of a model type with its defaults, or of a hub id."""
    known = transformers.CONFIG_MAPPING
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise UsageError(f"the folder {name} has no config.json; expected one as save_pretrained writes it")
    elif name in known:
        return made(f"hf:{name}", known[name], {})
    elif not _cached_or_reachable(transformers, name):
        raise UsageError(
            f"{name!r} is no model type of transformers {transformers.__version__} and no folder here, and the hub"
            f" cannot be reached; {near(name, known.keys())}"
        )
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise FlopscanError(f"cannot read the configuration of {name}: {text}; {near(name, known.keys())}") from error


def _cached_or_reachable(transformers: Any, name: str) -> bool:
    """Whether a hub id can be looked up; asked first, since the hub's client retries for half a minute."""
    try:
        transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=True)
        return True
    except (OSError, ValueError):
        pass
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=3).close()
    except OSError:
        return False
    return True


def _configured(name: str, config: Any, options: Mapping[str, Any], *, required: set[str]) -> Any:
    """``config`` with ``options`` set; a key that it does not have is an error, as a typing mistake would be silent."""
    for key, value in options.items():
        if hasattr(config, key):
            setattr(config, key, value)
        elif key in required:
            raise UsageError(f"the configuration of {name} has no {key!r}; {near(key, config.to_dict())}")
    return config


def _model(transformers: Any, config: Any) -> Any:
    """The model class that the configuration names, or else the first auto class that takes it."""
    for name in config.architectures or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)._from_config(config)
    order = [*_DECODERS, *_TASKS]
    if getattr(config, "is_encoder_decoder", False):
        order = [*_TASKS[:2], *order]
    elif getattr(config, "is_decoder", True) is False:  # an encoder such as BERT, though it could be a decoder
        order = [*reversed(_DECODERS), *_TASKS]
    for name in order:
        auto = getattr(transformers, name)
        if type(config) in auto._model_mapping:
            return auto.from_config(config)
    raise UsageError(f"transformers has no model class for {type(config).__name__}; name one in its architectures")


def _inputs(model: Any, config: Any) -> dict[str, Any]:
    """What the model takes first: token ids, an image, a video, a sound or its features; empty where we do not know."""
    main = getattr(model, "main_input_name", "input_ids")
    if main == "pixel_values":
        return {main: _image(model, config)}
    if main == "input_values":
        return _sound(model, config)
    if main == "input_features" and hasattr(config, "num_mel_bins") and hasattr(config, "max_source_positions"):
        first = TensorSpec((1, config.num_mel_bins, 2 * config.max_source_positions), _dtype(model))
    elif main == "input_ids":
        first = _tokens(config)
    else:
        return {}
    found = {main: first}
    if getattr(config, "is_encoder_decoder", False):
        found["decoder_input_ids"] = _tokens(config)
    if main == "input_ids" and type(model).__name__.endswith("Model") and hasattr(config, "vision_config"):
        found["pixel_values"] = _image(model, config.vision_config)
    return found


def _tokens(config: Any) -> TensorSpec:
    text = getattr(config, "text_config", config)
    longest = getattr(text, "max_position_embeddings", None)
    return TensorSpec((1, min(TOKENS, longest) if isinstance(longest, int) and longest > 0 else TOKENS), "int64")


def _image(model: Any, config: Any) -> TensorSpec:
    """One image (b c h w) of the size in the configuration or its vision part, or a video (b t c h w)."""
    vision = getattr(config, "vision_config", config)
    places = (config, vision, getattr(vision, "backbone_config", None))
    size = next((size for place in places if (size := getattr(place, "image_size", None))), 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    frames = getattr(config, "num_frames", None)
    return TensorSpec(
        (1, *([frames] if frames else []), getattr(vision, "num_channels", 3), height, width), _dtype(model)
    )


def _sound(model: Any, config: Any) -> dict[str, Any]:
    """One second (b t) or (b c t), or a spectrogram (b t f); empty where the configuration tells neither."""
    rate = getattr(config, "sampling_rate", _RATE)
    if hasattr(config, "num_mel_bins") and hasattr(config, "max_length"):
        shape: tuple[int, ...] = (1, config.max_length, config.num_mel_bins)
    elif hasattr(config, "audio_channels"):
        shape = (1, config.audio_channels, rate)
    elif hasattr(config, "conv_kernel"):
        shape = (1, rate)
    else:
        return {}
    return {"input_values": TensorSpec(shape, _dtype(model))}


def _dtype(model: Any) -> str:
    """The dtype that the model's inputs need: that of its first floating-point parameter."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return str(parameter.dtype).removeprefix("torch.")
    return "float32"

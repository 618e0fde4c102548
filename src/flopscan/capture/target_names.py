"""What can be counted by name: our models, and the forms of all other targets. Needs no torch."""

from __future__ import annotations

FORMS = (
    ("timm:NAME", "a model of timm, as in timm:resnet50"),
    ("torchvision:NAME", "a model of torchvision, as in torchvision:resnet50"),
    ("hf:NAME", "a transformers model type as in hf:mamba, a folder with a config.json, or a hub id; never weights"),
    ("package.module:factory", "what a function or class of an importable module makes"),
    ("path/to/file.py:factory", "what a function or class of a file makes"),
)


def names() -> list[str]:
    """The names of the models that come with flopscan."""
    from flopscan.models.vmamba_forms import CONFIGS

    return list(CONFIGS)

"""Models of timm and torchvision, made without their pretrained weights."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from flopscan.capture.factories import made
from flopscan.core.trace import TensorSpec
from flopscan.errors import FlopscanError, UsageError

Made = tuple[Any, tuple[Any, ...], dict[str, Any]]


def needed(package: str, extra: str) -> ModuleType:
    """The package, imported. Raises UsageError that names the extra to install, FlopscanError where it is broken."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package:
            text = f"{package} is not installed and this target needs it; install it: pip install 'flopscan[{extra}]'"
            raise UsageError(text) from error
        raise FlopscanError(_broken(package, error)) from error
    except Exception as error:
        raise FlopscanError(_broken(package, error)) from error


def _broken(package: str, error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{package} is installed but cannot be imported ({text}); install the build of it that fits your torch"


def near(name: str, known: Iterable[str]) -> str:
    """A question that lists the names next to ``name``."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"did you mean {' or '.join(found)}?" if found else "see the documentation of the package for its names"


def timm(name: str, options: Mapping[str, Any]) -> Made:
    """A model of timm and the input of its configuration, or of ``img_size`` and ``in_chans`` where they are given."""
    library: Any = needed("timm", "timm")
    if not library.is_model(name):
        raise UsageError(f"timm has no model {name!r}; {near(name, library.list_models())}")
    given = {"pretrained": False, **options}
    model = made(f"timm:{name}", lambda **kwargs: library.create_model(name, **kwargs), given)
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    channels, *sizes = config.get("input_size") or (3, 224, 224)
    wanted = options.get("img_size")
    if wanted is not None:
        sizes = [wanted, wanted] if isinstance(wanted, int) else list(wanted)
    return model, (TensorSpec((1, int(options.get("in_chans", channels)), *sizes)),), {}


def torchvision(name: str, options: Mapping[str, Any]) -> Made:
    """A model of torchvision; images and clips have a default input, detection and optical flow have none."""
    models: Any = needed("torchvision", "torchvision").models
    if name not in models.list_models():
        raise UsageError(f"torchvision has no model {name!r}; {near(name, models.list_models())}")
    builder = models.get_model_builder(name)
    given = {"weights": None, **options}
    if "weights_backbone" in inspect.signature(builder).parameters:
        given.setdefault("weights_backbone", None)
    model = made(f"torchvision:{name}", builder, given)
    kind = builder.__module__.removeprefix("torchvision.models.").partition(".")[0]
    if kind in ("detection", "optical_flow"):
        return model, (), {}
    size = getattr(model, "image_size", None) or _crop(models, name)
    clip = (16,) if kind == "video" else ()  # frames
    return model, (TensorSpec((1, 3, *clip, size, size)),), {}


def _crop(models: Any, name: str) -> int:
    """The size that the published weights of a model were evaluated at."""
    weights = list(models.get_model_weights(name))
    crop = weights[0].transforms.keywords.get("crop_size", 224) if weights else 224
    return int(crop if isinstance(crop, int) else crop[0])

"""A model as ``print(model)`` shows it, with lines of a tool's own."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def shown(module: nn.Module, lines: Callable[[nn.Module, str], list[str]], name: str = "") -> str:
    """``repr(module)`` with ``lines(module, name)`` in the place of its settings; nothing is patched for that."""
    own = [line for line in lines(module, name) if line]
    below = []
    for key, child in module._modules.items():
        text = repr(None) if child is None else shown(child, lines, f"{name}.{key}" if name else key)
        below.append(f"({key}): " + text.replace("\n", "\n  "))
    if len(own) == 1 and not below:
        return f"{module._get_name()}({own[0]})"
    body = "".join(f"\n  {line}" for line in (*own, *below))
    return f"{module._get_name()}({body}\n)" if body else f"{module._get_name()}()"

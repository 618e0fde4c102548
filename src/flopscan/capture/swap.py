"""Put another function behind a Python function, for who holds it under whatever name, and take it away again."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from typing import Any

_numbers = itertools.count()


def _calling(name: str, free: tuple[str, ...]) -> types.CodeType:
    """Code that calls the global ``name``, with the free variables ``free``: the interpreter wants the same ones."""
    cells = "".join(f"    {variable} = None\n" for variable in free)
    source = (
        f"def outer():\n{cells}"
        "    def calling(*args, **kwargs):\n"
        f"        lambda: ({''.join(f'{variable}, ' for variable in free)})\n"
        f"        return {name}(*args, **kwargs)\n"
        "    return calling\n"
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    code: types.CodeType = namespace["outer"]().__code__
    return code


class Swapped:
    """``function`` calls ``hook`` from now on; ``original`` is what it did, `restore` gives it back."""

    def __init__(self, function: types.FunctionType, hook: Callable[..., Any]) -> None:
        self.function = function
        self._code = code = function.__code__
        self._name = f"__flopscan_{next(_numbers)}__"
        self._signature = function.__dict__.get("__signature__")
        self.original = types.FunctionType(
            code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        self.original.__kwdefaults__ = function.__kwdefaults__
        function.__globals__[self._name] = hook
        function.__code__ = _calling(self._name, code.co_freevars).replace(co_name=code.co_name)

    def show(self, signature: Any) -> None:
        """Let `inspect.signature` of the function say ``signature`` while it is swapped."""
        self.function.__signature__ = signature  # type: ignore[attr-defined]

    def restore(self) -> None:
        """Make the function what it was."""
        self.function.__code__ = self._code
        self.function.__globals__.pop(self._name, None)
        if self._signature is None:
            self.function.__dict__.pop("__signature__", None)
        else:
            self.function.__signature__ = self._signature  # type: ignore[attr-defined]

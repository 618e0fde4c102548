"""A model counted as these calls need it: on shapes, left as it was, and by a real run only where values decide."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from flopscan import rules
from flopscan.analysis import price
from flopscan.capture import running, shape_only
from flopscan.capture.build import unwrapped
from flopscan.capture.ends import leaves
from flopscan.core.ledger import Ledger
from flopscan.errors import DataDependentError, FlopscanError


def ledger_of(
    model: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool | None = None,
    begin: Callable[[], object] = lambda: None,
) -> Ledger:
    """The ledger of ``model(*args, **kwargs)``; ``training`` is the mode to count in (None: the one that it is in).

    Where the outcome depends on values, and model and inputs have them, the model is run, as these tools do. ``begin``
    is called before each start: what hooks of the caller wrote down of a start that failed is void.
    """
    model, seams = unwrapped(model), rules.seams()
    given = tuple(_operand(a) for a in args), {k: _operand(v) for k, v in (kwargs or {}).items()}
    origin = {"target": type(model).__name__}
    begin()
    try:
        return price(shape_only.trace(model, *given, training=training, origin=origin, seams=seams))
    except DataDependentError:
        if not _has_values(model, given):
            raise
    begin()
    return price(running.trace(model, *given, training=training, origin=origin, seams=seams))


def _operand(value: Any) -> Any:
    """``value``; a tuple of sizes goes as a list, for a capture takes it for the shape of a tensor."""
    return list(value) if isinstance(value, tuple) and value and all(type(n) is int for n in value) else value


def _has_values(model: Any, given: Any) -> bool:
    held = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return not any(isinstance(t, Tensor) and t.is_meta for t in (*held, *leaves(given)))


def canonical(ledger: Ledger) -> list[str]:
    """For each module of the trace the first of its paths."""
    modules = ledger.trace.modules
    return [modules[m.same].path if m.same >= 0 else m.path for m in modules]


def above(path: str) -> Iterator[str]:
    """``path`` and every path above it, up to the root ''."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


class Seen:
    """One call of a module: what it was given and what it returned."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.module, self.args, self.output = module, args, output


@contextlib.contextmanager
def watched(modules: Iterator[nn.Module] | list[nn.Module]) -> Iterator[list[Seen]]:
    """Inside, the calls of ``modules`` are written down; the hooks for that are gone afterwards, also on an error."""
    seen: list[Seen] = []

    def write_down(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        seen.append(Seen(module, args, output))

    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(write_down).remove)
        yield seen


def by_module(model: nn.Module, ledger: Ledger, counts: list[int]) -> tuple[dict[int, int], set[int]]:
    """What ``counts`` give for the calls of each module (by id), and the modules that were called."""
    named = {name: id(module) for name, module in model.named_modules(remove_duplicate=False)}
    own: dict[int, int] = {}
    for record, count in zip(ledger.trace.records, counts, strict=True):
        module = named.get(ledger.trace.modules[record.module].path)
        if module is not None and ledger.trace.calls[record.call].op.startswith("module::"):
            own[module] = own.get(module, 0) + count
    return own, set(own)


def visits(model: nn.Module) -> dict[int, int]:
    """How often ``Module.apply`` comes to each module (by id): once under each of its parents."""
    met: dict[int, int] = {}

    def walk(module: nn.Module) -> None:
        met[id(module)] = met.get(id(module), 0) + 1
        for child in module.children():
            walk(child)

    walk(model)
    return met


def asked(hook: Any, seen: Seen) -> None:
    """Call a user's hook with what a module was given and returned, on shapes; what it raises is explained."""
    try:
        hook(seen.module, seen.args, seen.output)
    except (NotImplementedError, RuntimeError) as error:
        raise FlopscanError(
            f"the hook {getattr(hook, '__qualname__', hook)} of {type(seen.module).__name__} raised {error};"
            " its tensors have shapes and no values: expected a count from shapes"
        ) from error

"""Seams taken: functions of packages that compute out of the dispatcher's sight are recorded as operators.

A package that is not there gets a stand-in, which has shapes only and offers only what has a rule; in one that is
there the function is replaced for the time of the capture. Everything is put back at the end.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from flopscan.capture.engine import ShapeEngine
from flopscan.capture.operators import plain
from flopscan.core.seam import Seam
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import FlopscanError

MARK = "__flopscan_stand_in__"
_FREEZING = "transformers."  # keeps for the life of the process what it finds on import: it gets no stand-ins
_MISSING = object()


class _Recording:
    """What takes the calls while a capture runs: the engine, and the distinct calls that it has seen."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.runs = not isinstance(engine, ShapeEngine)
        self._calls: dict[Any, int] = {}

    def record(self, op: str, operands: Mapping[str, Any], outputs: tuple[TensorSpec, ...]) -> None:
        """Count one more call of ``op`` from where the code is now."""
        key = (op, repr(operands), outputs)
        if key not in self._calls:
            self._calls[key] = self.engine.recorder.call(Call(op, operands, outputs))
        self.engine.record(self._calls[key])


_active: list[_Recording] = []


@contextlib.contextmanager
def installed(seams: Sequence[Seam], engine: Any = None) -> Iterator[None]:
    """Inside, imports find stand-ins for missing packages; with ``engine``, calls of the seams are recorded by it."""
    if not seams:
        yield
        return
    modules = _by_module(tuple(seams))
    replaced: list[tuple[ModuleType, str, Any]] = []

    def take(name: str, module: ModuleType) -> None:
        for attribute, forms in modules[name].items():
            original = module.__dict__.get(attribute, _MISSING)
            if original is not _MISSING and not hasattr(original, MARK):
                replaced.append((module, attribute, original))
                setattr(module, attribute, _replacement(forms, original))

    finder, watcher = _StandIns(modules), _Watcher(modules, take)
    with contextlib.ExitStack() as stack:
        stack.callback(finder.forget)
        sys.meta_path.append(finder)
        stack.callback(sys.meta_path.remove, finder)
        if engine is not None:
            stack.callback(_put_back, replaced)
            for name in modules:
                module = sys.modules.get(name)
                if module is not None and MARK not in module.__dict__:
                    take(name, module)
            sys.meta_path.insert(0, watcher)
            stack.callback(sys.meta_path.remove, watcher)
            _active.append(_Recording(engine))
            stack.callback(_active.pop)
        yield


Forms = tuple[Seam, ...]


@functools.lru_cache(maxsize=8)
def _by_module(seams: tuple[Seam, ...]) -> dict[str, dict[str, Forms]]:
    """Module name -> attribute -> the seams that it may be: the same path may have had several signatures."""
    found: dict[str, dict[str, Forms]] = {}
    for seam in seams:
        forms = found.setdefault(seam.module, {})
        forms[seam.attribute] = (*forms.get(seam.attribute, ()), seam)
    return found


def _put_back(replaced: list[tuple[ModuleType, str, Any]]) -> None:
    for module, attribute, original in reversed(replaced):
        setattr(module, attribute, original)


class _StandIns:
    """The last finder: modules that nothing else finds and that have seams, and the packages around them."""

    def __init__(self, modules: Mapping[str, dict[str, Forms]]) -> None:
        self._modules = modules
        self._made: list[str] = []

    def forget(self) -> None:
        """Take the stand-ins out of the imported modules; who holds one keeps it."""
        for name in self._made:
            if MARK in getattr(sys.modules.get(name), "__dict__", ()):
                del sys.modules[name]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec of a stand-in, or None. Raises ModuleNotFoundError for a module that a stand-in does not have."""
        top, _, rest = name.partition(".")
        offered = [m for m in self._modules if m == name or m.startswith(name + ".")]
        if rest and MARK not in getattr(sys.modules.get(top), "__dict__", ()):
            return None  # the package is installed: it has what it has
        if not offered:
            if rest:
                raise ModuleNotFoundError(f"{name} is not there: {top} is {_offer(top, self._modules)}", name=name)
            return None
        if _importer().startswith(_FREEZING):
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=_offer(name, self._modules), is_package=True)

    def create_module(self, spec: Any) -> None:
        """None: the usual kind of module."""

    def exec_module(self, module: Any) -> None:
        """Fill a stand-in."""
        self._made.append(module.__name__)
        for attribute, forms in self._modules.get(module.__name__, {}).items():
            setattr(module, attribute, _stand_in(forms))
        module.__version__ = "0+flopscan"
        module.__file__ = module.__spec__.origin  # Python quotes it where a name cannot be imported
        module.__dict__[MARK] = True
        offer = f"{module.__name__} is {module.__file__}"

        def __getattr__(name: str) -> Any:
            raise AttributeError(f"{module.__name__} has no {name!r}: {offer}", name=name, obj=module)

        module.__getattr__ = __getattr__


def _offer(name: str, modules: Mapping[str, dict[str, Forms]]) -> str:
    below = [
        f"{module[len(name) + 1 :]}.{attribute}".lstrip(".")
        for module, attributes in modules.items()
        if module == name or module.startswith(name + ".")
        for attribute in attributes
    ]
    return f"a stand-in of flopscan, which has rules for {', '.join(below)} alone"


def _importer() -> str:
    """The module whose code asked for the import that is going on."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name != __name__ and name.partition(".")[0] != "importlib":
            return str(name)
        frame = frame.f_back
    return ""


class _Watcher:
    """The first finder: a module with seams that is imported during the capture is taken as soon as it is there."""

    def __init__(self, modules: Mapping[str, Any], take: Callable[[str, ModuleType], None]) -> None:
        self._modules = modules
        self._take = take

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that the other finders give, its loader told to report; None for a module without seams."""
        if name not in self._modules:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, (_Watcher, _StandIns)) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._report(name, spec.loader)
                return spec
        return None

    def _report(self, name: str, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            self._take(name, module)

        loader.exec_module = exec_module


def _bind(forms: Forms, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Seam, dict[str, Any]]:
    """The form that takes these arguments, and the arguments by name. Raises TypeError where none does."""
    problems = []
    for seam in forms:
        try:
            bound = _parameters(seam).bind(*args, **kwargs)
        except TypeError as error:
            versions = f" of {seam.module.partition('.')[0]} {seam.version}" if seam.version else ""
            problems.append(f"{error}; expected ({seam.signature}){versions}")
            continue
        bound.apply_defaults()
        return seam, dict(bound.arguments)
    raise TypeError(f"{forms[0].path}: {', or '.join(problems)}")


@functools.lru_cache(maxsize=256)
def _parameters(seam: Seam) -> Any:
    return seam.parameters()


def _stand_in(forms: Forms) -> Callable[..., Any]:
    """The function of a stand-in."""

    def function(*args: Any, **kwargs: Any) -> Any:
        seam = forms[0]
        if not _active:
            raise FlopscanError(
                f"{seam.path} is a stand-in of flopscan: it has shapes only, while a count goes on; install"
                f" {seam.module.partition('.')[0]} to compute with it"
            )
        recording = _active[-1]
        if recording.runs or not _on_shapes(args, kwargs):
            raise FlopscanError(
                f"{seam.module} is a stand-in: it has shapes only; {seam.path} was called on real tensors; count on"
                f" shapes, or install {seam.module.partition('.')[0]}"
            )
        return _recorded(recording, *_bind(forms, args, kwargs))

    return _named(function, forms)


def _replacement(forms: Forms, original: Any) -> Callable[..., Any]:
    """``original`` as it is called during a capture: on shapes it is recorded, on real tensors it runs besides."""

    def function(*args: Any, **kwargs: Any) -> Any:
        if not _active:
            return original(*args, **kwargs)
        recording = _active[-1]
        seam, bound = _bind(forms, args, kwargs)
        if not recording.runs and _on_shapes(args, kwargs):
            return _recorded(recording, seam, bound)
        if not recording.runs:
            return original(*args, **kwargs)
        operands = _operands(seam, bound)

        def gradient(output: tuple[TensorSpec, ...]) -> Call | None:
            named = {"grad": output[0], **operands}
            return Call(seam.backward, named, gradients(named)) if seam.backward else None

        return recording.engine.leaf(
            lambda: original(*args, **kwargs), seam.op, operands, results=seam.results, gradient=gradient
        )

    return _named(function, forms)


def _named(function: Any, forms: Forms) -> Callable[..., Any]:
    seam = forms[0]
    function.__name__ = function.__qualname__ = seam.attribute
    function.__module__ = seam.module
    function.__doc__ = f"What flopscan records as {seam.op}."
    function.__signature__ = _parameters(seam)
    setattr(function, MARK, True)
    return function  # type: ignore[no-any-return]


def _on_shapes(args: Any, kwargs: Any) -> bool:
    """Whether a tensor operand is shape-only."""
    return any(isinstance(a, Tensor) and a.is_meta for a in (*args, *kwargs.values()))


def _operands(seam: Seam, bound: Mapping[str, Any]) -> dict[str, Any]:
    """The operands as the trace has them: plain data, named as the rule names them, absent ones left out."""
    named = seam.named({name: plain(value) for name, value in bound.items()})
    return {name: value for name, value in named.items() if value is not None}


def _recorded(recording: _Recording, seam: Seam, bound: dict[str, Any]) -> Any:
    """What the callee would return, on shapes, after recording the call."""
    try:
        operands = _operands(seam, bound)
        outputs = seam.outputs({name: plain(value) for name, value in bound.items()})
    except (AttributeError, TypeError, LookupError, ValueError) as error:
        given = ", ".join(f"{name}={plain(value)}" for name, value in bound.items() if value is not None)
        raise FlopscanError(f"{seam.path}: these operands have no result ({error}); got {given}") from error
    tensors = [name for name, value in bound.items() if isinstance(value, Tensor)]
    if seam.backward is None:
        return _answer(recording, seam, operands, outputs)
    return _Leaf.apply(recording, seam, operands, outputs, *(bound[name] for name in tensors))


def _answer(recording: _Recording, seam: Seam, operands: Mapping[str, Any], outputs: Any) -> Any:
    specs = (outputs,) if isinstance(outputs, TensorSpec) else outputs
    own = tuple(s for s in specs[: seam.results] if s is not None)
    recording.record(seam.op, operands, own)
    made = tuple(None if s is None else _empty(s) for s in specs)
    return made[0] if isinstance(outputs, TensorSpec) else made


def _empty(spec: TensorSpec) -> Tensor:
    """A shape-only tensor, made unseen."""
    with torch._C._DisableTorchDispatch():  # type: ignore[attr-defined]
        dtype = getattr(torch, spec.dtype)
        if spec.strides is None:
            return torch.empty(spec.shape, dtype=dtype, device="meta")
        return torch.empty_strided(spec.shape, spec.strides, dtype=dtype, device="meta")


class _Leaf(torch.autograd.Function):
    """One operator forward, one backward."""

    @staticmethod
    def forward(ctx: Any, recording: Any, seam: Any, operands: Any, outputs: Any, *tensors: Tensor) -> Any:
        """The empty outputs; those after the first have no gradient."""
        made = _answer(recording, seam, operands, outputs)
        first, *others = (made,) if isinstance(made, Tensor) else made
        ctx.mark_non_differentiable(*(t for t in others if t is not None))
        ctx.set_materialize_grads(False)
        ctx.call = recording, seam.backward, {"grad": plain(first), **operands}
        ctx.specs = [plain(t) for t in tensors]
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> Any:
        """Empty gradients of the operands that need one."""
        nothing = (None,) * 4
        if grad is None:
            return (*nothing, *(None for _ in ctx.specs))
        recording, op, operands = ctx.call
        recording.record(op, operands, gradients(operands))
        needs = ctx.needs_input_grad[4:]
        return (*nothing, *(_empty(s) if need else None for s, need in zip(ctx.specs, needs, strict=True)))


def gradients(operands: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """The results of a gradient operator: one for each floating-point operand but ``grad``."""
    return tuple(v for k, v in operands.items() if k != "grad" and isinstance(v, TensorSpec) and v.is_float)

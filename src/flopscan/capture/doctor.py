"""What flopscan finds on a machine: versions, seams that are live, names that escape, how torch.jit calls."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch

from flopscan.capture import extensions, holders, jit
from flopscan.capture.seams import installed
from flopscan.capture.signatures import Forms, by_module
from flopscan.capture.stand_ins import MARK, is_stand_in
from flopscan.core.seam import Seam

FINE, NOTE, PROBLEM = "fine", "note", "problem"
_PACKAGES = (
    "torch", "triton", "transformers", "fvcore", "mamba-ssm", "causal-conv1d", "mambapy", "accelerated-scan",
    "fla-core", "einops", "numpy",
)  # fmt: skip
_TESTED = (2, 6), (2, 15)  # torch versions from, and before


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it stands, what was found, and what to do about it ('' for nothing)."""

    kind: str
    subject: str
    found: str
    advice: str = ""


def examine(seams: Sequence[Seam]) -> list[Finding]:
    """Every finding. Installed packages that have seams are imported."""
    return [
        *_versions(), _device(), *_packages(seams), *_patterns(seams), *_escaped(seams), *_extensions(seams), _jit(),
    ]  # fmt: skip


def _versions() -> Iterator[Finding]:
    version = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2])
    python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    yield Finding(FINE, "Python", python)
    for name in _PACKAGES:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name == "torch" and not _TESTED[0] <= version < _TESTED[1]:
            tested = " to ".join(".".join(map(str, v)) for v in (_TESTED[0], (_TESTED[1][0], _TESTED[1][1] - 1)))
            yield Finding(NOTE, name, installed, f"flopscan is tested with torch {tested}: compare a known model")
        else:
            yield Finding(FINE, name, installed)


def _device() -> Finding:
    if torch.cuda.is_available():
        return Finding(FINE, "CUDA", torch.cuda.get_device_name())
    return Finding(FINE, "CUDA", "no device: models are counted on shapes; code that asks for one is answered")


def _packages(seams: Sequence[Seam]) -> Iterator[Finding]:
    modules = by_module(tuple(s for s in seams if not s.module.endswith(".*")))
    missing: dict[str, int] = {}
    for name, attributes in modules.items():
        top = name.partition(".")[0]
        if importlib.util.find_spec(top) is None:
            missing[top] = missing.get(top, 0) + len(attributes)
        else:
            yield from _module(name, attributes, seams)
    for top, count in missing.items():
        yield Finding(FINE, top, f"not installed: a stand-in serves {count} function{'s' * (count > 1)} on shapes")


def _patterns(seams: Sequence[Seam]) -> Iterator[Finding]:
    """Seams in every module of a package, as transformers has its kernel functions in each modeling file."""
    for name, attributes in by_module(tuple(s for s in seams if s.module.endswith(".*"))).items():
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            yield Finding(FINE, name, f"counted as one operator each: {', '.join(sorted(attributes))}")


def _module(name: str, attributes: dict[str, Forms], seams: Sequence[Seam]) -> Iterator[Finding]:
    """The seams in one installed module."""
    try:
        with warnings.catch_warnings(), installed(seams):
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
    except Exception as error:  # the code of a package may do anything: compile a kernel, ask for a device
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(name.partition(".")[0]):
            return  # this version of the package does not have the module
        yield Finding(
            PROBLEM, name,
            f"installed, but it cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}",
            "mend or remove the package: where it is not installed, a stand-in serves it",
        )  # fmt: skip
        return
    leaning = sorted({v.__name__.partition(".")[0] for v in vars(module).values() if is_stand_in(v)})
    if leaning:
        yield Finding(
            NOTE, name, f"imports {', '.join(leaning)}, which is missing: a stand-in serves it",
            "import your model under `with flopscan.stand_ins():`, or count it by its file and name",
        )  # fmt: skip
    live = []
    for attribute, forms in attributes.items():
        function = getattr(module, attribute, None)
        if function is None:
            continue
        problem = _mismatch(function, forms)
        if problem:
            yield Finding(
                PROBLEM, f"{name}.{attribute}", problem,
                "its calls are counted by what they dispatch, or refused where it is compiled; report the version",
            )  # fmt: skip
        else:
            live.append(attribute)
    if live:
        yield Finding(FINE, name, f"seams live: {', '.join(live)}")


def _mismatch(function: Any, forms: Forms) -> str:
    """How the signature of ``function`` differs from every known one; '' where one is the same, or it has none."""
    if not isinstance(function, FunctionType):
        return ""
    own = [p.name for p in inspect.signature(function).parameters.values()]
    known = [list(seam.parameters().parameters) for seam in forms]
    if any(own == names or own[: len(names)] == names or names[: len(own)] == own for names in known):
        return ""
    return f"takes ({', '.join(own)}), known is ({forms[0].signature})"


def _escaped(seams: Sequence[Seam]) -> Iterator[Finding]:
    """Compiled functions that something holds which a count cannot change: a tuple, a partial, a default."""
    paths: dict[int, str] = {}
    functions = []
    for seam in seams:
        function = getattr(sys.modules.get(seam.module), seam.attribute, None)
        if not (function is None or isinstance(function, (FunctionType, type)) or hasattr(function, MARK)):
            functions.append(function)
            paths[id(function)] = seam.path
    for module, names in extensions.taking_tensors():
        for name in names:
            if id(vars(module)[name]) not in paths:
                functions.append(vars(module)[name])
                paths[id(vars(module)[name])] = f"{module.__name__}:{name}"
    for function, holder in holders.escaping(functions) if functions else ():
        path = paths[id(function)]
        yield Finding(
            PROBLEM, path, f"a {type(holder).__name__} holds the compiled function itself",
            f"call it through its module, as in `{path.replace(':', '.')}(...)`, so that a count can see it",
        )  # fmt: skip


def _extensions(seams: Sequence[Seam]) -> Iterator[Finding]:
    known = {(s.module, s.attribute) for s in seams}
    for module, functions in extensions.taking_tensors():
        others = [f for f in functions if (module.__name__, f) not in known]
        if others:
            yield Finding(
                NOTE, module.__name__, f"compiled functions without a seam: {', '.join(others)}",
                "on shapes they raise; count a real run, or add a rule (CONTRIBUTING.md)",
            )  # fmt: skip


def _jit() -> Finding:
    """A tiny trace: whether a call of an autograd Function can be recovered whole from a graph."""

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, u: Any, flag: Any = None, scale: float = 2.0, D: Any = None) -> Any:
            return u * scale

    def run(u: torch.Tensor, D: torch.Tensor) -> Any:
        return Probe.apply(u, None, 3.0, D)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = torch.jit.trace(run, (torch.ones(2, 3), torch.ones(3)), check_trace=False).graph  # type: ignore[no-untyped-call]
        (node,) = [n for n in graph.nodes() if n.kind() == "prim::PythonOp"]
        named = jit.read(list(node.outputs())).named()
        whole = [named["u"].shape, named["flag"], named["scale"], named["D"].shape] == [(2, 3), None, 3.0, (3,)]
        problem = "" if whole else f"it reads {named}"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        return Finding(
            PROBLEM, "torch.jit", f"a traced call cannot be recovered: {problem}",
            "use flopscan.count in place of fvcore's handles, and report this torch version",
        )  # fmt: skip
    return Finding(FINE, "torch.jit", "traced calls are recovered whole: operands, constants and class")

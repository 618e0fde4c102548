"""Seam: a function of a package that computes out of sight of the dispatcher, and what a call of it is in a trace."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flopscan.core.composite import Parts
from flopscan.core.trace import TensorSpec
from flopscan.errors import RuleError

Operands = Mapping[str, Any]
Outputs = TensorSpec | tuple[TensorSpec | None, ...]


@dataclass(frozen=True)
class Seam:
    """``path``, as ``package.module:attribute`` that Python looks up at call time, is the operator ``op``.

    A module may be given as ``package.*``: every module below it that has the attribute. An attribute with a capital
    is an autograd Function, whose ``apply`` takes the signature.

    ``signature`` holds the callee's parameters as Python writes them (``"x, weight, bias=None"``), ``outputs`` makes
    the specs of what it returns from the bound operands: one spec, or a tuple of specs and Nones. ``operands`` turns
    bound operands into those that the rule of ``op`` names (None: they are). ``results``: how many of the outputs are
    the operator's own, where the others are a kernel's scratch. ``backward`` is the operator of its gradient, whose
    operands are ``grad`` and then the same; None where the callee is below autograd. ``version``: the package versions
    that have this signature. ``parts`` and ``backward_parts`` take a call of ``op`` and of ``backward`` apart where
    these are composites: the call is then recorded as what surrounds its parts.
    """

    path: str
    op: str
    signature: str
    outputs: Callable[[Operands], Outputs]
    backward: str | None = None
    version: str = ""
    operands: Callable[[Operands], Operands] | None = None
    results: int | None = None
    parts: Parts | None = None
    backward_parts: Parts | None = None

    def __post_init__(self) -> None:
        module, colon, attribute = self.path.partition(":")
        if not (colon and module and attribute.isidentifier()):
            raise RuleError(f"a seam's path is 'package.module:attribute'; got {self.path!r}")
        if "::" not in self.op:
            raise RuleError(f"operator names are qualified, as in 'aten::mm'; got {self.op!r}")

    @property
    def module(self) -> str:
        """The module that holds the attribute."""
        return self.path.partition(":")[0]

    @property
    def attribute(self) -> str:
        """The name that Python looks up in the module."""
        return self.path.partition(":")[2]

    @property
    def is_class(self) -> bool:
        """Whether it is an autograd Function."""
        return self.attribute[0].isupper()

    @property
    def package(self) -> str:
        """The package that the function belongs to."""
        return self.path.partition(".")[0].partition(":")[0]

    def parameters(self) -> inspect.Signature:
        """The callee's signature, to bind a call with. A default is None, a bool, a number or a string.

        A last part ``**rest`` takes all other keywords, as in Python.
        """
        parameters = []
        for part in filter(None, (p.strip() for p in self.signature.split(","))):
            name, equals, default = part.partition("=")
            value = ast.literal_eval(default.strip()) if equals else inspect.Parameter.empty
            rest = name.startswith("**")
            kind = inspect.Parameter.VAR_KEYWORD if rest else inspect.Parameter.POSITIONAL_OR_KEYWORD
            parameters.append(inspect.Parameter(name.strip("* "), kind, default=value))
        return inspect.Signature(parameters)

    def named(self, bound: Operands) -> Operands:
        """The operands as the rule of ``op`` names them."""
        return self.operands(bound) if self.operands else bound

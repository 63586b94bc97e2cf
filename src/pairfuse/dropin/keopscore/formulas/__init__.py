"""`keopscore.formulas`: the operations as functions of symbolic expressions, `Exp(Var(0, 3, 0) - Var(1, 3, 1))`.

Every name of the formula language is a function here; its results are Pairfuse's expressions, which print themselves,
and which Python's operators combine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pairfuse.frontend.strings.language import FORMS
from pairfuse.ir.expr import Expr, call, input_
from pairfuse.ir.ops import lookup


def Var(ind: int, dim: int, cat: int) -> Expr:
    """The variable number `ind`, of this length; cat is 0 (of i), 1 (of j) or 2 (a parameter)."""
    return input_(ind, "ijp"[cat], dim)


def __getattr__(name: str) -> Callable[..., Expr]:
    """The operation of this name: of formulas, and of the numbers that go with them."""
    if name in FORMS:
        return _function(name, FORMS[name].build, f"The formula {name}(...) of KeOps' language.")
    try:
        op = lookup(name)
    except KeyError:
        raise AttributeError(f"module {__name__!r}: there is no operation called {name!r}") from None

    def operation(*args: Expr, **params: int) -> Expr:
        given = dict(zip(op.params, args[op.arity :], strict=False), **params)
        return call(op.name, *args[: op.arity], **given)

    return _function(name, operation, op.doc)


def _function(name: str, build: Callable[..., Expr], doc: str) -> Callable[..., Expr]:
    def operation(*args: Any, **params: Any) -> Expr:
        return build(*args, **params)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation

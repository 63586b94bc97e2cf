"""KeOps' formula language: declarations of variables, names that are no operations, reductions as heads.

In: a formula such as "Exp(-g * SqDist(x, y))" and its aliases, "x = Vi(3)".  Out: its `Meaning`: expressions whose
input k is argument number k, and what every argument is.  The text is parsed (ir/parse.py), never evaluated; operations
are those of the table, with KeOps' names as aliases.  Beyond KeOps' language, floats, `==`, `!=`, `**` with any
exponent, components `x[1]`, `x[:2]`, the indices `i` and `j`, and variables declared in place, `Vi(3)`, have their
meaning.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from ...errors import FormulaError, PairfuseError, ShapeError, UnsupportedError, message
from ...ir.expr import Expr, call, const, input_
from ...ir.parse import Form, Language, parse, parse_declaring
from ...ir.reductions import REDUCTIONS
from ...ir.syntax import tree
from ...transform import calculus
from ...transform.autodiff import zeros
from ..base import Binding, Bindings
from ..space import Symbol
from .literals import parametrised

AXES = {"Vi": "i", "Vj": "j", "Pm": "p"}


# What a formula string means: the reduction, 0 for i or 1 for j, K; the formula, and the second one of weighted
# reductions, input k being argument number k; place, length and axis of every argument, and how it was declared, those
# that only the formula declares last; the numbers that are the input after the arguments (literals.py). Plain
# constants, so that torch.compile may evaluate the string while tracing.
Arguments = tuple[tuple[int, int, str], ...]
Meaning = tuple[str, int, int | None, tuple[Expr, ...], Arguments, tuple[str, ...], tuple[float, ...]]


class Head(NamedTuple):
    """A formula that names its reduction, Sum_Reduction(F, 0), in parts, as text and numbers."""

    reduction_op: str
    formula: str
    axis: int
    opt_arg: int | None = None
    formula2: str | None = None


# ---------------------------------------------------------------------- names that are no operations


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormulaError(f"it takes a whole number, not {value!r}")
    return value


def _ratio(p: Any, q: Any) -> Expr:
    if _whole(q) == 0:
        raise FormulaError("the denominator is 0")
    try:
        return const(_whole(p) / q)
    except OverflowError:
        raise FormulaError("the quotient is too large, floats end at 1.8e308") from None


def _zero(dim: Any) -> Expr:
    if _whole(dim) < 1:
        raise FormulaError(f"a vector has a length from 1, not {dim}")
    return zeros(dim)


def _inside(x: Expr, a: Any, b: Any) -> Expr:
    return call("where", (x < a) | (x > b), 0.0, 1.0)


def _tensordot(x: Expr, y: Expr, dimfa: Any, dimfb: Any, contfa: Any, contfb: Any, perm: Any = None) -> Expr:
    sizes = {"dimfa": dimfa, "dimfb": dimfb, "contfa": contfa, "contfb": contfb, "perm": perm or ()}
    return call("tensordot", x, y, **{name: _sizes(v) for name, v in sizes.items()})


def _kron(x: Expr, y: Expr, dimfa: Any, dimfb: Any) -> Expr:
    return call("kron", x, y, dimfa=_sizes(dimfa), dimfb=_sizes(dimfb))


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(_whole(v) for v in (value if isinstance(value, tuple) else (value,)))


def _shared(f: Expr, part: Expr) -> Expr:
    return f  # what occurs several times is always computed once


FORMS: dict[str, Form] = {
    "IntCst": Form("n", lambda n: const(_whole(n), "index")),
    "RatCst": Form("nn", _ratio),
    "IntInv": Form("n", lambda n: _ratio(1, n)),
    "Zero": Form("n", _zero),
    "DiffClampInt": Form("fnn", _inside),
    "TensorDot": Form("ffnnnnn", _tensordot, optional=1),
    "Kron": Form("ffnn", _kron),
    "Grad": Form("fff", calculus.grad),
    "Diff": Form("fss", calculus.diff),
    "GradMatrix": Form("ff", calculus.grad_matrix),
    "Divergence": Form("ff", calculus.divergence),
    "Laplacian": Form("ff", calculus.laplacian),
    "TraceOperator": Form("fff", calculus.trace_operator, optional=1),
    "AdjointOperator": Form("fff", calculus.adjoint_operator),
    "SumLinOperator": Form("ffff", calculus.sum_lin_operator, optional=2),
    "Factorize": Form("ff", _shared),
    "AutoFactorize": Form("f", lambda f: f),
}

# ---------------------------------------------------------------------- declarations

ALIAS = re.compile(r"(?:([A-Za-z_]\w*)\s*=\s*)?(Vi|Vj|Pm|Var)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?(?:,\s*([012])\s*)?\)")
ALIAS_HINT = "'x = Vi(3)' declares an i-variable of length 3, Vj one of j, Pm a parameter; 'x = Vi(0, 3)' its place."


def declared(alias: Any, rank: int) -> tuple[str | None, Symbol]:
    """Name and meaning of one alias, "x = Vi(3)", whose place is its rank unless it says another."""
    found = ALIAS.fullmatch(alias.strip()) if isinstance(alias, str) else None
    if found is None:
        raise FormulaError(message(f"alias {alias!r}: it declares no variable.", hint=ALIAS_HINT))
    name, kind, *numbers = found.groups()
    given = [int(n) for n in numbers if n is not None]
    if len(given) > (3 if kind == "Var" else 2) or (kind == "Var" and len(given) < 3):
        takes = "a place, a length and 0, 1 or 2" if kind == "Var" else "a length, or a place and a length"
        raise FormulaError(message(f"alias {alias!r}: {kind} takes {takes}.", hint=ALIAS_HINT))
    axis = "ijp"[given.pop()] if kind == "Var" else AXES[kind]
    place, dim = given if len(given) == 2 else (rank, given[0])
    if dim < 1:
        raise ShapeError(message(f"alias {alias!r}: a variable has a length from 1, not {dim}."))
    if name is not None and keyword.iskeyword(name):
        raise FormulaError(message(f"alias {alias!r}: {name} is a word of Python.", hint="take another name."))
    return name, Symbol(place, dim, axis)


def meaning(
    formula: str,
    aliases: tuple[str, ...],
    reduction_op: str,
    axis: int,
    opt_arg: int | None,
    formula2: str | None,
) -> Meaning:
    """What the strings of a reduction mean, which the formula may name itself."""
    head = head_of(formula, aliases)
    if head is not None:
        reduction_op, formula, axis, opt_arg, formula2 = head
    exprs, symbols, texts, numbers = read(formula, aliases, formula2)
    return reduction_op, axis, opt_arg, exprs, tuple((s.ind, s.dim, s.axis) for s in symbols), texts, numbers


def read(
    formula: str, aliases: Sequence[str], formula2: str | None = None
) -> tuple[tuple[Expr, ...], tuple[Symbol, ...], tuple[str, ...], tuple[float, ...]]:
    """A formula and its second formula if there is one, what the arguments are, and how they were declared.

    Last, the numbers of the formulas that are their next input; () where there are none.
    """
    names, known, texts = _declarations(aliases)
    exprs: list[Expr] = []
    for text in (formula,) if formula2 is None else (formula, formula2):
        language = Language(names, FORMS, slot=len(known))
        try:
            expr, variables = parse_declaring(text, language)
        except PairfuseError as error:
            facts = str(error).splitlines()
            raise type(error)("\n".join([*facts, f"  aliases: {', '.join(aliases) or 'none'}"])) from None
        for variable in variables:
            _extend(known, texts, variable)
        exprs.append(expr)
    missing = next((k for k, place in enumerate(sorted(known)) if k != place), None)
    if missing is not None:
        text = f"formula: argument number {missing} is not declared, number {max(known)} is."
        raise FormulaError(
            message(text, [texts[k] for k in sorted(texts)], "places are numbered from 0 without a gap.")
        )
    places = sorted(known)
    formulas, numbers = parametrised(tuple(exprs), len(places))
    return formulas, tuple(known[k] for k in places), tuple(texts[k] for k in places), numbers


def bound(symbols: Sequence[Symbol], numbers: tuple[float, ...]) -> Bindings:
    """The inputs of formulas that were read: the arguments, and the numbers if there are some."""
    arguments = [Binding(s, s.axis) for s in symbols]
    return tuple([*arguments, Binding(numbers, "p")] if numbers else arguments)


def _declarations(aliases: Sequence[str]) -> tuple[dict[str, Expr], dict[int, Symbol], dict[int, str]]:
    """The names of the aliases, and by place what they declare and their text."""
    names: dict[str, Expr] = {}
    known: dict[int, Symbol] = {}
    texts: dict[int, str] = {}
    for rank, alias in enumerate(aliases):
        name, symbol = declared(alias, rank)
        if symbol.ind in known or name in names:
            what = f"the name {name!r}" if name in names else f"argument number {symbol.ind}"
            raise FormulaError(message(f"alias {alias!r}: {what} is declared twice.", list(aliases)))
        known[symbol.ind], texts[symbol.ind] = symbol, alias.strip()
        if name is not None:
            names[name] = input_(symbol.ind, symbol.axis, symbol.dim)
    return names, known, texts


def _extend(known: dict[int, Symbol], texts: dict[int, str], variable: Expr) -> None:
    """Add a variable that the formula declares itself, Var(2, 1, 2)."""
    symbol = Symbol(variable.param("slot"), variable.dim, variable.param("axis"))
    found = known.setdefault(symbol.ind, symbol)
    if found != symbol:
        text = f"formula: argument number {symbol.ind} is {symbol} in the formula."
        raise FormulaError(message(text, f"declared: {texts[symbol.ind]}", "give each variable a place of its own."))
    texts.setdefault(symbol.ind, f"Var({symbol.ind},{symbol.dim},{'ijp'.index(symbol.axis)})")


# ---------------------------------------------------------------------- reductions as heads

SUFFIX = "_Reduction"
HEAD_HINT = "Sum_Reduction(F, 0) sums over j, Sum_Reduction(F, 1) over i; KMin_Reduction(F, K, 0)."


def head_of(text: str, aliases: tuple[str, ...]) -> Head | None:
    """The reduction that a formula names itself, with the derivatives of sums; None for a plain formula."""
    try:
        statements = tree(text.strip()).body
    except (SyntaxError, ValueError):
        return None  # the parser of formulas says what is wrong
    if len(statements) != 1 or not isinstance(statements[0], ast.Expr):
        return None
    return _head(text.strip(), statements[0].value, aliases)


def _head(text: str, node: ast.expr, aliases: tuple[str, ...]) -> Head | None:
    derivatives: list[tuple[str, ast.expr, ast.expr]] = []
    while _name(node) in ("Grad", "Diff") and len(cast(ast.Call, node).args) == 3:
        inner, v, direction = cast(ast.Call, node).args
        derivatives.append((_name(node), v, direction))
        node = inner
    head = _reduction(text, cast(ast.Call, node)) if _name(node).endswith(SUFFIX) else None
    for name, v, direction in reversed(derivatives if head is not None else []):
        assert head is not None
        head = _derivative(name, head, _segment(text, v), _segment(text, direction), aliases)
    return head


def _name(node: ast.expr) -> str:
    """What is called, if a name is called."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _segment(text: str, node: ast.expr) -> str:
    return ast.get_source_segment(text, node) or ""


def _reduction(text: str, node: ast.Call) -> Head:
    """The head of a reduction that is not differentiated."""
    name = _name(node)
    parts = [_segment(text, a) for a in node.args]
    name = name.removesuffix(SUFFIX)
    if name == "Zero" and len(parts) == 2:
        return Head("Sum", f"Zero({parts[0]})", _axis(text, parts[1]))
    takes_count = any("K" in r.params and name in (r.name, *r.aliases) for r in REDUCTIONS.values())
    opt_arg = _number(text, parts.pop(1)) if takes_count and len(parts) > 1 else None
    if len(parts) not in (2, 3):
        raise FormulaError(message(f"formula: {name}{SUFFIX} takes a formula and a category.", text, HEAD_HINT))
    return Head(name, parts[0], _axis(text, parts[1]), opt_arg, parts[2] if len(parts) == 3 else None)


def _derivative(name: str, inner: Head, v: str, direction: str, aliases: tuple[str, ...]) -> Head:
    """The derivative of a sum is a sum: along a direction over the same axis, for Grad over that on which v is not."""
    if inner.reduction_op != "Sum":
        raise UnsupportedError(
            message(
                f"formula: {name}({inner.reduction_op}{SUFFIX}(...)): formulas differentiate sums only.",
                hint="torch differentiates every reduction: Genred and LazyTensor on tensors that require gradients.",
            )
        )
    axis = inner.axis
    if name == "Grad":
        names, _, _ = _declarations(aliases)
        variable = parse(v, Language(names, FORMS))
        kept = variable.param("axis") if variable.name == "input" else "i"
        axis = 0 if kept == "j" else 1
    return Head("Sum", f"{name}({inner.formula}, {v}, {direction})", axis)


def _axis(text: str, tag: str) -> int:
    """The axis reduced over, from the category that remains."""
    remaining = _number(text, tag)
    if remaining not in (0, 1):
        raise FormulaError(message(f"formula: the category of a reduction is 0 or 1, not {tag}.", text, HEAD_HINT))
    return 1 - remaining


def _number(text: str, part: str) -> int:
    try:
        return int(part)
    except ValueError:
        raise FormulaError(message(f"formula: {part!r} is no whole number.", text, HEAD_HINT)) from None

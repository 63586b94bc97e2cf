"""The parser of the text form of formulas: what ir/text.py prints, and the formula language of KeOps.

In: text such as `exp(-g * SqDist(x, y))`, the meaning of its names, and the forms: names that are no operations of the
table, such as `IntCst` and `Grad`.  Out: expressions, or a FormulaError that points at the place.  The grammar is
Python's, read to a tree by ir/syntax.py and never evaluated.  KeOps' names (`SqDist(x, y)`), `x | y` and `**` are
understood.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn, cast

from ..errors import FormulaError, ShapeError, UnsupportedError, message
from .expr import Expr, Op, call, const, index, input_, leaf
from .ops import OPS, check_integers, lookup
from .syntax import tree

BINARY: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.BitAnd: "logical_and",
    ast.BitXor: "logical_xor",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
VARIABLE = re.compile(r"x(\d+)_([ijp])")
DECLARED = {"Vi": "i", "Vj": "j", "Pm": "p"}  # Vi(slot, dim), as in KeOps
WIDEST_LINE = 120  # characters of a formula that an error shows
DEEPEST_LITERAL = 8  # sequences within sequences; parameters are sequences at most
NUMBERS = {"inf": math.inf, "nan": math.nan}


# How a node is read: the parts whose meanings are needed are asked for one after the other.
Meaning = Generator[ast.expr, Any, Expr]


@dataclass(frozen=True, slots=True)
class Form:
    """A name that is no operation of the table, such as `IntCst` or `Grad`.

    args      how its arguments are read: "f" a formula, "s" a formula or a sequence of formulas, "n" a number or a list
              of numbers
    build     what it stands for, given the arguments
    optional  how many of the last arguments may be left out
    """

    args: str
    build: Callable[..., Expr]
    optional: int = 0


@dataclass(frozen=True, slots=True)
class Language:
    """What a text may say beyond the table of operations.

    names  the meaning of further identifiers
    forms  the meaning of further calls
    slot   the number of the first variable that is declared where it is used, by `Vi(3)`; None: none may be
    """

    names: Mapping[str, Expr]
    forms: Mapping[str, Form] = field(default_factory=dict)
    slot: int | None = None


def parse(text: str, names: Mapping[str, Expr] | Language | None = None) -> Expr:
    """The one formula that the text describes; `names` gives the meaning of further identifiers."""
    return _single(parse_all(text, names))


def _single(roots: tuple[Expr, ...]) -> Expr:
    if len(roots) != 1:
        raise FormulaError(f"the text describes {len(roots)} formulas, not one")
    return roots[0]


def parse_declaring(text: str, language: Language) -> tuple[Expr, tuple[Expr, ...]]:
    """The one formula that the text describes, and the variables that it declares where it uses them, `Var(2, 3, 0)`.

    Some of them may not be in the formula: Grad(x | v, v, 1) does not depend on v.
    """
    parser = _Parser(text.strip(), language)
    return _single(_read(parser)), tuple(parser.variables)


def parse_all(text: str, names: Mapping[str, Expr] | Language | None = None) -> tuple[Expr, ...]:
    """The formulas that the text describes."""
    language = names if isinstance(names, Language) else Language(names or {})
    return _read(_Parser(text.strip(), language))


def _read(parser: _Parser) -> tuple[Expr, ...]:
    text = parser.text
    try:
        return parser.formulas(tree(text))
    except SyntaxError as error:
        place = (error.lineno or 1, (error.offset or 1) - 1)
        raise FormulaError(_pointed(text, place, f"this is no formula: {error.msg}")) from None
    except (ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, (FormulaError, ShapeError, UnsupportedError)):
            raise
        raise FormulaError(
            message(
                "formula: it cannot be read.",
                str(error) or "it is nested too deeply",
                "name its parts: t = ...; exp(t)",
            )
        ) from None


def _pointed(text: str, place: tuple[int, int], what: str, hint: str = "") -> str:
    """An error text that shows the line and points at the column (counted in bytes, as ast does)."""
    number, column = place
    lines = text.splitlines() or [""]
    line = lines[min(number, len(lines)) - 1]
    before = len(line.encode()[: max(column, 0)].decode(errors="ignore"))
    if len(line) > WIDEST_LINE:
        first = max(0, before - WIDEST_LINE // 2)
        dots = "... " if first else ""
        line = dots + line[first : first + WIDEST_LINE] + (" ..." if first + WIDEST_LINE < len(line) else "")
        before += len(dots) - first
    return message(f"formula: {what}", [line, " " * before + "^"], hint)


def _place(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 1), getattr(node, "col_offset", 0)


class _Parser:
    """Walks a syntax tree; every method gives the meaning of one kind of node."""

    def __init__(self, text: str, language: Language):
        self.text = text
        self.names = dict(language.names)
        self.forms = language.forms
        self.slot = language.slot
        self.variables: dict[Expr, None] = {}  # in the order of the text

    def fail(self, place: ast.AST, what: str, hint: str = "") -> NoReturn:
        raise FormulaError(_pointed(self.text, _place(place), what, hint))

    def formulas(self, tree: ast.Module) -> tuple[Expr, ...]:
        if not tree.body:
            self.fail(tree, "it is empty.")
        for statement in tree.body[:-1]:
            self.define(statement)
        last = tree.body[-1]
        if not isinstance(last, ast.Expr):
            self.fail(last, "the last line has to be the formula itself.")
        if isinstance(last.value, (ast.List, ast.Tuple)):
            return tuple(self.value(v) for v in last.value.elts)
        return (self.value(last.value),)

    def define(self, statement: ast.stmt) -> None:
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            self.fail(statement, "every line but the last is a definition, name = formula.")
        target = statement.targets[0]
        if not isinstance(target, ast.Name):
            self.fail(target, "only names can be defined.")
        self.names[target.id] = self.value(statement.value)

    def value(self, node: ast.expr) -> Expr:
        """The meaning of a node. Methods that need those of its parts ask by `yield`: no recursion, however deep."""
        stack: list[Meaning] = []
        answer = self.begin(node, stack)
        while stack:
            try:
                part = stack[-1].send(answer)
            except StopIteration as end:
                stack.pop()
                answer = end.value
            else:
                answer = self.begin(part, stack)
        assert answer is not None
        return answer

    def begin(self, node: ast.expr, stack: list[Meaning]) -> Expr | None:
        """The meaning of a node without parts; that of others is put on the stack."""
        method: Callable[[Any], Expr | Meaning] | None = getattr(self, "on_" + type(node).__name__, None)
        if method is None:
            self.fail(node, f"{type(node).__name__.lower()} has no meaning here.")
        found = method(node)
        if isinstance(found, Expr):
            return found
        stack.append(found)
        return None

    def build(self, place: ast.AST, name: str, *args: Expr, **params: Any) -> Expr:
        """call(), its errors pointing at the place."""

        def make() -> Expr:
            check_integers(name, args)
            return call(name, *args, **params)

        return self.guarded(place, name, make)

    def guarded(self, place: ast.AST, name: str, make: Callable[[], Expr]) -> Expr:
        """What `make` makes, its errors pointing at the place."""
        try:
            return make()
        except ShapeError as error:
            raise ShapeError(_pointed(self.text, _place(place), str(error))) from None
        except UnsupportedError as error:
            raise UnsupportedError(_pointed(self.text, _place(place), str(error))) from None
        except (FormulaError, TypeError, AttributeError) as error:
            self.fail(place, str(error) if str(error).startswith(name) else f"{name}: {error}")

    # leaves ------------------------------------------------------------
    def on_Constant(self, node: ast.Constant) -> Expr:
        if isinstance(node.value, (bool, float)):
            return const(node.value)
        if isinstance(node.value, int):
            return const(node.value, "index")
        self.fail(node, f"{node.value!r} is no real number.")

    def on_Name(self, node: ast.Name) -> Expr:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in ("i", "j"):
            return index(node.id)
        if node.id in NUMBERS:
            return const(NUMBERS[node.id])
        if VARIABLE.fullmatch(node.id):
            self.fail(node, f"the variable {node.id} lacks its length.", f"write {node.id}[3] for vectors of length 3")
        known = [*self.names, *OPS]
        self.fail(node, f"there is nothing called {node.id!r}.", _near(node.id, known))

    def on_Subscript(self, node: ast.Subscript) -> Meaning:
        """x0_i[3] is the variable of slot 0 with length 3; after anything else, brackets take components."""
        found = VARIABLE.fullmatch(node.value.id) if isinstance(node.value, ast.Name) else None
        if found and found[0] not in self.names:
            return self.variable(node, int(found[1]), found[2], self.literal(node.slice))
        x = yield node.value
        if not isinstance(node.slice, ast.Slice):
            return self.build(node, "elem", x, index=self.whole(node.slice))
        if node.slice.step is not None:
            self.fail(node, "a range of components has no step.")
        start = 0 if node.slice.lower is None else self.whole(node.slice.lower)
        stop = x.dim if node.slice.upper is None else self.whole(node.slice.upper)
        return self.build(node, "extract", x, start=start, size=stop - start)

    def variable(self, place: ast.AST, slot: Any, axis: Any, dim: Any) -> Expr:
        if not (isinstance(slot, int) and isinstance(dim, int) and slot >= 0 and dim >= 1):
            self.fail(place, f"a variable has a slot from 0 and a length from 1, not {slot!r} and {dim!r}.")
        variable = input_(slot, axis, dim)
        self.variables[variable] = None
        return variable

    # operators ---------------------------------------------------------
    def on_UnaryOp(self, node: ast.UnaryOp) -> Meaning:
        operand = node.operand
        if isinstance(node.op, ast.USub):
            if isinstance(operand, ast.Constant) or (isinstance(operand, ast.Name) and operand.id in NUMBERS):
                number = yield operand
                return const(-number.param("value"), number.kind)
            return self.build(node, "neg", (yield operand))
        if isinstance(node.op, ast.Invert):
            return self.build(node, "logical_not", (yield operand))
        self.fail(node, "of the signs, only - and ~ are known.")

    def on_BinOp(self, node: ast.BinOp) -> Meaning:
        if isinstance(node.op, ast.Pow):
            return (yield from self.power(node))
        left, right = (yield node.left), (yield node.right)
        if isinstance(node.op, ast.BitOr):
            truth = left.kind == right.kind == "bool"
            return self.build(node, "logical_or" if truth else "dot", left, right)
        if isinstance(node.op, ast.Mod):
            return self.build(node, "mod", left, right, const(0, right.kind))
        if type(node.op) not in BINARY:
            self.fail(node, f"the operator {type(node.op).__name__} has no meaning here.")
        return self.build(node, BINARY[type(node.op)], left, right)

    def power(self, node: ast.BinOp) -> Meaning:
        base, exponent = (yield node.left), (yield node.right)
        if exponent.is_const() and exponent.kind == "index":
            n: int = exponent.param("value")
            return self.build(node, "square", base) if n == 2 else self.build(node, "powi", base, n=n)
        if exponent.is_const(0.5):
            return self.build(node, "sqrt", base)
        if exponent.is_const(-0.5):
            return self.build(node, "rsqrt", base)
        return self.build(node, "pow", base, exponent)

    def on_Compare(self, node: ast.Compare) -> Meaning:
        if len(node.ops) > 1:
            self.fail(node, "comparisons cannot be chained.", "write (x < y) & (y < z)")
        if type(node.ops[0]) not in BINARY:
            self.fail(node, "this comparison has no meaning here.")
        left, right = (yield node.left), (yield node.comparators[0])
        return self.build(node, BINARY[type(node.ops[0])], left, right)

    # calls -------------------------------------------------------------
    def on_Call(self, node: ast.Call) -> Meaning:
        if not isinstance(node.func, ast.Name):
            self.fail(node, "only operations can be called.")
        name = node.func.id
        if name in DECLARED or name == "Var":
            return self.declared(node, name)
        if name in self.forms:
            return (yield from self.form(node, name, self.forms[name]))
        try:
            op = lookup(name)
        except KeyError:
            names = [*OPS, *(alias for op in OPS.values() for alias in op.aliases), *self.forms]
            self.fail(node, f"there is no operation called {name!r}.", _near(name, names))
        args: list[Expr] = []
        for part in node.args[: op.arity]:
            args.append((yield part))
        params = self.params(node, op)
        if op.name == "slot":
            return leaf("slot", params.pop("kind", "real"), **params)
        if op.arity == 0 and op.name != "arange":
            self.fail(
                node, f"{op.name} is not called.", "write x0_i[3] for variables, 2.0 for numbers, i and j for indices"
            )
        if len(args) != op.arity:
            self.fail(node, f"{name} takes {op.arity} arguments, not {len(args)}.")
        return self.build(node, op.name, *args, **params)

    def form(self, node: ast.Call, name: str, form: Form) -> Meaning:
        """A name of the language that is no operation; its arguments come by place."""
        least, most = len(form.args) - form.optional, len(form.args)
        if node.keywords or not least <= len(node.args) <= most:
            count = str(most) if least == most else f"{least} to {most}"
            self.fail(node, f"{name} takes {count} arguments, by place, not {len(node.args) + len(node.keywords)}.")
        kinds = zip(form.args, node.args, strict=False)
        args: list[Any] = []
        for kind, part in kinds:
            args.append((yield from self.argument(kind, part)))
        return self.guarded(node, name, lambda: form.build(*args))

    def argument(self, kind: str, node: ast.expr) -> Generator[ast.expr, Any, Any]:
        if kind == "s" and isinstance(node, (ast.Tuple, ast.List)):
            parts: list[Expr] = []
            for part in node.elts:
                parts.append((yield part))
            return parts
        return self.literal(node) if kind == "n" else (yield node)

    def params(self, node: ast.Call, op: Op) -> dict[str, Any]:
        """The parameters of a call, by place behind the arguments or by name."""
        extra = node.args[op.arity :]
        if len(extra) > len(op.params):
            self.fail(
                node, f"{op.name} takes {op.arity} arguments and {len(op.params)} parameters, not {len(node.args)}."
            )
        given = dict(zip(op.params, extra, strict=False))
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in given:
                self.fail(keyword, f"{op.name}: {keyword.arg or '**'} is given twice, or has no meaning here.")
            given[keyword.arg] = keyword.value
        allowed = {*op.params, "kind"} if op.name == "slot" else {*op.params}
        if not set(op.params) <= set(given) <= allowed:
            wanted = ", ".join(op.params) or "no parameters"
            self.fail(node, f"{op.name} takes {wanted}, not {', '.join(given) or 'none'}.")
        values = {key: self.literal(value) for key, value in given.items()}
        for key, example in op.samples[0][1].items() if op.samples else ():
            if not _alike(values[key], example):
                self.fail(given[key], f"{op.name}: {key} is like {example!r}, not like {values[key]!r}.")
        return values

    def declared(self, node: ast.Call, name: str) -> Expr:
        """Vi(slot, dim), Vj(slot, dim), Pm(slot, dim), Var(slot, dim, category)."""
        values = [self.literal(a) for a in node.args]
        if len(values) == 1 and name != "Var" and self.slot is not None:
            values.insert(0, self.slot)
            self.slot += 1
        if len(values) != 2 + (name == "Var") or node.keywords:
            self.fail(node, f"{name} takes a slot and a length{', and 0, 1 or 2' if name == 'Var' else ''}.")
        if name == "Var" and values[2] not in (0, 1, 2):
            self.fail(node, "the category of a variable is 0 (of i), 1 (of j) or 2 (a parameter).")
        return self.variable(node, values[0], DECLARED[name] if name in DECLARED else "ijp"[values[2]], values[1])

    def whole(self, node: ast.expr) -> int:
        """The value of a parameter that is a whole number."""
        value = self.literal(node)
        if not _alike(value, 0):
            self.fail(node, f"components have whole numbers, not {value!r}.")
        return value

    def literal(self, node: ast.expr, depth: int = 0) -> Any:
        """The value of a parameter: a number, a text, or a sequence of these."""
        if depth > DEEPEST_LITERAL:
            self.fail(node, "a parameter is a number or a sequence of numbers.")
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(self.literal(v, depth + 1) for v in node.elts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.literal(node.operand, depth + 1)
            if isinstance(inner, (int, float)):
                return -inner
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str, type(None))):
            return node.value
        if isinstance(node, ast.Name) and node.id in NUMBERS:
            return NUMBERS[node.id]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Ind":
            return tuple(self.literal(v, depth + 1) for v in node.args)
        self.fail(node, "a parameter is a number or a sequence of numbers.")


def _alike(value: Any, example: Any) -> bool:
    """Is a parameter of the type of the example: a whole number, a number, or a sequence of whole numbers?"""
    if isinstance(example, tuple):
        return isinstance(value, tuple) and all(_alike(v, 0) for v in cast("tuple[Any, ...]", value))
    return isinstance(value, (int, float) if isinstance(example, float) else int) and not isinstance(value, bool)


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else "`python -m pairfuse ops` lists the operations"

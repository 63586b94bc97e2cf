"""Syntax trees of formula strings, however deep they are nested.

In: a text in Python's grammar.  Out: the tree that `ast.parse` gives, or a SyntaxError.

Python's own parser gives up at 200 nested brackets, and at sums of some thousand terms.  What it cannot read for that
reason is read here, without recursion: numbers, names, operators, calls, lists and brackets of components, which is
all that formulas are made of.  Nodes have the positions that Python gives them.
"""

from __future__ import annotations

import ast
import keyword
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

TOO_DEEP = "too many nested parentheses"  # what Python says of the 200th bracket

TOKEN = re.compile(
    r"(?P<skip>[ \t\f]+|\#[^\n]*|\\\n)"
    r"|(?P<number>0[xob]\w+|(?:\d[\d_]*\.?(?:\d[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?[jJ]?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<text>'[^'\\\n]*'|\"[^\"\\\n]*\")"
    r"|(?P<line>[\n;])"
    r"|(?P<sign>\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%@&|^~<>()\[\],:=.])"
)
COMPARISONS: dict[str, type[ast.cmpop]] = {
    "<": ast.Lt,
    "<=": ast.LtE,
    ">": ast.Gt,
    ">=": ast.GtE,
    "==": ast.Eq,
    "!=": ast.NotEq,
}
BINARY: dict[str, tuple[int, type[ast.operator]]] = {
    "|": (2, ast.BitOr),
    "^": (3, ast.BitXor),
    "&": (4, ast.BitAnd),
    "<<": (5, ast.LShift),
    ">>": (5, ast.RShift),
    "+": (6, ast.Add),
    "-": (6, ast.Sub),
    "*": (7, ast.Mult),
    "/": (7, ast.Div),
    "//": (7, ast.FloorDiv),
    "%": (7, ast.Mod),
    "@": (7, ast.MatMult),
    "**": (9, ast.Pow),
}
UNARY: dict[str, type[ast.unaryop]] = {"-": ast.USub, "+": ast.UAdd, "~": ast.Invert}
COMPARISON_LEVEL, UNARY_LEVEL, POWER_LEVEL = 1, 8, 9
VALUES = {"True": True, "False": False, "None": None}
WORDS = frozenset({*keyword.kwlist} - {*VALUES})


def tree(text: str) -> ast.Module:
    """The syntax tree of a text; raises SyntaxError or ValueError, as `ast.parse` does."""
    try:
        return ast.parse(text, filename="<formula>")
    except (RecursionError, MemoryError):
        pass
    except SyntaxError as error:
        if TOO_DEEP not in error.msg:
            raise
    return deep_tree(text)


def deep_tree(text: str) -> ast.Module:
    """The same, read without recursion."""
    return _Reader(text).module()


@dataclass(slots=True)
class _Part:
    """An expression, and where it begins and ends with the brackets around it."""

    node: Any
    start: int
    end: int
    bracketed: bool = False


@dataclass(slots=True)
class _Frame:
    """What is open: a bracket, or the line itself.

    kind       "line", "(", "[" (a list), "call" or "part" (components)
    start      where it begins
    of         what is called, or whose components are taken
    operands, operators   of the expression that is being read; an operator is (level, sign, place)
    items      the expressions before it
    limits     of a range of components: what stands before each colon
    """

    kind: str
    start: int
    of: _Part | None = None
    operands: list[_Part] = field(default_factory=list)
    operators: list[tuple[int, str, int]] = field(default_factory=list)
    items: list[_Part] = field(default_factory=list)
    keywords: list[ast.keyword] = field(default_factory=list)
    keyword: tuple[str, int] | None = None
    limits: list[Any] = field(default_factory=list)
    comma: bool = False
    target: _Part | None = None


class _Reader:
    """Reads operators by their precedence, with a stack of what is open instead of recursion."""

    def __init__(self, text: str):
        self.text, self.ascii = text, text.isascii()
        self.lines = [0, *(k + 1 for k, c in enumerate(text) if c == "\n")]
        self.frames = [_Frame("line", 0)]
        self.wants_operand = True
        self.body: list[ast.stmt] = []

    # ------------------------------------------------------------------ places
    def place(self, offset: int) -> tuple[int, int]:
        """Number of the line and column, in bytes."""
        line = bisect_right(self.lines, offset)
        start = self.lines[line - 1]
        return line, offset - start if self.ascii else len(self.text[start:offset].encode())

    def fail(self, offset: int, what: str = "invalid syntax") -> SyntaxError:
        line, column = self.place(min(offset, max(0, len(self.text) - 1)))
        return SyntaxError(what, ("<formula>", line, column + 1, None))

    def make(self, kind: Any, start: int, end: int, **fields: Any) -> Any:
        """A node of the tree."""
        (line, column), (end_line, end_column) = self.place(start), self.place(end)
        where = {"lineno": line, "col_offset": column, "end_lineno": end_line, "end_col_offset": end_column}
        return kind(**fields, **where)

    # ------------------------------------------------------------------ the walk over the text
    def module(self) -> ast.Module:
        offset = 0
        while offset < len(self.text):
            found = TOKEN.match(self.text, offset)
            if found is None:
                raise self.fail(offset)
            offset = found.end()
            kind = found.lastgroup
            if kind == "line":
                if found[0] == ";" or len(self.frames) == 1:
                    self.end_line(found.start())
            elif kind != "skip":
                (self.operand if self.wants_operand else self.operator)(kind or "", found[0], found.start(), offset)
        self.end_line(len(self.text))
        return ast.Module(body=self.body, type_ignores=[])

    def end_line(self, offset: int) -> None:
        if len(self.frames) > 1:
            raise self.fail(self.frames[-1].start, f"'{self.text[self.frames[-1].start]}' was never closed")
        frame = self.frames[0]
        if self.wants_operand and not frame.operators and not frame.items and frame.target is None:
            return  # an empty line
        value = self.tuple_of(frame, offset)
        if frame.target is None:
            self.body.append(self.make(ast.Expr, value.start, value.end, value=value.node))
        else:
            start, target = frame.target.start, frame.target.node
            if isinstance(target, ast.Name):
                target.ctx = ast.Store()
            self.body.append(self.make(ast.Assign, start, value.end, targets=[target], value=value.node))
        self.frames[0] = _Frame("line", offset)
        self.wants_operand = True

    def operand(self, kind: str, token: str, start: int, end: int) -> None:
        """A token where an expression begins."""
        frame = self.frames[-1]
        if kind == "sign":
            if token in UNARY:
                frame.operators.append((UNARY_LEVEL, token, start))
            elif token in "([":
                self.frames.append(_Frame(token, start))
            elif token in ")]" and not frame.operators and frame.keyword is None:
                self.close(token, start, end)
            elif token == ":" and frame.kind == "part" and not frame.operators and not frame.items:
                frame.limits.append(None)
            else:
                raise self.fail(start)
            return
        if kind == "name" and token in WORDS:
            raise self.fail(start, f"{token} has no meaning here")
        if kind == "name" and token not in VALUES:
            node = self.make(ast.Name, start, end, id=token, ctx=ast.Load())
        else:
            value = VALUES[token] if kind == "name" else self.literal(token, start)
            node = self.make(ast.Constant, start, end, value=value)
        frame.operands.append(_Part(node, start, end))
        self.wants_operand = False

    def literal(self, token: str, start: int) -> Any:
        try:
            return ast.literal_eval(token)
        except (ValueError, SyntaxError):
            raise self.fail(start, "invalid number") from None

    def operator(self, kind: str, token: str, start: int, end: int) -> None:
        """A token behind an expression."""
        frame = self.frames[-1]
        if kind != "sign" or token == "~":
            raise self.fail(start, f"{token} has no meaning here" if token in WORDS else "invalid syntax")
        if token in "([":
            of = frame.operands.pop()
            self.frames.append(_Frame("call" if token == "(" else "part", start, of))
        elif token in ")]":
            self.close(token, start, end)
            return
        elif token == ",":
            if frame.limits:
                raise self.fail(start)
            self.end_item(frame)
            frame.comma = True
        elif token == ":" and frame.kind == "part" and not frame.items:
            frame.limits.append(self.expression(frame).node)
        elif token == "=":
            self.name(frame, start)
        elif token in COMPARISONS:
            self.reduce(frame, COMPARISON_LEVEL)
            frame.operators.append((COMPARISON_LEVEL, token, start))
        elif token in BINARY:
            level = BINARY[token][0]
            self.reduce(frame, level + (level == POWER_LEVEL))
            frame.operators.append((level, token, start))
        else:
            raise self.fail(start)
        self.wants_operand = True

    def name(self, frame: _Frame, start: int) -> None:
        """What stands before `=`: a parameter in a call, a definition in a line."""
        part = self.expression(frame)
        if frame.kind == "call" and isinstance(part.node, ast.Name) and frame.keyword is None:
            frame.keyword = (part.node.id, part.start)
        elif frame.kind == "line" and frame.target is None and not frame.items:
            frame.target = part
        else:
            raise self.fail(start)

    # ------------------------------------------------------------------ expressions
    def reduce(self, frame: _Frame, level: int) -> None:
        """Apply the operators that bind at least so tight."""
        while frame.operators and frame.operators[-1][0] >= level:
            binding, sign, place = frame.operators.pop()
            right = frame.operands.pop()
            if binding == UNARY_LEVEL:
                node = self.make(ast.UnaryOp, place, right.end, op=UNARY[sign](), operand=right.node)
                frame.operands.append(_Part(node, place, right.end))
                continue
            left = frame.operands.pop()
            if binding != COMPARISON_LEVEL:
                fields = {"left": left.node, "op": BINARY[sign][1](), "right": right.node}
                node = self.make(ast.BinOp, left.start, right.end, **fields)
            elif isinstance(left.node, ast.Compare) and not left.bracketed:
                ops, rest = [*left.node.ops, COMPARISONS[sign]()], [*left.node.comparators, right.node]
                node = self.make(ast.Compare, left.start, right.end, left=left.node.left, ops=ops, comparators=rest)
            else:
                fields = {"left": left.node, "ops": [COMPARISONS[sign]()], "comparators": [right.node]}
                node = self.make(ast.Compare, left.start, right.end, **fields)
            frame.operands.append(_Part(node, left.start, right.end))

    def expression(self, frame: _Frame) -> _Part:
        """The expression that ends here."""
        self.reduce(frame, 0)
        return frame.operands.pop()

    def end_item(self, frame: _Frame) -> None:
        part = self.expression(frame)
        if frame.keyword is None:
            if frame.keywords:
                raise self.fail(part.start, "positional argument follows keyword argument")
            frame.items.append(part)
            return
        name, start = frame.keyword
        frame.keywords.append(self.make(ast.keyword, start, part.end, arg=name, value=part.node))
        frame.keyword = None

    def tuple_of(self, frame: _Frame, offset: int) -> _Part:
        """What the items of a frame are together: the one without a comma, or a tuple."""
        if not self.wants_operand:
            self.end_item(frame)
        elif frame.operators or not frame.items:
            raise self.fail(offset)
        if not frame.comma:
            return frame.items[0]
        first, last = frame.items[0].start, frame.items[-1].end
        node = self.make(ast.Tuple, first, last, elts=[p.node for p in frame.items], ctx=ast.Load())
        return _Part(node, first, last)

    def close(self, token: str, start: int, end: int) -> None:
        """A bracket is closed: what stands in it is an operand of what stands around it."""
        frame = self.frames.pop()
        if not self.frames or token != (")" if frame.kind in ("(", "call") else "]"):
            raise self.fail(start, f"unmatched '{token}'")
        if frame.kind == "part":
            part = self.components(frame, start, end)
        else:
            if not self.wants_operand:
                self.end_item(frame)
            part = self.bracket(frame, end)
        self.frames[-1].operands.append(part)
        self.wants_operand = False

    def bracket(self, frame: _Frame, end: int) -> _Part:
        nodes = [p.node for p in frame.items]
        if frame.kind == "call":
            assert frame.of is not None
            of, keywords = frame.of, frame.keywords
            return _Part(self.make(ast.Call, of.start, end, func=of.node, args=nodes, keywords=keywords), of.start, end)
        if frame.kind == "(" and len(nodes) == 1 and not frame.comma:
            return _Part(nodes[0], frame.start, end, bracketed=True)
        kind = ast.Tuple if frame.kind == "(" else ast.List
        return _Part(self.make(kind, frame.start, end, elts=nodes, ctx=ast.Load()), frame.start, end)

    def components(self, frame: _Frame, start: int, end: int) -> _Part:
        assert frame.of is not None
        if frame.limits:
            last = None if self.wants_operand else self.expression(frame)
            limits = [*frame.limits, None if last is None else last.node, None]
            if len(frame.limits) > 2 or frame.operators:
                raise self.fail(start)
            fields = dict(zip(("lower", "upper", "step"), limits, strict=False))
            inner: Any = self.make(ast.Slice, frame.start + 1, start, **fields)
        else:
            inner = self.tuple_of(frame, start).node
        of = frame.of
        return _Part(self.make(ast.Subscript, of.start, end, value=of.node, slice=inner, ctx=ast.Load()), of.start, end)

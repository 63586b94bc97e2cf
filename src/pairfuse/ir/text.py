"""The text form of formulas: printer and digest; the parser is in ir/parse.py, and offered here beside the printer.

In: expressions.  Out: text such as

    t0 = x0_i[3] - x1_j[3]
    exp(-sum_d(t0 * t0, group=3))

`parse_all(to_text(*roots)) == roots`, node for node.  Variables are written with slot, axis and length, `x0_i[3]`;
integers are exact (`i + 1`), numbers have a point (`2.0`); `i` and `j` are the numbers of row and column.  Nodes that
are used several times get a name, so that the text is as long as the formula has nodes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .expr import Expr, toposort
from .parse import parse, parse_all

__all__ = ["digest", "parse", "parse_all", "to_text"]

WIDTH = 100  # a part that gets longer is given a name; it also bounds the nesting, of which Python's parser allows 200

# operation: (symbol, precedence); the operands of comparisons and the right operands of all others bind tighter
INFIX = {
    "lt": ("<", 1),
    "le": ("<=", 1),
    "gt": (">", 1),
    "ge": (">=", 1),
    "eq": ("==", 1),
    "ne": ("!=", 1),
    "add": ("+", 2),
    "sub": ("-", 2),
    "mul": ("*", 3),
    "div": ("/", 3),
    "floordiv": ("//", 3),
}
UNARY, ATOM = 4, 5


def to_text(*roots: Expr, separator: str = "\n") -> str:
    """The text of the roots: the named parts, one for each line, then the roots (in brackets, if there are several).

    With `separator="; "` it is one line.
    """
    uses = Counter(a for node in toposort(*roots) for a in node.args)
    names: dict[Expr, str] = {}
    shown: dict[Expr, tuple[str, int]] = {}
    lines: list[str] = []
    for node in toposort(*roots):
        text, precedence = _shown(node, shown)
        if node.args and (uses[node] + (node in roots) > 1 or (uses[node] and len(text) > WIDTH)):
            names[node] = f"t{len(names)}"
            lines.append(f"{names[node]} = {text}")
            text, precedence = names[node], ATOM
        shown[node] = (text, precedence)
    results = [shown[r][0] for r in roots]
    lines.append(results[0] if len(results) == 1 else f"[{', '.join(results)}]")
    return separator.join(lines)


def digest(roots: Iterable[Expr]) -> str:
    """SHA-256 of the canonical text (one line for each node): the same in every process."""
    lines: list[str] = []
    places: dict[Expr, str] = {}
    roots = tuple(roots)
    for node in toposort(*roots):
        places[node] = f"t{len(places)}"
        lines.append(f"{places[node]} = {_shown_call(node, [places[a] for a in node.args])} : {node.kind}")
    lines.append(" ".join(places[r] for r in roots))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _shown(node: Expr, shown: Mapping[Expr, tuple[str, int]]) -> tuple[str, int]:
    """Text and precedence of a node whose arguments have theirs."""
    if not node.args:
        return _shown_leaf(node)
    if node.name in INFIX:
        symbol, level = INFIX[node.name]
        left, right = (shown[a] for a in node.args)
        return f"{_wrapped(left, level + (level == 1))} {symbol} {_wrapped(right, level + 1)}", level
    if node.name == "neg" and not node.args[0].is_const():  # -2.0 is the number
        return f"-{_wrapped(shown[node.args[0]], UNARY)}", UNARY
    return _shown_call(node, [shown[a][0] for a in node.args]), ATOM


def _wrapped(part: tuple[str, int], level: int) -> str:
    return part[0] if part[1] >= level else f"({part[0]})"


def _shown_leaf(node: Expr) -> tuple[str, int]:
    if node.name == "input":
        return f"x{node.param('slot')}_{node.param('axis')}[{node.dim}]", ATOM
    if node.name == "index":
        return node.param("axis"), ATOM
    if node.name == "const":
        text = repr(node.param("value"))
        return text, UNARY if text.startswith("-") else ATOM
    return _shown_call(node, []), ATOM


def _shown_call(node: Expr, args: Sequence[str]) -> str:
    order = node.op.params or [name for name, _ in node.params]
    params = [f"{name}={node.param(name)!r}" for name in order]
    if not node.args and node.kind != node.op.kind:
        params.append(f"kind={node.kind!r}")
    return f"{node.name}({', '.join([*args, *params])})"

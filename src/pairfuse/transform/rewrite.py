"""Rewriting by named rules.

In: formulas and a table of rules.  Out: formulas of the same length and kind, to which no rule of the table applies.
Every rule carries its algebra as its name, which is also an example of it that the tests execute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..ir.expr import Expr, as_kind, call, toposort, with_args

Report = Callable[[str, Expr, Expr], None]

# Rules make formulas smaller or bring them into a fixed order, so that they end by themselves; a table in which two
# rules undo each other ends here. What stands then is right, and only less simple.
MAX_PASSES = 50
MAX_STEPS = 50

ANY = "*"  # a rule for every operation


@dataclass(frozen=True, slots=True)
class Rule:
    """Rewrite a node of operation `op`: the new expression, or None where the rule does not apply.

    algebra   "before -> after", in the language of ir/text.py; x, y, z are vectors of length 3, s and t numbers, c
              three truth values and d one, k and l indices
    """

    algebra: str
    op: str
    apply: Callable[[Expr], Expr | None]


def unary(op: str, algebra: str, apply: Callable[[Expr], Expr | None]) -> Rule:
    """A rule that looks at the argument of the node."""
    return Rule(algebra, op, lambda node: apply(node.args[0]))


def binary(op: str, algebra: str, apply: Callable[[Expr, Expr], Expr | None]) -> Rule:
    """A rule that looks at both arguments of the node."""
    return Rule(algebra, op, lambda node: apply(node.args[0], node.args[1]))


def ternary(op: str, algebra: str, apply: Callable[[Expr, Expr, Expr], Expr | None]) -> Rule:
    """A rule that looks at the three arguments of the node."""
    return Rule(algebra, op, lambda node: apply(node.args[0], node.args[1], node.args[2]))


def rewrite(roots: Iterable[Expr], rules: Sequence[Rule], report: Report | None = None) -> tuple[Expr, ...]:
    """Apply the rules, bottom-up and again, until none applies; `report(algebra, before, after)` is told of each."""
    roots = tuple(roots)
    table: dict[str, list[Rule]] = {}
    for rule in rules:
        table.setdefault(rule.op, []).append(rule)
    settled: set[Expr] = set()
    for _ in range(MAX_PASSES):
        new: dict[Expr, Expr] = {}
        for node in toposort(*roots):
            # a constant argument of another kind would make another node of the parent: hence as_kind
            same = as_kind(with_args(node, tuple(new[a] for a in node.args)), node.kind)
            new[node] = _settle(same, table, settled, report)
        before, roots = roots, tuple(new[r] for r in roots)
        if roots == before:
            break
    return roots


def _settle(node: Expr, table: dict[str, list[Rule]], settled: set[Expr], report: Report | None) -> Expr:
    """Apply rules at the top of the node while one applies."""
    for _ in range(MAX_STEPS):
        if node in settled:
            return node
        after = _step(node, table, report)
        if after is node:
            settled.add(node)
            return node
        node = after
    return node


def _step(node: Expr, table: dict[str, list[Rule]], report: Report | None) -> Expr:
    for rule in (*table.get(node.name, ()), *table.get(ANY, ())):
        found = rule.apply(node)
        if found is None:
            continue
        after = _like(found, node)
        if after is not node:
            if report is not None:
                report(rule.algebra, node, after)
            return after
    return node


def _like(found: Expr, node: Expr) -> Expr:
    """What a rule has found, with the kind and the length of the node that it stands for."""
    found = as_kind(found, node.kind)
    return call("repeat", found, times=node.dim) if found.dim == 1 < node.dim else found

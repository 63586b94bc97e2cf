"""The kernel: the staged program of a problem, shared by all backends.

In: a problem and its expanded, simplified formulas.  Out: a `Kernel`, whose stages are lists of vector expressions:

    parameter   what depends on neither axis, computed once per batch
    row         what depends on the kept axis only, computed once per row
    column      what depends on the reduced axis only, computed once per column, when a chunk of columns is packed
    pair        the terms: what depends on both
    state       the machine of the reduction: guard, revise, update, merge, finalize

A stage hands its results to the later ones through `field` leaves, numbered by their place in the stage's storage.
Vectors that the loops of a stage would compute again and again (keep.py) are computed before them, and stored until the
stage has ended: they are `kept` leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..ir.expr import OPS, Expr, Op, leaf, register, toposort, with_args
from ..ir.reductions import Machine, Slot
from ..ir.text import to_text
from .keep import kept_vectors
from .problem import Problem
from .scalar import KEPT

register(Op("field", 0, lambda stage, offset, dim, axis: dim, doc="A value that an earlier stage has stored."))
register(Op(KEPT, 0, lambda stage, offset, dim, axes: dim, doc="A vector stored for the loops of its stage."))


@dataclass(frozen=True, slots=True)
class Field:
    """A vector computed by a stage and stored at `offset` (in components)."""

    expr: Expr
    offset: int
    leaf: Expr


@dataclass(frozen=True, slots=True)
class Kernel:
    """The staged program."""

    problem: Problem
    parameter: tuple[Field, ...]
    row: tuple[Field, ...]
    column: tuple[Field, ...]
    terms: tuple[Expr, ...]
    machine: Machine
    kept: tuple[Field, ...] = ()

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self.machine.slots

    def width(self, stage: str) -> int:
        """Components that a stage stores."""
        return sum(f.expr.dim for f in self.fields(stage))

    def fields(self, stage: str) -> tuple[Field, ...]:
        return {"parameter": self.parameter, "row": self.row, "column": self.column}[stage]

    def kept_of(self, stage: str) -> tuple[Field, ...]:
        """The vectors that a stage keeps, in the order in which they are computed."""
        return tuple(f for f in self.kept if f.leaf.param("stage") == stage)

    def kept_width(self, stage: str) -> int:
        """Components of all vectors that a stage keeps."""
        return sum(f.expr.dim for f in self.kept_of(stage))

    def definition(self, node: Expr) -> Expr:
        """The expression that a field stands for; other expressions stand for themselves."""
        if node.name != "field":
            return node
        return next(f.expr for f in self.fields(node.param("stage")) if f.leaf is node)

    def __str__(self) -> str:
        lines = [f"kernel {self.problem.reduction} over {self.problem.over}, {self.problem.dtype}"]
        for stage in ("parameter", "row", "column"):
            for f in self.fields(stage):
                lines.append(f"  {stage:9} [{f.offset}:{f.offset + f.expr.dim}] = {_text(f.expr)}")
        for f in self.kept:
            stage = f.leaf.param("stage")
            lines.append(f"  {stage:9} kept [{f.offset}:{f.offset + f.expr.dim}] = {_text(f.expr)}")
        for k, term in enumerate(self.terms):
            lines.append(f"  pair      F{k}[{term.dim}] = {_text(term)}")
        for s in self.slots:
            kind = "sum" if s.additive else s.kind
            lines.append(f"  state     {s.name}[{s.dim}] = {s.init} ({kind})")
        return "\n".join(lines)


_FIELD = re.compile(r"(field|kept)\((?:axis|axes)='\w*', dim=(\d+), offset=(\d+), stage='(\w+)'\)")


def _text(expr: Expr) -> str:
    """The text of an expression in one line, a field as the place where it is stored: row[0:3]."""
    line = to_text(expr, separator="; ")

    def place(m: re.Match[str]) -> str:
        name = m[4] if m[1] == "field" else m[1]
        return f"{name}[{m[3]}:{int(m[3]) + int(m[2])}]"

    return _FIELD.sub(place, line)


class _Stage:
    """The fields of one stage while they are collected."""

    def __init__(self, name: str):
        self.name = name
        self.fields: dict[Expr, Field] = {}
        self.width = 0

    def field(self, expr: Expr, value: Expr) -> Expr:
        """The leaf that stands for `expr`, whose definition in this stage is `value`."""
        found = self.fields.get(expr)
        if found is None:
            axes = "p" if self.name == "parameter" else next(iter(expr.axes))
            node = leaf("field", expr.kind, stage=self.name, offset=self.width, dim=expr.dim, axis=axes)
            found = self.fields[expr] = Field(value, self.width, node)
            self.width += expr.dim
        return found.leaf


def _is_part(node: Expr) -> bool:
    """Is it one of the components of an input?"""
    return node.name == "extract" and node.args[0].name == "input"


def lower(problem: Problem, formulas: Iterable[Expr]) -> Kernel:
    """Cut the formulas into stages."""
    formulas = tuple(formulas)
    stages = {name: _Stage(name) for name in ("parameter", "row", "column")}
    of_axes = {frozenset(): "parameter", frozenset({problem.rows}): "row", frozenset({problem.columns}): "column"}

    def stage_of(node: Expr) -> str:
        return of_axes.get(node.axes, "pair")

    new: dict[Expr, Expr] = {}

    seen: dict[tuple[Expr, str], Expr] = {}

    def handed_on(node: Expr, to: str) -> Expr:
        """The node as the stage `to` sees it: itself, or the field that an earlier stage has stored.

        What is no number is never stored: cheap, and not of the storage's type. Its arguments are handed on instead;
        and of a parameter the whole vector, not each of its parts.
        """
        stack = [node]
        while stack:
            part = stack[-1]
            own = stage_of(part)
            if part.kind == "real" and part.name != "const" and not (own == "parameter" and _is_part(part)):
                seen[part, to] = new[part] if own == to else stages[own].field(part, new[part])
            elif own == to:
                seen[part, to] = new[part]
            elif missing := [a for a in part.args if (a, to) not in seen]:
                stack += reversed(missing)
                continue
            else:
                seen[part, to] = with_args(part, tuple(seen[a, to] for a in part.args))
            stack.pop()
        return seen[node, to]

    for node in toposort(*formulas):
        to = stage_of(node)
        new[node] = with_args(node, tuple(handed_on(a, to) for a in node.args))
    terms = tuple(handed_on(f, "pair") for f in formulas)
    dims = tuple(f.dim for f in problem.formulas)
    fields = {name: tuple(s.fields.values()) for name, s in stages.items()}
    kept: list[Field] = []
    for name, stored in fields.items():
        found, new_roots = _keep([f.expr for f in stored], name)
        kept += found
        fields[name] = tuple(replace(f, expr=x) for f, x in zip(stored, new_roots, strict=True))
    found, terms = _keep(terms, "pair")
    kept += found
    return Kernel(
        problem, fields["parameter"], fields["row"], fields["column"], terms, problem.machine(dims), tuple(kept)
    )


def _keep(roots: Sequence[Expr], stage: str) -> tuple[list[Field], tuple[Expr, ...]]:
    """The vectors that the formulas of a stage keep, and the formulas that read them."""
    chosen = set(kept_vectors(roots))
    if not chosen:
        return [], tuple(roots)
    kept: list[Field] = []
    new: dict[Expr, Expr] = {}
    offset = 0
    for node in toposort(*roots):
        new[node] = with_args(node, tuple(new[a] for a in node.args))
        if node in chosen:
            params = (("axes", "".join(sorted(node.axes))), ("dim", node.dim), ("offset", offset), ("stage", stage))
            kept_leaf = Expr(OPS[KEPT], (), params, node.kind, node.axes)
            kept.append(Field(new[node], offset, kept_leaf))
            offset += node.dim
            new[node] = kept_leaf
    return kept, tuple(new[r] for r in roots)

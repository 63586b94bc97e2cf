"""Kept vectors: those whose components are computed once and stored, because loops read them again and again.

In: the formulas of one stage.  Out: the nodes to keep, arguments first.  The product of a matrix and a vector reads
every component of the vector once for each component of the result.  Written where it is read, a vector that is itself
such a product would be computed as often, and a chain of three of them would cost the cube of their length.

How often a node is written follows from the loops that read it.  A *site* is a loop and the index at which it reads:
what two operations read at one site is written once.  Sites are handed down from the formulas to their arguments; a
node whose sites together cost more than storing it would is kept, and is read at one site from then on.  So is a node
that takes a loop of its own, where it is read by another loop: loops inside of loops sum a few columns at a time only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir.expr import Expr, toposort
from .scalar import LEAVES, UNROLL_FOLD

# Costs in vector instructions. A call of vector_math is a polynomial; divisions and roots occupy their unit.
COST_OF_MATH, COST_OF_DIVISION = 12.0, 4.0
# Storing a component and reading it back must be cheaper than this part of writing it again.
WORTH = 1.5
# More sites than this are taken together: they are counted, and no longer told apart.
MOST_SITES = 32

# Results of at most this length are taken to be written out, component by component.
WRITTEN_OUT = 8

Sites = dict[object, float]
ONCE = "once"  # the site of what is written before all loops: numbers, and components whose number is known


def kept_vectors(roots: Sequence[Expr]) -> list[Expr]:
    """The vectors below the roots that are to be stored, arguments first."""
    order = toposort(*roots)
    if not any("fold" in n.op.traits for n in order):
        return []
    costs = _costs(order)
    sites: dict[Expr, Sites] = {n: {} for n in order}
    for root in roots:
        _read(sites[root], {ONCE if root.dim <= WRITTEN_OUT else "loop": float(root.dim)})
    folded = _folded(order)
    kept: set[Expr] = set()
    for node in reversed(order):
        if node.name in LEAVES or not node.args:
            continue
        found: Sites = {ONCE: 1.0} if node.dim == 1 else sites[node]
        nested = folded[node] and any(map(_in_fold, found))
        if (
            node.dim > 1
            and node.kind == "real"
            and not _moves(node)
            and (nested or _is_worth(node, sum(found.values()), costs[node]))
        ):
            kept.add(node)
            found = {node: float(node.dim)}
        for arg in dict.fromkeys(node.args):
            _read(sites[arg], _sites_of(node, arg, found))
    return [n for n in order if n in kept]


def _folded(order: Iterable[Expr]) -> dict[Expr, bool]:
    """Is a node made by a loop over the components of another vector, and element-wise operations after it?"""
    found: dict[Expr, bool] = {}
    for node in order:
        loop = "fold" in node.op.traits and node.args[0].dim // node.dim > UNROLL_FOLD
        found[node] = node.dim > 1 and (loop or (node.op.elementwise and any(found[a] for a in node.args)))
    return found


def _in_fold(site: object) -> bool:
    """Is a site inside of the loop of a fold?"""
    while isinstance(site, tuple):
        if isinstance(site[0], Expr):
            return True
        site = site[1]
    return site == "many"


def _is_worth(node: Expr, reads: float, cost: float) -> bool:
    return reads * cost > WORTH * (node.dim * (cost + 1) + reads)


def _read(sites: Sites, more: Sites) -> None:
    """Add sites; at one site that is known, no more is written."""
    for site, count in more.items():
        sites[site] = max(count, sites.get(site, 0.0))
    if len(sites) > MOST_SITES:
        total = sum(sites.values())
        sites.clear()
        sites["many"] = total


def _sites_of(node: Expr, arg: Expr, sites: Sites) -> Sites:
    """Where an argument of a node is read, for the sites at which the node is written."""
    if arg.dim == 1:
        return {ONCE: 1.0}
    if node.op.elementwise or node.name == "fold_columns":
        return sites
    if "fold" in node.op.traits:
        times = arg.dim // node.dim
        written_out = times <= UNROLL_FOLD
        return {site if site == ONCE and written_out else (node, site): count * times for site, count in sites.items()}
    # the components are read at another index of the same loop
    moved = (node.name, node.params, node.args.index(arg))
    return {
        site if site == ONCE else (moved, site): min(count, arg.dim) if site == ONCE else count
        for site, count in sites.items()
    }


def _costs(order: Iterable[Expr]) -> dict[Expr, float]:
    """What writing one component of each node costs, if all that its folds read is stored: numbers are free."""
    costs: dict[Expr, float] = {}
    for node in order:
        if node.name in LEAVES or not node.args or node.dim == 1:
            costs[node] = 0.0
        elif "fold" in node.op.traits:
            costs[node] = 2.0 * node.args[0].dim / node.dim
        elif _moves(node):  # what is costly is kept below, where it is shortest
            costs[node] = len(node.args) - 1 + sum(min(1.0, costs[a]) for a in node.args)
        else:
            costs[node] = _cost_of(node) + sum(costs[a] for a in dict.fromkeys(node.args))
    return costs


def _moves(node: Expr) -> bool:
    """Are the components of a node those of its arguments, at other places?"""
    return node.op.component is not None and "fold" not in node.op.traits


def _cost_of(node: Expr) -> float:
    cell = node.op.llvm
    if isinstance(cell, str) and cell.startswith("math:"):
        return COST_OF_MATH
    return COST_OF_DIVISION if cell in ("fdiv", "sqrt") else 1.0

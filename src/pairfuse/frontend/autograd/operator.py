"""One reduction on torch tensors, without derivatives: launched at once, or as the operator `pairfuse::reduce`.

In: a `Call` (problem, sizes, settings) and the tensors of its inputs.  Out: every output of the problem, as tensors.

Where torch records what happens (torch.compile, torch.export, make_fx), or tensors have no memory (FakeTensor), the
reduction goes through torch's dispatcher as an operator, whose arguments are tensors, numbers and one text: the
problem as JSON, with its formulas in the language of ir/text.py.  So another process can read an exported program.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from ...dtypes import RESULT_DTYPES
from ...ir.text import parse_all, to_text
from ...lower.problem import Problem, Sizes
from ...runtime.arrays import plain_tensors
from ..base import Binding
from ..evaluate import Settings, device_value, host_value, input_axes, launch
from ..ranges import as_tensors, read
from .batched import closed, is_batched, opened, with_leading_axis

Tensor = torch.Tensor


class Call(NamedTuple):
    """What one reduction needs beside its tensors."""

    problem: Problem
    sizes: Sizes
    settings: Settings


def run(request: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All outputs of the problem, as plain numbers."""
    if plain_tensors(tensors):
        try:
            return compute(request, tensors)
        except RuntimeError:  # what torch says of such a tensor; asking each of them first would cost every call
            if not any(map(is_batched, tensors)):
                raise
        return mapped(request, tensors)
    problem, sizes, settings = request
    key = to_key(problem, settings)
    ranges = [] if sizes.ranges is None else as_tensors(sizes.ranges)
    return tuple(torch.ops.pairfuse.reduce(list(tensors), key, sizes.M, sizes.N, list(sizes.batch), ranges))


def compute(request: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same, launched now."""
    problem, sizes, settings = request
    pairs = zip(tensors, input_axes(problem), strict=False)  # what follows the last input in use is left out
    if tensors and not tensors[0].is_cpu:
        device = str(tensors[0].device)
        values = [device_value(Binding(t, axis), problem.dtype, sizes, device) for t, axis in pairs]
        return launch(problem, values, sizes, settings)
    values = [host_value(Binding(t, axis), problem.dtype, sizes) for t, axis in pairs]
    return tuple([torch.from_numpy(r) for r in launch(problem, values, sizes, settings)])


def mapped(request: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same for batched tensors (batched.py): the mapped axis becomes the first batch axis."""
    sizes, axes = request.sizes, input_axes(request.problem)
    inner, dims, count, level = opened(tensors)
    leading = [
        t if dim is None else with_leading_axis(t, dim, len(sizes.batch) + (1 if axis == "p" else 2))
        for t, dim, axis in zip(inner, dims, axes, strict=False)
    ]
    wider = request._replace(sizes=replace(sizes, batch=(count, *sizes.batch)))
    return tuple([closed(o, level) for o in run(wider, leading)])


# ---------------------------------------------------------------------- problems as text


@lru_cache(maxsize=1024)
def to_key(problem: Problem, settings: Settings) -> str:
    """Problem and settings as text, the same in every process."""
    description = {f.name: getattr(problem, f.name) for f in fields(problem)} | {
        "formulas": to_text(*problem.formulas),
        "settings": settings._asdict(),
    }
    return json.dumps(description, sort_keys=True)


@lru_cache(maxsize=1024)
def from_key(key: str) -> tuple[Problem, Settings]:
    """What `to_key` was made of."""
    description = json.loads(key)
    settings = Settings(**description.pop("settings"))
    formulas = parse_all(description.pop("formulas"))
    params = tuple((name, value) for name, value in description.pop("params"))
    return Problem(formulas=formulas, params=params, **description), settings


# ---------------------------------------------------------------------- the operator

torch.library.define(
    "pairfuse::reduce",
    "(Tensor[] tensors, str problem, SymInt M, SymInt N, SymInt[] batch, Tensor[] ranges) -> Tensor[]",
)


def operator_call(key: str, m: Any, n: Any, batch: Sequence[Any], ranges: Sequence[Tensor]) -> Call:
    """The reduction that the arguments of the operator describe."""
    problem, settings = from_key(key)
    return Call(problem, Sizes(m, n, tuple(batch), read(problem.reduction, ranges) if ranges else None), settings)


@torch.library.impl("pairfuse::reduce", "CompositeExplicitAutograd")
def _reduce(
    tensors: list[Tensor], key: str, m: int, n: int, batch: list[int], ranges: Sequence[Tensor]
) -> list[Tensor]:
    outputs = compute(operator_call(key, m, n, batch, ranges), [t.detach() for t in tensors])
    return [o.contiguous() for o in outputs]


@torch.library.register_fake("pairfuse::reduce")  # pyright: ignore[reportUntypedFunctionDecorator]
def _shapes(
    tensors: list[Tensor], key: str, m: Any, n: Any, batch: list[Any], ranges: Sequence[Tensor]
) -> list[Tensor]:
    """The outputs as torch needs them while it traces: shapes, types, device."""
    problem, _ = from_key(key)
    device = tensors[0].device if tensors else torch.device("cpu")
    rows = {"i": m, "j": n, "p": 1}[problem.kept]
    found: list[Tensor] = []
    for (_, kind), dim in zip(problem.record.outputs, problem.output_dims(), strict=True):
        dtype = getattr(torch, RESULT_DTYPES.get(kind, problem.dtype))
        found.append(torch.empty((*batch, rows, dim), dtype=dtype, device=device))
    return found

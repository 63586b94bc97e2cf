"""What torch.compile is told about LazyTensors, so that it traces through them without breaking its graph.

In: nothing; `pairfuse.torch` calls `register` when it is imported.  Out: rules of torch's tracer, Dynamo.

Dynamo runs the Python code of a function on stand-ins for its tensors and sizes.  The code of a LazyTensor is such
Python code, with three things that Dynamo cannot see through, and that it is told here:

- Formulas and problems are constants, and the functions that make them from constants are evaluated while tracing: all
  that depends on tensors and sizes (data, spaces) stays outside of them.
- A few functions of the warm path compare objects that exist while tracing only; they have a plainer twin.
- A reduction is one call in the graph, of `reduction`: differentiable by the same class as without compilation, and,
  below derivatives and vmap, the operator `pairfuse::reduce`.

Where the graph of a compiled function breaks for reasons of its own, what Dynamo could not trace runs as it is written,
and it tries again with every function called there. It leaves out ours, from the evaluation of a reduction on.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
from torch._dynamo.utils import allow_lru_cache_wrapper_trace_without_warning as allow_cache
from torch._dynamo.variables import builtin
from torch._library.opaque_object import is_opaque_type, register_opaque_type

from ...errors import PairfuseError, message
from ...ir.expr import Expr, index
from ...ir.text import parse, to_text
from ...lower.problem import Problem, Sizes
from ...runtime import arrays
from ...runtime import integers as whole_numbers
from .. import base, calculus, evaluate, integers, lazytensor, messages, numbers, pairs, protocols, reduce, space
from .. import ranges as ranges_module
from ..base import Binding, Bindings, Mapping
from ..derivatives import selected_terms
from ..ranges import Unread
from ..strings import genred, language
from ..systems import solve
from . import function as autograd
from . import operator as torch_operator
from . import with_slopes as fused
from .operator import Call, from_key, to_key

Tensor = torch.Tensor

# Pure functions of formulas and other constants. Those behind a cache are registered without it.
FOLDED: tuple[Callable[..., Any], ...] = (
    index,
    base.node,
    base.node_of_pairs,
    base.renumbered,
    base.variable,
    base.variable_of_integers,
    base.transposed,
    calculus.derivative,
    calculus.slot_of,
    language.meaning,
    lazytensor.constant,
    reduce.compact,
    reduce.problem_of,
    numbers.one_vector,
    pairs.reduced_pairs,
    selected_terms.with_index,
    evaluate.input_axes,
    integers.as_whole,
    integers.unseen,
    protocols.name_of,
    torch_operator.to_key,
)
WORDS_OF_ERRORS = (message, messages.describe, messages.describe_value, messages.operation_error)
# Caches of functions of sizes, which Dynamo may trace without a warning: they have no effect but to be fast.
TRACED: tuple[Callable[..., Any], ...] = (space._join, arrays._number_type, whole_numbers._bits, genred.reduction_of)
# Where such a run enters what is never traced: the evaluation, and what torch's engine and transforms call.
RUN_AS_WRITTEN: tuple[Callable[..., Any], ...] = (
    evaluate.evaluate,
    *(autograd.Reduce.forward, autograd.Reduce.setup_context, autograd.Reduce.backward),
    *(autograd.Reduce.jvp, autograd.Reduce.vmap),
    *(fused.ReduceWithSlopes.forward, fused.ReduceWithSlopes.backward),
)


@torch.compiler.allow_in_graph
def reduction(
    key: str, m: int, n: int, batch: Sequence[int], tensors: Sequence[Tensor], ranges: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """All outputs of the problem that the key describes: a reduction as it stands in a graph of Dynamo."""
    problem, settings = from_key(key)
    found: Any = ranges_module.read(problem.reduction, tuple(ranges)) if ranges else None
    return autograd.reduce_tensors(Call(problem, Sizes(m, n, tuple(batch), found), settings), tensors)


# ---------------------------------------------------------------------- twins


def _reduce_tensors(request: Call, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    sizes = request.sizes
    ranges = [] if sizes.ranges is None else ranges_module.as_tensors(sizes.ranges)
    return reduction(to_key(request.problem, request.settings), sizes.M, sizes.N, sizes.batch, tensors, ranges)


def _numbers(values: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """As products, which torch can compile for any value: those in a `torch.tensor` would become part of the graph."""
    return torch.stack([torch.ones((), dtype=dtype) * value for value in values])


def _read(call: str, given: Any) -> Any:
    if isinstance(given, Unread):
        return given
    return Unread(tuple(given[:3]), tuple(given[3:]))


def _evaluate(problem: Problem, bindings: Bindings, space: Any, settings: Any) -> tuple[Any, ...]:
    evaluate.check_sizes(problem, space)
    problem, bindings = integers.traced(problem, bindings)
    return autograd.evaluate(problem, bindings, space, settings)


def _append(have: Bindings, more: Bindings) -> tuple[Bindings, Mapping]:
    joined: list[Binding] = list(have)
    mapping: list[int] = []
    for item in more:
        for slot, known in enumerate(have):
            if known.axis == item.axis and type(item.data) is not tuple and known.data is item.data:
                mapping.append(slot)
                break
        else:
            mapping.append(len(joined))
            joined.append(item)
    return tuple(joined), tuple(mapping)


def _end_of_graph(*args: Any, **kwargs: Any) -> Any:
    """An error message is being put together: tracing ends, and the user's line is run as it is written."""
    torch._dynamo.graph_break()


TWINS: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (autograd.reduce_tensors, _reduce_tensors),
    (autograd.numbers, _numbers),
    (evaluate.evaluate, _evaluate),
    (base._append, _append),
    (ranges_module.read, _read),
)

# ---------------------------------------------------------------------- registration


def register() -> None:
    """Tell Dynamo; once for a process."""
    if is_opaque_type(Expr):
        return
    for kind, text in ((Expr, _expr_text), (Problem, _problem_text)):
        setattr(kind, "__fx_repr__", text)  # noqa: B010 - torch asks for it, and how a graph would print the constant
        register_opaque_type(kind, typ="value")
    # Dynamo turns x @ tensor into a call of the reflected method, as for the other operators, but has no name for it
    # and would call that of tensor @ x.
    builtin.populate_builtin_to_tensor_fn_map()
    builtin.BUILTIN_TO_TENSOR_RFN_MAP.setdefault(operator.matmul, Tensor.__rmatmul__)
    for function in (*FOLDED, *TRACED):
        if hasattr(function, "cache_info"):
            allow_cache(function)  # type: ignore[arg-type]
    for function in FOLDED:
        _fold(getattr(function, "__wrapped__", function))
    for function, twin in TWINS:
        torch.compiler.substitute_in_graph(function)(twin)
    for function in RUN_AS_WRITTEN:
        set_code_exec_strategy(function.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))
    for function in WORDS_OF_ERRORS:
        torch.compiler.substitute_in_graph(function, skip_signature_check=True)(_end_of_graph)  # type: ignore[arg-type]
    # An iteration, as long as the data makes it, runs outside of the graph.
    setattr(solve.LinearSystems, "solve", torch.compiler.disable(solve.LinearSystems.solve))  # noqa: B010


def _fold(function: Callable[..., Any]) -> None:
    """Have the function evaluated while tracing.

    Where it fails tracing ends, and the user's line is run as it is written: its error is the one to show.
    """

    def attempt(*args: Any, **kwargs: Any) -> tuple[Any, bool]:
        try:
            return function(*args, **kwargs), False
        except PairfuseError:
            return None, True

    def not_constant(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{function.__name__}: not all arguments are known while tracing")

    def twin(*args: Any, **kwargs: Any) -> Any:
        result, failed = attempt(*args, **kwargs)
        if failed:
            torch._dynamo.graph_break()
        return result

    fold = torch.compiler.substitute_in_graph(attempt, can_constant_fold_through=True, skip_signature_check=True)
    fold(not_constant)
    torch.compiler.substitute_in_graph(function, skip_signature_check=True)(twin)


def _expr_text(expr: Expr) -> tuple[str, dict[str, Any]]:
    return f"_pairfuse_formula({to_text(expr)!r})", {"_pairfuse_formula": parse}


def _problem_text(problem: Problem) -> tuple[str, dict[str, Any]]:
    key = to_key(problem, evaluate.Settings())
    return f"_pairfuse_request({key!r})[0]", {"_pairfuse_request": from_key}

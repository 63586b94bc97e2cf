"""Functions of NumPy and torch on symbolic tensors: np.exp(K), np.sum(K, axis=1), torch.logsumexp(K, 1).

In: the function that was called, and its arguments.  Out: what the operator or the method of LazyTensor gives.  NumPy
asks through `__array_ufunc__` and `__array_function__`, torch through `__torch_function__`; both are known by the names
of their functions, so neither has to be imported.  What has no meaning on a formula says what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ..errors import KeywordError, PairfuseError, SymbolicError, message
from .base import Lazy
from .messages import describe

# The operator of two operands; the reflected one where the first operand is an array or a number.
OPERATORS = {
    **dict.fromkeys(("add",), ("__add__", "__radd__")),
    **dict.fromkeys(("sub", "subtract"), ("__sub__", "__rsub__")),
    **dict.fromkeys(("mul", "multiply"), ("__mul__", "__rmul__")),
    **dict.fromkeys(("div", "divide", "true_divide"), ("__truediv__", "__rtruediv__")),
    **dict.fromkeys(("floordiv", "floor_divide"), ("__floordiv__", "__rfloordiv__")),
    **dict.fromkeys(("mod", "remainder"), ("__mod__", "__rmod__")),
    **dict.fromkeys(("pow", "power", "float_power"), ("__pow__", "__rpow__")),
    **dict.fromkeys(("matmul", "dot"), ("__matmul__", "__rmatmul__")),
    **dict.fromkeys(("lt", "less"), ("__lt__", "__gt__")),
    **dict.fromkeys(("le", "less_equal"), ("__le__", "__ge__")),
    **dict.fromkeys(("gt", "greater"), ("__gt__", "__lt__")),
    **dict.fromkeys(("ge", "greater_equal"), ("__ge__", "__le__")),
    **dict.fromkeys(("eq", "equal"), ("__eq__", "__eq__")),
    **dict.fromkeys(("ne", "not_equal"), ("__ne__", "__ne__")),
    **dict.fromkeys(("and", "bitwise_and"), ("__and__", "__rand__")),
    **dict.fromkeys(("or", "bitwise_or"), ("__or__", "__ror__")),
    **dict.fromkeys(("xor", "bitwise_xor"), ("__xor__", "__rxor__")),
}
# What torch calls for x - tensor is tensor.__rsub__(x): the method of x, which takes the tensor.
REFLECTED = {
    "radd": "__add__",
    "rsub": "__sub__",
    "rmul": "__mul__",
    "rdiv": "__truediv__",
    "rpow": "__pow__",
    "rmatmul": "__matmul__",
    "rmod": "__mod__",
    "rfloordiv": "__floordiv__",
    "rand": "__and__",
    "ror": "__or__",
    "rxor": "__xor__",
}
# Methods under another name.
METHODS = {
    "negative": "neg",
    "positive": "__pos__",
    "absolute": "abs",
    "fabs": "abs",
    "reciprocal": "inv",
    "invert": "__invert__",
    "bitwise_not": "__invert__",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "conjugate": "conj",
    "clip": "clamp",
    "amin": "min",
    "amax": "max",
    "transpose": "t",
}
SAME = frozenset(
    (
        *("neg", "abs", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "square"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
        *("sigmoid", "softplus", "relu", "erf", "erfc", "floor", "ceil", "trunc", "sign", "copysign", "sinc"),
        *("minimum", "maximum", "logaddexp", "isnan", "isfinite", "isinf", "clamp", "conj", "real", "imag", "angle"),
        *("logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_count", "xlogy", "logsigmoid"),
        *("sum", "prod", "mean", "var", "std", "min", "max", "argmin", "argmax", "any", "all", "count_nonzero"),
        *("logsumexp", "diagonal", "trace", "t"),
    )
)
VALUES = {"shape": lambda x: x.shape, "ndim": lambda x: len(x.shape), "size": lambda x: _size(x)}
INSTEAD = {
    "softmax": "x.sumsoftmaxweight(y, dim=1) is softmax times y, without the matrix.",
    "sort": "x.Kmin_argKmin(K, dim=1) are the K smallest terms and their indices.",
    "argsort": "x.argKmin(K, dim=1) are the indices of the K smallest terms.",
    "topk": "x.Kmax_argKmax(K, dim=1), and Kmin_argKmin for the smallest.",
    "einsum": "write the formula; the reduction over i or j is a sum.",
    "rint": "x.round() rounds halves away from zero.",
    "round": "x.round() rounds halves away from zero.",
    "norm": "x.norm2() is the Euclidean norm of the vectors, (x ** 2).sum((0, 1)) ** 0.5 that of a matrix.",
    "fmod": "x.mod(y) is the remainder with the sign of y.",
}

ENTRIES = "x.dense() are the entries as an array; reductions give arrays, too."
ON_DATA = "move or convert the arrays before the formula is written."
OF_ARRAYS = {
    **dict.fromkeys(("numpy", "tolist", "item", "toarray", "todense", "evaluate", "to_dense"), ENTRIES),
    **dict.fromkeys(("to", "cpu", "cuda", "float", "double", "half", "astype", "type", "detach"), ON_DATA),
    **dict.fromkeys(
        ("reshape", "view", "flatten", "ravel", "unsqueeze", "squeeze", "permute", "expand"),
        "a formula has the axes (*batch, M, N, D); give the arrays the shape that is meant.",
    ),
    "device": "the device is that of the arrays: x.variables.",
    "size": "x.shape, x.ni, x.nj are the sizes.",
    "transpose": "x.t() exchanges i and j.",
}


def ufunc(function: Any, method: str, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """What NumPy's universal function gives on these inputs."""
    if method != "__call__":
        raise _refusal(f"np.{function.__name__}.{method}", function.__name__, inputs)
    if keywords:
        call_text = f"np.{function.__name__}(x, {next(iter(keywords))}=...)"
        hint = f"np.{function.__name__}(x) is a formula, too; where(condition, x, y) chooses, reductions take out=."
        raise KeywordError(message(f"{call_text}: x is a formula, nothing is computed here.", (), hint))
    return call("np", function.__name__, inputs, {})


def torch_function(function: Any, args: Sequence[Any], keywords: Mapping[str, Any] | None) -> Any:
    """The result of a function of torch that was called on a symbolic tensor."""
    return call("torch", name_of(function), args, dict(keywords or {}))


def name_of(function: Any) -> str:
    """The name of a function of torch, without the underscores of operators: Dynamo takes it for a constant."""
    return getattr(function, "__name__", str(function)).strip("_")


def call(library: str, name: str, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """The function `name` of a library on arguments one of which is symbolic."""
    shown = f"{library}.{name}"
    if name in OPERATORS and len(args) == 2 and not keywords:
        x, y = args
        return getattr(x, OPERATORS[name][0])(y) if isinstance(x, Lazy) else getattr(y, OPERATORS[name][1])(x)
    if name in REFLECTED and len(args) == 2 and isinstance(args[1], Lazy):
        return getattr(args[1], REFLECTED[name])(args[0])
    if name in STRUCTURE and args:
        return STRUCTURE[name](shown, args, keywords)
    if name in VALUES and len(args) == 1 and isinstance(args[0], Lazy) and not keywords:
        return VALUES[name](args[0])
    method = METHODS.get(name, name if name in SAME else None)
    if method is None or not args:
        raise _refusal(shown, name, args)
    if not isinstance(args[0], Lazy):  # np.maximum(0, K): the first operand as a symbolic tensor
        args = (_first_lazy(args)._lift(args[0]), *args[1:])
    found = getattr(args[0], method, None)
    if found is None:
        raise _refusal(shown, name, args)
    if not callable(found):  # real, imag
        return found
    if library == "torch" and name in ("max", "min") and (len(args) > 1 or keywords):
        if len(args) == 2 and isinstance(args[1], Lazy):
            return getattr(args[0], f"{name}imum")(args[1])
        return getattr(args[0], f"{name}_arg{name}")(*args[1:], **keywords)  # the pair, as torch gives it
    try:
        return found(*args[1:], **keywords)
    except TypeError as cause:
        if isinstance(cause, PairfuseError):
            raise
        hint = f"x.{method}(...) has the arguments of its documentation."
        raise KeywordError(message(f"{shown}: {cause}.", f"x: {describe(args[0])}", hint)) from None


def _where(shown: str, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    if len(args) != 3 or keywords:
        raise KeywordError(message(f"{shown}: takes a condition and two values.", hint="where(condition, x, y)."))
    condition, x, y = args
    x = x if isinstance(x, Lazy) else _first_lazy(args)._lift(x)
    return (condition if isinstance(condition, Lazy) else x._lift(condition))._apply("where", x, y)


def _concatenated(shown: str, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    axis = args[1] if len(args) > 1 else keywords.pop("axis", keywords.pop("dim", 0))
    if keywords or isinstance(args[0], Lazy):
        raise KeywordError(message(f"{shown}: takes several tensors, and axis=-1.", hint="concatenate([x, y], -1)."))
    return _first_lazy(args[0]).concatenate(args[0], axis)  # type: ignore[attr-defined]


STRUCTURE: dict[str, Callable[..., Any]] = {
    "where": _where,
    "concatenate": _concatenated,
    "cat": _concatenated,
    "concat": _concatenated,
}


def unknown_name(x: Lazy, name: str) -> str:
    """The text of an AttributeError: what was perhaps meant, and what arrays have and formulas do not."""
    text = f"a LazyTensor has no {name!r}"
    if name.startswith("_"):
        return text
    near = get_close_matches(METHODS.get(name, name), [n for n in dir(type(x)) if not n.startswith("_")], n=1)
    hint = INSTEAD.get(name) or OF_ARRAYS.get(name) or (f"did you mean {near[0]!r}?" if near else "")
    return message(text + ".", f"x: {describe(x)}", hint)


def _first_lazy(args: Sequence[Any]) -> Lazy:
    return next(a for a in args if isinstance(a, Lazy))


def _size(x: Any) -> int:
    total = 1
    for n in x.shape:
        total *= n
    return total


def _refusal(shown: str, name: str, args: Sequence[Any]) -> SymbolicError:
    operand = next((a for a in args if isinstance(a, Lazy)), None)
    facts = [f"x: {describe(operand)}"] if operand is not None else []
    own = INSTEAD.get(name) or (f"x.{name}(...) is the operation on formulas." if hasattr(operand, name) else "")
    hint = own or "reduce x over i or j first, or take its entries, x.dense(): that is an array."
    return SymbolicError(message(f"{shown}(x): x is a formula, and this function takes arrays only.", facts, hint))

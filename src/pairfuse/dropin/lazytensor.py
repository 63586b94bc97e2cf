"""The LazyTensors of programs written for KeOps: where these rely on another behaviour than ours, they find it here.

In: as `pairfuse.numpy.LazyTensor`.  Out: the same numbers.  What differs from the class of Pairfuse:

- a formula is true: programs test `bool(K)` of comparisons, by accident or in assertions
- `solve` stops at a residual of root mean square `eps`, 1e-6 if nothing is said, whatever the scale of b
- where no term was found, of the smallest or of the K smallest, the index is 0
- LazyTensors of arrays and of tensors have a class each, and attributes of KeOps' own: `tools`, `callfun` ...
- the names of the arguments are KeOps'
"""

from __future__ import annotations

import importlib
from typing import Any, TypeVar

from pairfuse.errors import FormulaError, SymbolicError, message
from pairfuse.frontend import lazytensor
from pairfuse.frontend.public import OfComplexNumbers
from pairfuse.frontend.symbolic import symbolic
from pairfuse.ir.ops import lookup

from .absent import NO_ENGINE, refusal
from .deferred import Waiting, filled
from .dialect import Dialect as Base

T = TypeVar("T", bound="GenericLazyTensor")
OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "|": "dot", "==": "eq", "!=": "ne", "<": "lt", "<=": "le"}
# KeOps' names of the arguments that operations take, where ours have others or none.
WORDS = {
    "atan2": ("other",),
    "bspline": ("x", "k"),
    "clamp": ("other1", "other2"),
    "concat": ("other",),
    "diff": ("other", "diffin"),
    "difference_matrix": ("other",),
    "divergence": ("var",),
    "elem": ("i",),
    "extract": ("i", "d"),
    "factorize": ("other",),
    "grad": ("other", "gradin"),
    "grad_matrix": ("other",),
    "ifelse": ("other1", "other2"),
    "keops_kron": ("other", "dimfself", "dimfother"),
    "keops_tensordot": ("other", "dimfa", "dimfb", "contfa", "contfb"),
    "laplacian": ("var",),
    "matvecmult": ("other",),
    "mod": ("modulus", "offset"),
    "norm": ("dim",),
    "one_hot": ("D",),
    "power": ("other",),
    "round": ("other",),
    "softdtw_sqdist": ("other", "gamma"),
    "solve": ("other", "var", "call"),
    "sqdist": ("other",),
    "tensorprod": ("other",),
    "trace_operator": ("var",),
    "vecmatmult": ("other",),
    "weightedsqdist": ("g", "s"),
    "weightedsqnorm": ("other",),
}


class GenericLazyTensor(Base):
    """What `pykeops.numpy.LazyTensor` and `pykeops.torch.LazyTensor` have in common."""

    __slots__ = ("__dict__",)
    _waiting_class = Waiting
    __GenericLazyTensor__ = True
    _library = "numpy"
    formula2: str | None = None

    def __init__(self, x: Any = None, axis: int | None = None, is_complex: bool = False) -> None:
        super().__init__(0 if x is None else x, axis)
        if is_complex and not self.is_complex:
            made = self.real2complex()
            self._expr, self._bindings, self._space = made._expr, made._bindings, made._space

    def __bool__(self) -> bool:
        return True

    def __call__(self, *args: Any, **options: Any) -> Any:
        hint = "K.sum(dim=1, call=False) and the like give what can be called."
        raise SymbolicError(message("K(...): a formula that is not reduced cannot be called.", f"K: {self!r}", hint))

    # -------------------------------------------------- reductions
    def solve(self, other: Any, var: Any = None, call: bool = True, **options: Any) -> Any:
        """`LazyTensor.solve`, with KeOps' tolerance where none is given: eps=1e-6, of the residual itself."""
        if options.get("eps") is None and options.get("rtol") is None:
            options["eps"] = 1e-6
        return super().solve(other, var, call, **options)

    def _reduce(self, name: str, *args: Any, **named: Any) -> Any:
        return filled(name, super()._reduce(name, *args, **named))

    def _reduce_all(self, name: str, *args: Any, **named: Any) -> Any:
        return filled(name, super()._reduce_all(name, *args, **named))

    def _reduce_K(self, name: str, K: Any, *args: Any, **options: Any) -> Any:
        return filled(name, super()._reduce_K(name, K, *args, **options))

    # -------------------------------------------------- attributes
    @property
    def tools(self) -> Any:
        """The functions of the library under common names, `numpytools` or `torchtools`."""
        library = self._space.library or self._library
        return getattr(importlib.import_module(f"pykeops.{library}.utils"), f"{library}tools")

    @property
    def Genred(self) -> Any:
        """The class of reductions of formula strings."""
        return self.tools.Genred

    @property
    def KernelSolve(self) -> Any:
        """The class of linear systems of formula strings."""
        return self.tools.KernelSolve

    @property
    def _dtype(self) -> str | None:
        return self._space.dtype

    def get_tools(self) -> None:
        """Nothing: `tools` is always there."""

    def lt_constructor(self: T, x: Any = None, axis: int | None = None, is_complex: bool = False) -> T:
        """A LazyTensor of the class of this one."""
        return type(self)(x, axis, is_complex)

    def new_variable_index(self) -> int:
        """The number of the next symbolic variable."""
        return 1 + max((ind for ind, _, _ in self.symbolic_variables), default=-1)

    # -------------------------------------------------- operations by their names
    def addop(self: T, other: Any, **_: Any) -> T:
        """self + other"""
        return self + other

    def subop(self: T, other: Any, **_: Any) -> T:
        """self - other"""
        return self - other

    def mulop(self: T, other: Any, **_: Any) -> T:
        """self * other"""
        return self * other

    def divop(self: T, other: Any, **_: Any) -> T:
        """self / other"""
        return self / other

    def unary(
        self: T,
        operation: str,
        dimres: int | None = None,
        opt_arg: Any = None,
        opt_arg2: Any = None,
        is_complex: bool | None = None,
    ) -> T:
        """The operation of this name of the formula language, with its whole numbers."""
        return self._named(operation, (), (opt_arg, opt_arg2))

    def binary(
        self: T,
        other: Any,
        operation: str,
        is_operator: bool = False,
        dimres: int | None = None,
        dimcheck: str | None = "sameor1",
        opt_arg: Any = None,
        opt_pos: str = "last",
        rversion: bool = False,
        is_complex: bool | None = None,
    ) -> T:
        """The operation of this name, or with is_operator of this sign; rversion: with the operands exchanged."""
        name = OPERATORS.get(operation, operation) if is_operator else operation
        if rversion:
            return self._lift(other)._named(name, (self,), (opt_arg,))  # type: ignore[attr-defined]
        return self._named(name, (other,), (opt_arg,))

    def ternary(
        self: T,
        other1: Any,
        other2: Any,
        operation: str,
        dimres: int | None = None,
        dimcheck: str = "sameor1",
        opt_arg: Any = None,
    ) -> T:
        """The operation of this name."""
        return self._named(operation, (other1, other2), (opt_arg,))

    def _named(self: T, name: str, others: tuple[Any, ...], numbers: tuple[Any, ...]) -> T:
        try:
            op = lookup(name)
        except KeyError:
            hint = "the names of formula strings: Exp, Scalprod, IfElse ... (`python -m pairfuse ops` lists them)."
            raise FormulaError(message(f"x.unary({name!r}) and its kin: no such operation.", hint=hint)) from None
        given = [int(n) for n in numbers if n is not None]
        return self._call(op.name, *others, **dict(zip(op.params, given, strict=False)))

    def reduction(
        self,
        reduction_op: str,
        other: Any = None,
        opt_arg: Any = None,
        axis: int | None = None,
        dim: int | None = None,
        call: bool = True,
        is_complex: bool | None = None,
        **options: Any,
    ) -> Any:
        """The reduction of this name: see `LazyTensor.reduction` of Pairfuse."""
        return super().reduction(reduction_op, other, opt_arg, axis, dim, call=call, **options)

    @staticmethod
    def concatenate(tuple_of_lt: Any, axis: int = -1) -> Any:
        """The vectors one after the other."""
        return Base.concatenate(tuple_of_lt, axis)

    @staticmethod
    def cat(tuple_of_lt: Any, dim: int = -1) -> Any:
        """The same, in torch's words."""
        return Base.concatenate(tuple_of_lt, dim)

    def _of_the_engine(self, *_: Any, **__: Any) -> Any:
        raise refusal("pykeops.common.lazy_tensor.GenericLazyTensor.init and its kin", why=NO_ENGINE)

    init = join = promote = fixvariables = separate_kwargs = _of_the_engine


def _in_words(name: str, words: tuple[str, ...]) -> Any:
    """The method of the class above or of Pairfuse, whose arguments may be given under these names, too."""
    method = GenericLazyTensor.__dict__.get(name) or getattr(lazytensor.LazyTensor, name)

    def call(self: Any, *args: Any, **named: Any) -> Any:
        while named and len(args) < len(words) and words[len(args)] in named:
            args = (*args, named.pop(words[len(args)]))
        return method(self, *args, **named)

    call.__name__, call.__qualname__, call.__doc__ = name, f"LazyTensor.{name}", method.__doc__
    return call


for _name, _words in WORDS.items():
    setattr(GenericLazyTensor, _name, _in_words(_name, _words))


class NumpyLazyTensor(GenericLazyTensor):
    """`pykeops.numpy.LazyTensor`: see `pairfuse.numpy.LazyTensor`."""

    __slots__ = ()


class TorchLazyTensor(GenericLazyTensor):
    """`pykeops.torch.LazyTensor`: see `pairfuse.torch.LazyTensor`."""

    __slots__ = ()
    _library = "torch"


def complex_class(real: type[GenericLazyTensor], name: str) -> Any:
    """`ComplexLazyTensor` for a class of LazyTensors: makes one of that class, and knows those that are complex."""

    def __new__(cls: type, x: Any = None, axis: int | None = None) -> Any:
        return real(x, axis, is_complex=True)

    def lt_constructor(self: Any, x: Any = None, axis: int | None = None, is_complex: bool = True) -> Any:
        """A LazyTensor of this class."""
        return real(x, axis, is_complex)

    members = {
        "__new__": __new__,
        "lt_constructor": lt_constructor,
        "__slots__": (),
        "__module__": __name__,
        "__doc__": "LazyTensors of complex numbers.",
    }
    return OfComplexNumbers(name, (real,), members)


ComplexGenericLazyTensor = complex_class(GenericLazyTensor, "ComplexGenericLazyTensor")
NumpyComplexLazyTensor = complex_class(NumpyLazyTensor, "NumpyComplexLazyTensor")
TorchComplexLazyTensor = complex_class(TorchLazyTensor, "TorchComplexLazyTensor")


class Variables:
    """Var, Vi, Vj and Pm of one of the two classes."""

    def __init__(self, made: type[GenericLazyTensor]) -> None:
        def Var(x_or_ind: Any, dim: int | None = None, cat: int | None = None) -> Any:
            """The variable of category `cat` (0: of i, 1: of j, 2: a parameter), of data or, with `dim`, symbolic."""
            if dim is None:
                return made(x_or_ind, cat)
            return made._make(*symbolic(x_or_ind, dim, "ijp"[cat or 0]))

        def Vi(x_or_ind: Any, dim: int | None = None) -> Any:
            """An i-variable: see `pairfuse.numpy.Vi`."""
            return Var(x_or_ind, dim, 0)

        def Vj(x_or_ind: Any, dim: int | None = None) -> Any:
            """A j-variable: see `pairfuse.numpy.Vj`."""
            return Var(x_or_ind, dim, 1)

        def Pm(x_or_ind: Any, dim: int | None = None) -> Any:
            """A parameter: see `pairfuse.numpy.Pm`."""
            return Var(x_or_ind, dim, 2)

        self.Var, self.Vi, self.Vj, self.Pm = Var, Vi, Vj, Pm


NUMPY, TORCH = Variables(NumpyLazyTensor), Variables(TorchLazyTensor)

"""The names of KeOps, and the page "Coming from KeOps" as a table: what the tests of both share.

In: the page.  Out: section by section, the state and the note of every name.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "coming-from-keops.md").read_text(encoding="utf-8")
STATES = {"same", "more", "differs", "no"}

# ---------------------------------------------------------------------- KeOps' names

KEOPS: dict[str, str] = {
    "`pairfuse.numpy` and `pairfuse.torch`": """
        Genred KernelSolve generic_sum generic_logsumexp generic_argmin generic_argkmin LazyTensor ComplexLazyTensor
        Vi Vj Pm""",
    "Attributes of a LazyTensor": """
        shape _shape dim ndim nbatchdims batchdims ni nj axis dtype _dtype variables symbolic_variables formula formula2
        ind ranges backend T t is_complex tools Genred KernelSolve reduction_op kwargs opt_arg callfun
        rec_multVar_highdim real imag""",
    "Operators and methods": """
        power exp log xlogx sin cos sinxdivx sinc asin acos atan atan2 abs sqrt rsqrt square sign step relu clamp ifelse
        mod round sqnorm2 norm2 norm normalize sqdist weightedsqnorm weightedsqdist elem extract one_hot bspline concat
        concatenate cat matvecmult vecmatmult tensorprod keops_tensordot keops_kron softdtw_sqdist difference_matrix
        grad diff grad_matrix divergence laplacian trace_operator factorize auto_factorize real2complex imag2complex
        exp1j angle conj""",
    "Reductions": """
        sum min max argmin argmax min_argmin max_argmax Kmin argKmin Kmin_argKmin logsumexp sumsoftmaxweight __min__
        __max__ reduction solve matvec rmatvec sum_reduction min_reduction max_reduction argmin_reduction
        argmax_reduction min_argmin_reduction max_argmax_reduction Kmin_reduction argKmin_reduction
        Kmin_argKmin_reduction logsumexp_reduction sumsoftmaxweight_reduction""",
    "Keywords of reductions": """
        call backend device_id ranges out dtype_acc use_double_acc sum_scheme enable_chunks use_fast_math optional_flags
        rec_multVar_highdim""",
    "Names of reductions, for `Genred` and `reduction`": """
        Sum LogSumExp LogSumExpWeight SumSoftMaxWeight SoftMax Max_SumShiftExp Max_SumShiftExpWeight Min Max ArgMin
        ArgMax Min_ArgMin Max_ArgMax KMin ArgKMin KMin_ArgKMin MinArgMin MaxArgMax KMinArgKMin""",
    "Names of formulas": """
        Var IntCst RatCst IntInv Zero Add Subtract Mult Divide Minus Inv Scalprod Square Pow Powf Abs Exp Log XLogX Sin
        Cos SinXDivX Asin Acos Atan Atan2 Sqrt Rsqrt Sign Step Floor Round ReLU Clamp ClampInt DiffClampInt IfElse Mod
        Equal NotEqual LessThan LessOrEqual Sum SumT Max Min ArgMax ArgMin SqNorm2 Norm2 Normalize SqDist SqNormIso
        SqNormDiag SymSqNorm WeightedSqNorm WeightedSqDist Elem ElemT Extract ExtractT Concat OneHot BSpline
        SoftDTW_SqDist GradSoftDTW_SqDist MatVecMult VecMatMult TensorProd TensorDot Kron ComplexReal ComplexImag
        Real2Complex Imag2Complex Conj ComplexAbs ComplexSquareAbs ComplexAngle ComplexSum ComplexSumT ComplexAdd
        ComplexSubtract ComplexMult ComplexDivide ComplexRealScal ComplexExp ComplexExp1j Grad Diff
        Grad_WithSavedForward Diff_WithSavedForward GradMatrix Divergence Laplacian TraceOperator AdjointOperator
        SumLinOperator Factorize AutoFactorize Sum_Reduction Max_SumShiftExp_Reduction
        Max_SumShiftExpWeight_Reduction Min_Reduction Max_Reduction ArgMin_Reduction ArgMax_Reduction
        Min_ArgMin_Reduction Max_ArgMax_Reduction KMin_Reduction ArgKMin_Reduction KMin_ArgKMin_Reduction
        Zero_Reduction""",
    "Clusters: `pairfuse.numpy.cluster` and `pairfuse.torch.cluster`": """
        grid_cluster sort_clusters cluster_ranges cluster_centroids cluster_ranges_centroids from_matrix swap_axes""",
}
OPERATORS = (
    *("x + y", "x - y", "x * y", "x / y", "-x", "abs(x)", "x ** y", "x | y"),
    *("x < y", "x <= y", "x > y", "x >= y", "x == y", "x != y", "x[k]", "K @ v"),
)

# Of `pykeops` itself and of its modules.
KEOPS_PACKAGES = """
    : __version__ verbose set_verbose clean_pykeops set_build_folder get_build_folder check_health show_cuda_status
      default_device_id numpy_found torch_found test_numpy_bindings test_torch_bindings config pykeopsconfig
      pykeops_nvrtc_name keops_get_build_folder
    .common: keops_io gpu_utils.get_gpu_number gpu_utils.get_gpu_props
    .config: numpy_found torch_found gpu_available get_build_folder pykeops_cuda pykeops_openmp pykeops_base
      python_includes pykeops_nvrtc_name pykeops_cpp_name config platform_detector cuda_config openmp_config get_config
      get_platform_config get_cuda_config get_openmp_config
    .numpy: cluster operations.KernelSolve lazytensor.LazyTensor.Var
    .torch: cluster operations.KernelSolve lazytensor.LazyTensor.Var
    .numpy.utils: numpytools squared_distances differences np_kernel log_np_kernel grad_np_kernel np_kernel_sphere
      chain_rules log_sum_exp WarmUpGpu
    .torch.utils: torchtools squared_distances torch_kernel is_on_device
    .torch.generic.generic_red: Genred GenredAutograd GenredAutograd_base GenredAutograd_fun check_AD_supported
      set_device Genred_parameters
    .torch: half2_convert operations.KernelSolveAutograd
    .common.lazy_tensor: GenericLazyTensor ComplexGenericLazyTensor is_complex_lazytensor is_scalar_and_equals
      same_or_one_test
    .common.operations: preprocess postprocess ConjugateGradientSolver KernelLinearSolver
    .common.utils: axis2cat cat2axis check_broadcasting max_tuple get_tools pyKeOps_Print pyKeOps_Message
      pyKeOps_Warning WarmUpGpu
    .common.parse_type: get_type get_sizes complete_aliases get_optional_flags parse_dtype_acc categories
    .common.get_options: SetBackend get_tag_backend
    keopscore: formulas formulas.Var formulas.Exp config.config config.cuda_config utils.misc_utils
      formulas.Operation.Operation formulas.Reduction formulas.maths.Abs.VectorizedScalarOp
      utils.code_gen_utils.c_variable get_keops_dll.get_keops_dll mapreduce.MapReduce.MapReduce
      binders.LinkCompile.LinkCompile
"""


def names_of_packages() -> set[str]:
    found: set[str] = set()
    place = ""
    for word in KEOPS_PACKAGES.split():
        if word.endswith(":"):
            place = word[:-1] if word == "keopscore:" else "pykeops" + word[:-1]
        else:
            found.add(f"{place}.{word}")
    return found


# ---------------------------------------------------------------------- the page


def tables() -> dict[str, dict[str, tuple[str, str]]]:
    """Section by section, what the page says of every name: its state and the note."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    section = ""
    for line in PAGE.splitlines():
        if line.startswith("### "):
            section = line[4:]
        elif section and line.startswith("| `"):
            names, state, note = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:4])
            for name in re.findall(r"`([^`]+)`", names):
                entry = name.replace("\\|", "|")
                assert entry not in found.setdefault(section, {}), f"{entry} is there twice"
                found[section][entry] = (state, note)
    return found


def extras(title: str) -> set[str]:
    """The names of a paragraph of the section of names that KeOps does not have."""
    (paragraph,) = re.findall(rf"^{re.escape(title)}: (.*(?:\n.+)*)", PAGE, flags=re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", paragraph))


TABLES = tables()
NAMES = [(section, name) for section, rows in TABLES.items() for name in rows]

"""The drop-in: `pykeops` and `keopscore` by Pairfuse, and the libraries that use them.

Each test runs in a process of its own, in which the packages of the folder `dropin` stand first on the path.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).parents[1]


def run(script: str, dropin: bool = True) -> str:
    """Run a script in a fresh process; its standard output."""
    folders = [str(ROOT / "src"), *([str(ROOT / "dropin" / "src")] if dropin else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_gives_ours_and_loads_no_torch() -> None:
    said = run("""
        import sys, pykeops, keopscore
        from pykeops.numpy import LazyTensor, Genred
        import pairfuse.numpy
        assert issubclass(LazyTensor, pairfuse.numpy.LazyTensor)
        assert "torch" not in sys.modules
        print(pykeops.__version__, pykeops.__file__)
    """)
    assert said.startswith("2.3 ")
    assert "dropin" in said


def test_install_in_a_running_process() -> None:
    run(
        """
        import sys, types
        sys.modules["pykeops"] = types.ModuleType("pykeops")  # as if the real one had been imported
        sys.modules["pykeops.torch"] = types.ModuleType("pykeops.torch")
        import pairfuse
        pairfuse.install_as_pykeops()
        from pykeops.torch import LazyTensor
        from pykeops.torch.cluster import from_matrix
        import pairfuse.torch
        assert issubclass(LazyTensor, pairfuse.torch.LazyTensor)
        """,
        dropin=False,
    )


def test_bindings_say_that_they_work() -> None:
    said = run("""
        import pykeops
        pykeops.test_numpy_bindings()
        pykeops.test_torch_bindings()
        pykeops.set_verbose(False)
        pykeops.test_numpy_bindings()
    """)
    assert said.count("is working!") == 2


def test_build_folder(tmp_path: Path) -> None:
    run(f"""
        import os, pykeops
        before = pykeops.get_build_folder()
        pykeops.set_build_folder({str(tmp_path)!r})
        assert pykeops.get_build_folder() == {str(tmp_path)!r}
        pykeops.test_numpy_bindings()
        assert os.listdir(os.path.join({str(tmp_path)!r}, "objects"))
        pykeops.clean_pykeops()
        assert not os.listdir(os.path.join({str(tmp_path)!r}, "objects"))
        pykeops.set_build_folder()
    """)


def test_what_is_missing_says_why() -> None:
    run("""
        import types
        import keopscore, pykeops.config
        assert pykeops.config.gpu_available in (True, False)
        assert pykeops.show_cuda_status == pykeops.config.gpu_available
        from keopscore.formulas.Operation import Operation
        from keopscore.formulas.maths.Abs import Abs, VectorizedScalarOp
        from keopscore.get_keops_dll import get_keops_dll
        from keopscore.utils.code_gen_utils import c_variable
        from keopscore.utils.misc_utils import KeOps_Error
        from pykeops.common.get_options import get_tag_backend
        from pykeops.config import pykeops_nvrtc_name
        import keopscore.formulas.maths.Exp
        assert callable(keopscore.formulas.maths.Exp) and not isinstance(1, Operation)
        for name, use in (
            ("pykeops.config.pykeops_nvrtc_name", lambda: pykeops_nvrtc_name("target")),
            ("keopscore.get_keops_dll.get_keops_dll", lambda: get_keops_dll("Sum")),
            ("c_variable", lambda: c_variable("float")), ("get_tag_backend", lambda: get_tag_backend("auto", ())),
            ("VectorizedScalarOp", lambda: types.new_class("New", (VectorizedScalarOp,))),
            ("Operation", lambda: Operation.Broadcast), ("cuda_config.no", lambda: keopscore.cuda_config.no()),
        ):
            try:
                use()
            except (NotImplementedError, AttributeError) as error:
                assert name in str(error) and "Pairfuse" in str(error) and "Hint:" in str(error), error
            else:
                raise AssertionError(name)
        try:
            KeOps_Error("text")
        except ValueError as error:
            assert "text" in str(error)
        for module in (keopscore, pykeops.config):
            try:
                module.no_name_of_keops
            except AttributeError as error:
                assert "no_name_of_keops" in str(error)
            else:
                raise AssertionError(module)
        keopscore.config.use_cuda = False
        keopscore.config.config.use_cuda = False
        keopscore.auto_factorize = True
        assert keopscore.config.get_build_folder() == pykeops.get_build_folder()
        assert keopscore.cuda_config.get_use_cuda() == pykeops.config.gpu_available
        from keopscore.formulas import Var, Exp, Sum
        assert "exp" in repr(Exp(Sum(Var(0, 3, 0) - Var(1, 3, 1))))
        from keopscore.formulas import Grad, IntCst
        from keopscore.formulas.reductions import Sum_Reduction
        assert repr(Grad(Exp(Var(0, 1, 0)), Var(0, 1, 0), IntCst(1))) == repr(Exp(Var(0, 1, 0)))
    """)


def test_every_module_can_be_imported_first() -> None:
    """Each in a process in which no other was: an import does not depend on those before."""
    run("""
        import importlib, sys, pairfuse.dropin
        from pairfuse.dropin.finder import names
        for name in names():
            pairfuse.dropin.install()
            module = importlib.import_module(name)
            assert module.__name__ == name
            for held in names()[name]:
                getattr(module, held)
    """)


def test_formulas_are_true() -> None:
    """Programs assert on comparisons, or test whether there is a formula: in the drop-in only."""
    run("""
        import numpy as np, torch, pairfuse.numpy
        import pykeops.numpy, pykeops.torch
        for face, x in ((pykeops.numpy, np.zeros((3, 1))), (pykeops.torch, torch.zeros(3, 1))):
            d = face.Vi(x).sqdist(face.Vj(x))
            for formula in (d, d > 1, d < 1e-3, (d.exp1j() * d).real, face.Vi(0, 3), abs(d)):
                assert bool(formula) is True
                assert isinstance(formula, face.LazyTensor), type(formula)
        try:
            bool(pairfuse.numpy.Vi(np.zeros((3, 1))) < 1)
        except TypeError:
            pass
        else:
            raise AssertionError("our own face must refuse")
    """)


def test_solve_has_the_tolerance_of_keops() -> None:
    run("""
        import numpy as np, torch, pairfuse.numpy
        import pykeops.numpy, pykeops.torch
        rng = np.random.default_rng(0)
        x, b = rng.random((20, 2)), 1e-8 * rng.random((20, 1))
        dense = np.linalg.solve(np.exp(-((x[:, None] - x) ** 2).sum(-1)) + 0.5 * np.eye(20), b)
        text, aliases = "Exp(-SqDist(x, y)) * b", ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"]
        for face, of in ((pykeops.numpy, np.asarray), (pykeops.torch, torch.as_tensor)):
            X, B = of(x), of(b)
            k = (-face.Vi(X).sqdist(face.Vj(X))).exp()
            solvers = (
                lambda **o: k.solve(face.Vi(B), alpha=0.5, **o), lambda **o: k.solve(other=B, alpha=0.5, **o),
                lambda **o: k.solve(face.Vi(B), alpha=0.5, call=False)(**o),
                lambda **o: k.solve(face.Vi(B), call=False)(alpha=0.5, **o),
                lambda **o: face.KernelSolve(text, aliases, "b", axis=1)(X, X, B, alpha=0.5, **o),
            )
            for solve in solvers:
                assert (np.asarray(solve()) == 0).all()  # 1e-6, of the residual itself
                np.testing.assert_allclose(np.asarray(solve(eps=1e-17)), dense, rtol=1e-5)
        ours = (-pairfuse.numpy.Vi(x).sqdist(pairfuse.numpy.Vj(x))).exp().solve(b, alpha=0.5)
        np.testing.assert_allclose(ours, dense, rtol=1e-4)
    """)


def test_waiting_reductions_have_callfun() -> None:
    """The reduction as a function of all arrays; of a linear system the right-hand side comes first."""
    run("""
        import numpy as np, torch
        import pykeops.numpy, pykeops.torch
        rng = np.random.default_rng(0)
        x, y, b = rng.random((6, 2)), rng.random((6, 2)), rng.random((6, 1))
        for face, of in ((pykeops.numpy, np.asarray), (pykeops.torch, torch.as_tensor)):
            X, Y, B = of(x), of(y), of(b)
            k = (-face.Vi(X).sqdist(face.Vj(X)) / 0.3).exp()
            later = k.solve(face.Vi(B), alpha=0.5, eps=1e-10, call=False)
            np.testing.assert_array_equal(later.callfun(B, *later.variables), later())
            assert (later.reduction_op, later.axis, later.varindex, later.varformula) == ("Solve", 1, 0, "Var(0,1,1)")
            assert later.other.ndim == 1 and later.ni == 6 and later.ndim == 1 and later.dtype == "float64"
            plain = k.sumsoftmaxweight(face.Vj(Y), dim=1, call=False)
            np.testing.assert_array_equal(plain.callfun(*plain.variables), plain())
            symbolic = (face.Vi(0, 2).sqdist(face.Vj(Y)) * 2.5).min(dim=1)
            np.testing.assert_array_equal(symbolic.callfun(X, *symbolic.variables), symbolic(X))
            assert symbolic.tools is face.utils.__dict__[f"{face.__name__[8:]}tools"]
    """)


def test_names_of_arguments_and_operations() -> None:
    run("""
        import numpy as np, torch
        import pykeops.numpy, pykeops.torch
        rng = np.random.default_rng(0)
        a, c = rng.random((6, 3)), rng.random((5, 3))
        for face, of in ((pykeops.numpy, np.asarray), (pykeops.torch, torch.as_tensor)):
            x, y = face.Vi(of(a)), face.Vj(of(c))
            pairs = [
                (x.weightedsqdist(g=y, s=face.Pm(of(a[0]))), x.weightedsqdist(y, face.Pm(of(a[0])))),
                ((x - y).clamp(other1=-0.1, other2=0.2), (x - y).clamp(-0.1, 0.2)),
                ((x - y).ifelse(other1=x, other2=y), (x - y).ifelse(x, y)), (x.concat(other=y), x.concat(y)),
                (x.sqdist(other=y), x.sqdist(y)), ((x + y).mod(modulus=0.3), (x + y).mod(0.3)),
                ((x * y).extract(i=1, d=2), (x * y)[1:]), (face.LazyTensor.cat((x, y), dim=-1), x.concat(y)),
                (x.unary("Exp"), x.exp()), (x.binary(y, "Scalprod", dimres=1, dimcheck="same"), x | y),
                (x.binary(y, "+", is_operator=True), x + y), (x.binary(2, "-", is_operator=True, rversion=True), 2 - x),
                (x.ternary(y, 1, "IfElse"), x.ifelse(y, 1)), (x.addop(y), x + y), (x.divop(y), x / y),
                (x.lt_constructor(of(c[None])), y), (x.unary("Extract", opt_arg=1, opt_arg2=2), x[1:]),
            ]
            for got, expected in pairs:
                assert type(got) is face.LazyTensor
                np.testing.assert_array_equal((got * y[0] * x[0]).sum(dim=1), (expected * y[0] * x[0]).sum(dim=1))
            assert x.new_variable_index() == 0 and face.Vi(3, 2).new_variable_index() == 4
            for wrong in (lambda: x.unary("Nothing"), lambda: x(), lambda: x.fixvariables()):
                try:
                    wrong()
                except ValueError as error:
                    assert "Hint" in str(error), error
                else:
                    raise AssertionError
    """)


def test_complex_class_has_the_methods() -> None:
    run("""
        import numpy as np, torch
        import pykeops.numpy, pykeops.torch, pairfuse.numpy, pairfuse.torch
        z = np.exp(1j * np.arange(6.0)).reshape(3, 2)
        faces = (pykeops.numpy, np.asarray), (pykeops.torch, torch.as_tensor), (pairfuse.numpy, np.asarray)
        for face, of in faces:
            C, k = face.ComplexLazyTensor, face.Vi(of(z)) * face.Vj(of(z))
            assert isinstance(k, C) and not isinstance(k.real, C) and issubclass(C, face.LazyTensor)
            for method in ("conj", "exp", "angle", "sum", "__abs__", "__mul__"):
                others = {"__mul__": (k,), "sum": (-1,)}.get(method, ())
                got, expected = getattr(C, method)(k, *others), getattr(k, method)(*others)
                np.testing.assert_array_equal(got.sum(dim=1), expected.sum(dim=1))
            np.testing.assert_array_equal(C.real.fget(k).sum(dim=1), k.real.sum(dim=1))
            assert C(of(z.real), 0).is_complex
    """)


def test_places_that_no_term_fills() -> None:
    """The index 0, as in KeOps, for LazyTensors, waiting reductions and formula strings, and in `out`."""
    run("""
        import numpy as np, torch
        import pykeops.numpy, pykeops.torch
        v = np.array([[5.0], [1.0], [3.0]])
        for face, of in ((pykeops.numpy, np.asarray), (pykeops.torch, torch.as_tensor)):
            k = face.Vi(of(np.zeros((2, 1)))) + face.Vj(of(v))
            genred = face.Genred("x + y", ["x = Vi(1)", "y = Vj(1)"], reduction_op="ArgKMin", axis=1, opt_arg=5)
            generic = face.generic_argkmin("x + y", "a = Vi(5)", "x = Vi(1)", "y = Vj(1)")
            out = of(np.zeros((2, 5), np.int64))
            for got in (
                k.argKmin(5, dim=1), k.Kmin_argKmin(5, dim=1)[1], k.argKmin(5, dim=1, call=False)(),
                k.argKmin_reduction(K=5, dim=1), genred(of(np.zeros((2, 1))), of(v)),
                generic(of(np.zeros((2, 1))), of(v)), k.argKmin(5, dim=1, out=out), out,
            ):
                np.testing.assert_array_equal(got, [[1, 2, 0, 0, 0]] * 2)
            values, indices = face.Genred("x + y", ["x = Vi(1)", "y = Vj(1)"], "KMin_ArgKMin", 1, opt_arg=4)(
                of(np.zeros((2, 1))), of(v)
            )
            np.testing.assert_array_equal(indices, [[1, 2, 0, 0]] * 2)
            np.testing.assert_array_equal(values, [[1, 3, 5, np.inf]] * 2)
    """)


def test_rows_of_nothing_but_nan() -> None:
    """Their smallest term has the index 0, as in KeOps: in all faces and forms, and in `out`."""
    run("""
        import numpy as np, torch
        import pykeops.numpy, pykeops.torch
        x, y, aliases = np.array([[1.0], [np.nan]]), np.array([[2.0], [0.0], [np.nan]]), ["x = Vi(1)", "y = Vj(1)"]
        for face, of in ((pykeops.numpy, np.asarray), (pykeops.torch, torch.as_tensor)):
            a, b = of(x), of(y)
            k = face.Vi(a) + face.Vj(b)
            out = of(np.full((2, 1), -1))
            for index, word, expected in (("argmin", "ArgMin", 1), ("argmax", "ArgMax", 0)):
                both, both_words = f"{index[3:]}_{index}", f"{word[3:]}_{word}"
                for got in (
                    getattr(k, index)(dim=1), getattr(k, index)(axis=1, call=False)(),
                    getattr(k, f"{index}_reduction")(dim=1), getattr(k, index)(dim=1, out=out), out,
                    getattr(k, both)(dim=1)[1], getattr(k, both)(dim=1, call=False)()[1],
                    k.reduction(word, axis=1), getattr(k.T, index)(dim=0),
                    face.Genred("x + y", aliases, word, axis=1)(a, b),
                    face.Genred("x + y", aliases, both_words, axis=1)(a, b)[1],
                    face.Genred(f"{word}_Reduction(x + y, 0)", aliases)(a, b),
                ):
                    np.testing.assert_array_equal(got, [[expected], [0]])
            np.testing.assert_array_equal(face.generic_argmin("x + y", "a = Vi(1)", *aliases)(a, b), [[1], [0]])
            assert isinstance(face.Vi(of(np.ones((2, 3)))).argmin(), face.LazyTensor)  # over the components
    """)


def test_small_parts_of_common() -> None:
    run("""
        import numpy as np
        from pykeops.common import parse_type, utils
        from pykeops.common.lazy_tensor import is_complex_lazytensor, is_scalar_and_equals, same_or_one_test
        from pykeops.numpy import LazyTensor
        assert parse_type.get_type("x = Vi(3)") == ("x", 0, 3, None)
        assert parse_type.get_type("x=Vj(2,3)", 7) == ("x", 1, 3, 2)
        assert parse_type.get_type("Var(0,3,1)") == (None, 1, 3, 0)
        assert parse_type.complete_aliases("Exp(x)*Var(1,2,1)", ["x = Vi(3)"]) == ["x = Vi(3)", "Var(1,2,1)"]
        assert (utils.axis2cat(0), utils.cat2axis(1)) == (1, 0)
        assert utils.check_broadcasting((2, 1), (3,)) == (2, 3)
        assert utils.max_tuple((1, 2, 3), (3, 1, 3)) == (3, 2, 3)
        assert is_scalar_and_equals(1.0, 1) and not is_scalar_and_equals(True, 1)
        assert same_or_one_test(1, 3) and not same_or_one_test(2, 3)
        x = LazyTensor(np.ones((3, 1, 2)))
        assert not is_complex_lazytensor(x) and is_complex_lazytensor(x * 1j)
        assert utils.get_tools("numpy").is_tensor(np.ones(1)) and utils.get_tools("torch").dtypename
    """)


def test_kernel_solve() -> None:
    """The optional arguments have another order in each of PyKeOps' two classes."""
    run("""
        import numpy as np, torch
        from pykeops.numpy import KernelSolve as on_arrays
        from pykeops.torch import KernelSolve as on_tensors
        from pykeops.numpy.operations import KernelSolve as same_on_arrays
        from pykeops.torch.operations import KernelSolve as same_on_tensors
        assert on_arrays is same_on_arrays and on_tensors is same_on_tensors
        x, b = np.random.default_rng(0).random((30, 2)), np.random.default_rng(1).random((30, 3))
        dense = np.exp(-((x[:, None] - x) ** 2).sum(-1)) + 0.1 * np.eye(30)
        text, aliases = "Exp(-SqDist(x, y)) * b", ["x = Vi(2)", "y = Vj(2)", "b = Vj(3)"]
        u = on_arrays(text, aliases, "b", 1, "float64", None, "auto", False)(x, x, b, alpha=0.1, eps=1e-11)
        np.testing.assert_allclose(u, np.linalg.solve(dense, b), atol=1e-8)
        t, c = torch.tensor(x), torch.tensor(b)
        v = on_tensors(text, aliases, "b", 1, "auto", True, "block_sum")(t, t, c, alpha=0.1, eps=1e-11)
        np.testing.assert_allclose(v, u, atol=1e-8)
    """)


def test_dense_kernels() -> None:
    run("""
        import numpy as np, torch
        from pykeops.numpy.utils import chain_rules, differences, grad_np_kernel, log_np_kernel, np_kernel
        from pykeops.torch.utils import torch_kernel
        rng = np.random.default_rng(0)
        x, y = rng.random((4, 3)), rng.random((5, 3))
        for kernel in ("gaussian", "laplacian", "cauchy", "inverse_multiquadric"):
            k = np_kernel(x, y, 0.7, kernel)
            np.testing.assert_allclose(torch_kernel(torch.tensor(x), torch.tensor(y), 0.7, kernel), k, rtol=1e-12)
            np.testing.assert_allclose(np.log(k), log_np_kernel(x, y, 0.7, kernel), rtol=1e-10)
            q, p = rng.random((4, 2)), rng.random((5, 2))
            t = torch.tensor(x, requires_grad=True)
            (g,) = torch.autograd.grad((torch_kernel(t, torch.tensor(y), 0.7, kernel) * torch.tensor(q @ p.T)).sum(), t)
            ours = chain_rules(q, x, y, grad_np_kernel(x, y, 0.7, kernel), p)
            np.testing.assert_allclose(ours, g, rtol=1e-9)
            assert differences(x, y).shape == (3, 4, 5)
    """)


GEOMLOSS = """
    import torch
    from geomloss import SamplesLoss
    torch.manual_seed(0)
    x, y = torch.rand(300, 3, dtype=torch.float64), torch.rand(400, 3, dtype=torch.float64) + 0.2

    def loss(name, backend, truncate=None):
        a = x.clone().requires_grad_()
        value = SamplesLoss(name, p=2, blur=0.05, truncate=truncate, backend=backend)(a, y).reshape(())
        return value.detach(), *torch.autograd.grad(value, a)
"""


def test_geomloss() -> None:
    """Value and gradient are those of geomloss' dense path."""
    pytest.importorskip("geomloss")
    run(
        textwrap.dedent(GEOMLOSS)
        + textwrap.dedent("""
            # the dense path takes the square root of at least 1e-8, also for a point and itself: 1e-4 instead of 0
            tolerances = {"sinkhorn": 1e-6, "gaussian": 1e-6, "laplacian": 2e-4, "energy": 1e-5}
            for name, tolerance in tolerances.items():
                for backend in ("online", "multiscale"):
                    if (name, backend) != ("sinkhorn", "multiscale"):
                        for ours, dense in zip(loss(name, backend), loss(name, "tensorized")):
                            torch.testing.assert_close(ours, dense, rtol=0, atol=tolerance * float(dense.abs().max()))

            # The coarse steps of the multiscale Sinkhorn leave another approximation than the dense path, with
            # truncate=5 block-sparse: value and gradient are those that PyKeOps 2.3 gives.
            first = torch.tensor([-0.0006876673545900, -0.0004813745418012, -0.0004672469586577], dtype=torch.float64)
            for truncate in (None, 5):
                value, gradient = loss("sinkhorn", "multiscale", truncate)
                assert abs(float(value) / 0.0581360133835002 - 1) < 1e-9, value
                torch.testing.assert_close(gradient[0], first, rtol=1e-6, atol=0)
        """)
    )


def test_gpytorch() -> None:
    """A step of training and a prediction: the kernels of gpytorch.kernels.keops against the dense ones."""
    pytest.importorskip("gpytorch")
    run("""
        import gpytorch, torch
        from gpytorch import kernels, settings

        class Model(gpytorch.models.ExactGP):
            def __init__(self, x, y, likelihood, module):
                super().__init__(x, y, likelihood)
                self.mean_module = gpytorch.means.ConstantMean()
                self.covar_module = kernels.ScaleKernel(getattr(module, kernel)())
            def forward(self, x):
                return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

        for kernel in ("RBFKernel", "MaternKernel", "PeriodicKernel"):
            torch.manual_seed(0)
            x = torch.rand(80, 2, dtype=torch.float64)
            y = torch.sin(6 * x[:, 0]) + x[:, 1]
            new = torch.rand(30, 2, dtype=torch.float64)
            found = []
            for module in (kernels.keops, kernels):
                likelihood = gpytorch.likelihoods.GaussianLikelihood()
                model = Model(x, y, likelihood, module).double()
                likelihood_of_the_data = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
                optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
                # iterative methods on both sides, with the same random vectors for the determinant
                with settings.max_cholesky_size(1), settings.cg_tolerance(1e-10), settings.eval_cg_tolerance(1e-10), \\
                     settings.max_cg_iterations(1000), settings.max_preconditioner_size(0), \\
                     settings.max_lanczos_quadrature_iterations(80):
                    model.train(); likelihood.train()
                    torch.manual_seed(1)
                    loss = -likelihood_of_the_data(model(x), y)
                    loss.backward()
                    gradients = [p.grad for p in model.parameters()]
                    optimizer.step()
                    model.eval(); likelihood.eval()
                    with torch.no_grad():
                        predicted = likelihood(model(new))
                        found.append((loss.detach(), gradients, predicted.mean, predicted.variance))
            for k in (0, 2, 3):
                torch.testing.assert_close(found[0][k], found[1][k], rtol=1e-5, atol=1e-5)
            assert len(found[0][1]) == len(found[1][1]) >= 4
            for ours, dense in zip(found[0][1], found[1][1]):
                torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-5)
    """)


TORCHDR = """
    import sys, types
    import torch
    for name in ("matplotlib", "matplotlib.pylab", "matplotlib.pyplot"):  # imported for pictures, and not asked for
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
    import torchdr
    torch.manual_seed(0)
    X = torch.randn(60, 5, dtype=torch.float64)

    def affinity(name, backend, **options):
        torch.manual_seed(0)
        P = getattr(torchdr, name)(backend=backend, **options)(X)
        if backend is None:
            return P
        assert isinstance(P, pykeops.torch.LazyTensor), type(P)
        return P @ torch.eye(60, dtype=torch.float64)
"""


def test_torchdr() -> None:
    """The affinities of torchdr 0.5 that are LazyTensors under `backend="keops"`, against its dense ones."""
    pytest.importorskip("sklearn")
    if importlib.util.find_spec("torchdr") is None:
        pytest.skip("torchdr is not installed")
    run(
        "import pykeops.torch\n"
        + textwrap.dedent(TORCHDR)
        + textwrap.dedent("""
            cases = {
                "SinkhornAffinity": ({"eps": 1.0}, 1e-12),
                # both stop at the tolerance of torchdr's own iterations
                "SymmetricEntropicAffinity": ({"perplexity": 10}, 1e-6),
                "DoublyStochasticQuadraticAffinity": ({"zero_diag": False, "max_iter": 300}, 1e-10),
                "NormalizedGaussianAffinity": ({}, 1e-12),
                "NormalizedStudentAffinity": ({}, 1e-12),
                "SelfTuningAffinity": ({}, 1e-12),
                "MAGICAffinity": ({}, 1e-12),
            }
            for name, (options, tolerance) in cases.items():
                dense, ours = (affinity(name, backend, **options) for backend in (None, "keops"))
                torch.testing.assert_close(ours, dense, rtol=0, atol=tolerance, msg=lambda text: f"{name}: {text}")
        """)
    )


def test_what_torchdr_does() -> None:
    """Its checks are assertions on comparisons of LazyTensors; and what its affinities do after them."""
    run("""
        import torch
        from pykeops.torch import LazyTensor
        torch.manual_seed(0)
        x = torch.randn(30, 3, dtype=torch.float64)
        C = ((LazyTensor(x.unsqueeze(-2)) - LazyTensor(x.unsqueeze(-3))) ** 2).sum(-1)
        dense = torch.cdist(x, x) ** 2
        assert C >= 0
        assert C == C.T
        f = torch.zeros(30, dtype=torch.float64)
        for _ in range(5):  # Sinkhorn, symmetric
            f = 0.5 * (f - (LazyTensor(f.unsqueeze(-1), 0) - C).logsumexp(0).view(-1))
        g = torch.zeros(30, dtype=torch.float64)
        for _ in range(5):
            g = 0.5 * (g - (g[:, None] - dense).logsumexp(0))
        torch.testing.assert_close(f, g)
        P = (LazyTensor(f.unsqueeze(-1), 0) + LazyTensor(f.unsqueeze(-1), 1) - C).exp()
        torch.testing.assert_close(P.sum(1).view(-1), (f[:, None] + f - dense).exp().sum(1))
        assert P.shape[0] == 30 and (P < 1e9)
    """)

"""The drop-in: `pykeops` and `keopscore` by Pairfuse, and the libraries that use them.

Each test runs in a process of its own, in which the packages of the folder `dropin` stand first on the path.
"""

from __future__ import annotations

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
        assert LazyTensor is pairfuse.numpy.LazyTensor
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
        assert LazyTensor is pairfuse.torch.LazyTensor
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
        import keopscore, pykeops.config
        assert pykeops.config.gpu_available in (True, False)
        assert pykeops.show_cuda_status == pykeops.config.gpu_available
        for module, name in ((pykeops.config, "pykeops_nvrtc_name"), (keopscore, "get_keops_dll")):
            try:
                getattr(module, name)
            except AttributeError as error:
                assert "Pairfuse" in str(error), error
            else:
                raise AssertionError(name)
        keopscore.config.use_cuda = False
        keopscore.config.config.use_cuda = False
        keopscore.auto_factorize = True
        from keopscore.formulas import Var, Exp, Sum
        assert "exp" in repr(Exp(Sum(Var(0, 3, 0) - Var(1, 3, 1))))
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

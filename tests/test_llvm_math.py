"""The vector functions of the LLVM backend: errors within the bounds of the table, and the special values of C."""

from __future__ import annotations

import functools
import zlib

import numpy as np
import pytest
import vector_math as vm

from pairfuse.backends.llvm.math import MATH

MACHINES = {m.label: m for m in vm.machines()}
ELEMS = ["float", "double"]
COUNT = {"float": 6000, "double": 3000}


@functools.cache
def cases(name: str, elem: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Arguments and exact values: the same for all machines."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {elem}".encode()))
    args = vm.arguments(name, elem, COUNT[elem] // (10 if name == "erf" else 1), rng)
    with np.errstate(all="ignore"):
        return args, vm.reference(name)(*(a.astype(vm.wider(elem)) for a in args))


@pytest.mark.parametrize("elem", ELEMS)
@pytest.mark.parametrize("label", MACHINES)
@pytest.mark.parametrize("name", MATH)
def test_errors_are_within_the_bounds_of_the_table(name: str, label: str, elem: str) -> None:
    if not vm.has_wider(elem):
        pytest.skip("long double is no wider than double here")
    args, exact = cases(name, elem)
    got = vm.vector_function(name, elem, MACHINES[label], replicas=2)(*args)
    error, where = vm.worst(got, exact, args)
    row = MATH[name]
    assert error <= (row.max_ulp_float if elem == "float" else row.max_ulp_double), f"{error:.3f} ulp {where}"


SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e-40, -1e-40, 1e30, -1e30, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("elem", ELEMS)
@pytest.mark.parametrize("label", MACHINES)
@pytest.mark.parametrize("name", MATH)
def test_special_values(name: str, label: str, elem: str) -> None:
    """Signs of zeros, infinities, NaN and subnormals as in C."""
    dtype = vm.DTYPES[elem]
    ends = [np.finfo(dtype).max, -np.finfo(dtype).max, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal]
    values = np.array(SPECIAL, dtype)
    values = np.concatenate([values, np.array(ends, dtype)])
    args = [a.ravel() for a in np.meshgrid(values, values)] if MATH[name].arity == 2 else [values]
    got = vm.vector_function(name, elem, MACHINES[label])(*args)
    with np.errstate(all="ignore"):
        exact = vm.reference(name)(*(a.astype(vm.wider(elem)) for a in args))
    signs = np.signbit(got) == np.signbit(exact)
    if name == "rsqrt":
        signs |= got == 0  # 0 at 0, of either sign
    right = (vm.ulps(got, exact) <= 2) & (signs | np.isnan(exact))
    assert right.all(), [(*(a[k] for a in args), got[k], exact[k]) for k in np.flatnonzero(~right)]


EXACT = [
    ("exp", [0.0], [1.0]),
    ("exp2", np.arange(-140.0, 128.0), 2.0 ** np.arange(-140.0, 128.0)),
    ("log", [1.0], [0.0]),
    ("log2", 2.0 ** np.arange(-140.0, 128.0), np.arange(-140.0, 128.0)),
    ("sigmoid", [0.0], [0.5]),
    ("cosh", [0.0], [1.0]),
    ("cos", [0.0], [1.0]),
    ("acos", [1.0], [0.0]),
    ("rsqrt", [0.0, 0.25, 1.0, 4.0, np.inf], [0.0, 2.0, 1.0, 0.5, 0.0]),
    ("tanh", [50.0, -50.0], [1.0, -1.0]),
    ("erf", [10.0, -10.0], [1.0, -1.0]),
]


@pytest.mark.parametrize("elem", ELEMS)
@pytest.mark.parametrize("label", MACHINES)
@pytest.mark.parametrize(("name", "x", "y"), EXACT)
def test_exact_values(name: str, x: np.ndarray, y: np.ndarray, label: str, elem: str) -> None:
    dtype = vm.DTYPES[elem]
    np.testing.assert_array_equal(
        vm.vector_function(name, elem, MACHINES[label])(np.array(x, dtype)), np.array(y, dtype)
    )


@pytest.mark.parametrize("elem", ELEMS)
@pytest.mark.parametrize("label", MACHINES)
def test_powers_of_small_integers_are_exact(label: str, elem: str) -> None:
    base, exponent = (a.ravel().astype(float) for a in np.meshgrid(np.arange(-9, 10), np.arange(0, 7)))
    got = vm.vector_function("pow", elem, MACHINES[label])(base, exponent)
    np.testing.assert_array_equal(got, base**exponent)


@pytest.mark.parametrize("elem", ELEMS)
@pytest.mark.parametrize("replicas", [1, 3, 4, 5])
def test_replicas_are_grouped_for_calls_out_of_line(elem: str, replicas: int) -> None:
    x = np.linspace(-2, 2, 200).astype(vm.DTYPES[elem])
    for machine in MACHINES.values():
        one, many = (vm.vector_function("atan2", elem, machine, r) for r in (1, replicas))
        np.testing.assert_array_equal(one(x, x[::-1]), many(x, x[::-1]))


@pytest.mark.parametrize("elem", ELEMS)
def test_vectors_wider_and_narrower_than_a_register(elem: str) -> None:
    """Any number of lanes gives the same results, also where one vector is several registers or half of one."""
    x = np.linspace(0.1, 3, 64)
    for machine in MACHINES.values():
        for name in ("exp", "log", "rsqrt", "tanh", "sin"):
            expected = vm.vector_function(name, elem, machine)(x)
            for bits in (128, 256, 1024, 2048):
                other = vm.Machine(machine.label, machine.cpu, machine.features, bits)
                got = vm.vector_function(name, elem, other)(x)
                np.testing.assert_array_max_ulp(got, expected, 2)


def test_ulps_sees_wrong_results() -> None:
    exact = np.array([1.0, 1.0, 1.0, 1e-45, np.inf, np.nan, 1e39])
    got = np.array([1.0, np.nextafter(np.float32(1), np.float32(2)), np.inf, 0, 3e38, 0, np.inf], np.float32)
    error = vm.ulps(got, exact)
    assert error[0] == 0
    assert error[1] == pytest.approx(1)
    assert error[3] == pytest.approx(1e-45 * 2.0**149)
    assert np.isinf(error[[2, 4, 5]]).all()
    assert error[6] == 0

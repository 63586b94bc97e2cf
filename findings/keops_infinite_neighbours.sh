#!/usr/bin/env bash
# PyKeOps 2.3.0 (CPU, NumPy): neighbours at an infinite distance are not found, and point 0 is named in their place.
#
# Masks are written as infinite distances: where(mask, d, inf). The K smallest of (5, inf, 1, inf, inf, 3, inf), K = 5, are
# the terms number 2, 5, 0 and then, all of them infinite, any of 1, 3, 4, 6. PyKeOps gives 2, 5, 0, 0, 0: the start value
# of its list is infinite, and a term must be smaller than it to enter. The place 0 is a term that was listed already, so
# that whoever gathers neighbours by these indices counts the nearest points several times. The first of (nan, inf, nan)
# is 0, a NaN, and not 1.
#
# Needs: python3 with venv, a C++ compiler, and the package index. Fails if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet numpy==2.3.5 pykeops==2.3
HOME="$folder" KEOPS_CACHE_FOLDER="$folder/keops" "$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import pykeops
from pykeops.numpy import LazyTensor


def row(*terms):
    zero, values = np.zeros((1, 1, 1), dtype="float32"), np.array(terms, dtype="float32")
    return LazyTensor(zero) + LazyTensor(values[None, :, None])


inf, nan = np.inf, np.nan
five = row(5, inf, 1, inf, inf, 3, inf).argKmin(K=5, dim=1).ravel().tolist()
first = row(nan, inf, nan).argmin(dim=1).ravel().tolist()
print(f"pykeops {pykeops.__version__}: argKmin(5) of (5, inf, 1, inf, inf, 3, inf) = {five}, a stable sort gives [2, 5, 0, 1, 3]")
print(f"pykeops {pykeops.__version__}: argmin of (nan, inf, nan) = {first}, the only number is term 1")
assert five == [2, 5, 0, 0, 0], "changed"
assert first == [0], "changed"
PYTHON

"""The staged programs of three small problems, word for word: a change of any pass that should not change them shows.

Where a change is meant, look at the difference, then write the new texts into this file with

    PYTHONPATH=src python tests/test_golden.py
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairfuse.ir.expr import Expr, call, index, input_
from pairfuse.lower.kernel import lower
from pairfuse.lower.problem import Problem
from pairfuse.transform.expand import expand
from pairfuse.transform.simplify import simplify

X, Y, S = input_(0, "i", 3), input_(1, "j", 3), input_(2, "p", 1)
B = input_(3, "j", 2)


def _gaussian_product() -> Problem:
    return Problem((call("exp", -call("sqdist", X, Y) / (S * S * 2.0)) * B,), "sum", "j")


def _masked_nearest() -> Problem:
    other = call("where", call("eq", index("i"), index("j")), float("inf"), call("norm2", X - Y))
    return Problem((other,), "argKmin", "i", "float64", (("K", 2),))


def _weighted_logsumexp() -> Problem:
    return Problem((call("dot", X, Y) / call("norm2", Y), call("exp", S) * call("relu", B)), "logsumexp_weight", "j")


PROBLEMS = {
    "gaussian product": _gaussian_product,
    "nearest but itself": _masked_nearest,
    "weighted logsumexp": _weighted_logsumexp,
}

# golden: begin
GOLDEN = {
    "gaussian product": """
kernel sum over j, float32
  parameter [0:1] = x2_p[1] * x2_p[1] * 2.0
  row       [0:3] = x0_i[3]
  column    [0:3] = x1_j[3]
  column    [3:5] = x3_j[2]
  pair      F0[2] = t0 = row[0:3] - column[0:3]; exp(-(sum_d(t0 * t0, group=3) / parameter[0:1])) * column[3:5]
  state     acc[2] = 0.0 (sum)
""",
    "nearest but itself": """
kernel argKmin over i, float64
  row       [0:3] = x1_j[3]
  column    [0:3] = x0_i[3]
  pair      F0[1] = t0 = column[0:3] - row[0:3]; where(i == j, inf, sqrt(sum_d(t0 * t0, group=3)))
  state     best[2] = nan (real)
  state     index[2] = -1 (index)
""",
    "weighted logsumexp": """
kernel logsumexp_weight over j, float32
  parameter [0:1] = exp(x2_p[1])
  row       [0:3] = x0_i[3]
  column    [0:3] = x1_j[3]
  column    [3:4] = sqrt(sum_d(x1_j[3] * x1_j[3], group=3))
  column    [4:6] = parameter[0:1] * where(x3_j[2] < 0.0, 0.0, x3_j[2])
  pair      F0[1] = t0 = sum_d(row[0:3] * column[0:3], group=3); t0 / column[3:4]
  pair      F1[2] = column[4:6]
  state     m[1] = -3.4028234663852886e+38 (real)
  state     s[2] = 0.0 (sum)
""",
}
# golden: end


def staged(p: Problem) -> str:
    formulas: tuple[Expr, ...] = tuple(simplify(expand(p.formulas)))
    return str(lower(p, formulas))


@pytest.mark.parametrize("name", PROBLEMS)
def test_staged_kernel(name: str) -> None:
    assert staged(PROBLEMS[name]()).splitlines() == GOLDEN[name].strip().splitlines()


def rewritten(text: str) -> str:
    """The source of this file with the texts of today."""
    entries = [f'    "{name}": """\n{staged(make())}\n""",\n' for name, make in PROBLEMS.items()]
    block = "# golden: begin\nGOLDEN = {\n" + "".join(entries) + "}\n# golden: end\n"
    return re.sub("# golden: begin\n.*?# golden: end\n", lambda _: block, text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    here = Path(__file__)
    here.write_text(rewritten(here.read_text(encoding="utf-8")), encoding="utf-8")

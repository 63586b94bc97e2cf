"""What a problem becomes on its way to the machine, as text for people.

In: a problem (or the text of a formula).  Out: one section per stage.
"""

from __future__ import annotations

from ..backends.llvm.compile import assembly
from ..backends.llvm.target import host_target
from ..config import config
from ..errors import FormulaError, message
from ..ir.expr import inputs
from ..ir.reductions import REDUCTIONS
from ..ir.text import parse, to_text
from ..lower.problem import Problem
from . import execute
from .cost import COMMON, Cost, count


def explain(problem: Problem, *, source: bool = False, machine_code: bool = False, cost: Cost | None = None) -> str:
    """Every stage of a problem, for the common class of sizes.

    Arguments: source adds the LLVM IR, machine_code the assembly; cost: that of a call; None: of a pair.
    """
    program = execute.program(problem)
    compiled = program.by_class.get(COMMON) or program.compile(COMMON)
    target = compiled.target
    sections = [
        ("formula", "\n".join(to_text(f) for f in problem.formulas)),
        ("simplified", "\n".join(to_text(f) for f in compiled.formulas)),
        (
            "target",
            f"{target.name}: {target.cpu}, vectors of {target.vector_bytes} bytes, {target.registers} registers",
        ),
        ("schedule", str(compiled.schedule)),
        ("kernel", str(compiled.kernel)),
        ("cost", str(cost or count(problem))),
        ("times", "  ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in compiled.times.items())),
    ]
    if source:
        sections.append(("LLVM IR", compiled.source))
    if machine_code:
        sections.append(("assembly", assembly(compiled.source, host_target(config.instructions))))
    return "\n\n".join(f"--- {title} ---\n{text}" for title, text in sections)


def explain_text(text: str, dtype: str = "float32", source: bool = False) -> str:
    """The stages of a reduction written as text: `sum_j(exp(-sqdist(x0_i[3], x1_j[3])))`.

    The head is a reduction of the table and the axis that it reduces, `_i` or `_j`; without a head it is `sum_j`.
    """
    name, over, body = "sum", "j", text.strip()
    for candidate in REDUCTIONS:
        for axis in "ij":
            head = f"{candidate}_{axis}("
            if body.startswith(head) and body.endswith(")"):
                name, over, body = candidate, axis, body[len(head) : -1]
    record = REDUCTIONS[name]
    if record.params or record.arity != 1:
        raise FormulaError(message(f"explain: {name} takes more than a formula.", hint="use LazyTensor.explain()."))
    formula = parse(body)
    slots = [v.param("slot") for v in inputs(formula)]
    if slots != list(range(len(slots))):
        raise FormulaError(message(f"explain: the variables are numbered {slots}, not 0, 1, 2 ..."))
    return explain(Problem((formula,), name, over, dtype), source=source)

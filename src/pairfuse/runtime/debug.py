"""What `config.debug` prints while a kernel is compiled: one observer of the driver.

In: the name of a step and its result.  Out: messages of the logger "pairfuse".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..backends.llvm.compile import assembly
from ..backends.llvm.target import host_target
from ..config import config
from ..ir.text import to_text

log = logging.getLogger("pairfuse")

# At which level of config.debug the result of a step is printed.
LEVELS: dict[str, tuple[int, Callable[[Any], str]]] = {
    "times": (1, lambda times: "  ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in times.items())),
    "simplify": (2, lambda formulas: "\n".join(to_text(f) for f in formulas)),
    "schedule": (2, str),
    "lower": (3, str),
    "emit": (4, str),
    "emit for GPU": (4, str),
}


def debug_observer(step: str, result: Any) -> None:
    """Prints the stages that `config.debug` asks for, through the logger "pairfuse"."""
    if config.debug == 0:
        return
    level, show = LEVELS.get(step, (99, str))
    if config.debug >= level:
        log.warning("%s:\n%s", step, show(result))
    if config.debug >= 5 and step == "emit":
        log.warning("assembly:\n%s", assembly(result, host_target(config.instructions)))

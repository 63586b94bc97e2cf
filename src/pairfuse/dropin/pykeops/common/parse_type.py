"""`pykeops.common.parse_type`: declarations of variables, such as "x = Vi(3)"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

categories = {"Vi": 0, "Vj": 1, "Pm": 2}
_DECLARATION = re.compile(r"\s*(?:(\w+)\s*=)?\s*(Vi|Vj|Pm|Var)\s*\(([\d,\s]+)\)\s*")


def get_type(type_str: str, position_in_list: int | None = None) -> tuple[str | None, int, int, int | None]:
    """Name, category, length and position of the variable that the text declares."""
    found = _DECLARATION.fullmatch(type_str)
    numbers = [int(n) for n in found[3].split(",")] if found else []
    if not found or len(numbers) not in ((3,) if found[2] == "Var" else (1, 2)):
        raise ValueError(f'{type_str!r} declares no variable: write "x = Vi(3)", or "x = Vi(0, 3)" with a position.')
    if found[2] == "Var":
        position, dim, category = numbers
        return found[1], category, dim, position
    position = numbers[0] if len(numbers) == 2 else position_in_list
    return found[1], categories[found[2]], numbers[-1], position


def get_sizes(aliases: Sequence[str], *args: Any) -> tuple[int, int]:
    """The numbers of rows of the i-variables and of the j-variables among the arrays; 1 where there is none."""
    sizes = [1, 1]
    for rank, alias in enumerate(aliases):
        _, category, _, place = get_type(alias, rank)
        if category < 2 and place is not None:
            sizes[category] = args[place].shape[-2]
    return sizes[0], sizes[1]


def complete_aliases(formula: str, aliases: Sequence[str]) -> list[str]:
    """The declarations, and those of the variables Var(position, length, category) that only the formula names."""
    known = {get_type(alias, k)[3] for k, alias in enumerate(aliases)}
    literal = {m[0] for m in re.finditer(r"Var\(\s*\d+\s*,\s*\d+\s*,\s*[012]\s*\)", formula)}
    return [*aliases, *sorted(v for v in literal if get_type(v)[3] not in known)]

"""What KeOps has and the drop-in has not, or has otherwise: found by reading the facts of both, two dictionaries.

In: the facts of PyKeOps (src/pairfuse/dropin/names.json) and those of the drop-in, as tools/compare_names_with_keops.py
collects them.  Out: a line for each difference, beginning with the name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

Facts = dict[str, Any]


def differences(keops: Facts, ours: Facts) -> Iterator[tuple[str, str]]:
    """(name, what differs) for every difference."""
    for module, names in keops["modules"].items():
        if module not in ours["modules"]:
            yield module, "is not there"
            continue
        for name, facts in names.items():
            yield from _of_name(keops, ours, f"{module}.{name}", facts, ours["modules"][module].get(name))
    for sort, attributes in keops["objects"].items():
        for name in sorted(set(attributes) - set(ours["objects"][sort])):
            yield f"{sort}: {name}", "is not there"
    for call, accepted in keops["keywords"].items():
        if ours["keywords"][call] != accepted:
            yield f"{call}(keywords)", f"accepts {ours['keywords'][call]}, not {accepted}"


def _of_name(keops: Facts, everything: Facts, name: str, theirs: Any, ours: Any) -> Iterator[tuple[str, str]]:
    theirs = _at_home(keops, theirs)
    if ours is None:
        yield name, "is not there"
    elif isinstance(ours, str) and ours.startswith("absent"):
        yield name, "is absent"
    elif isinstance(theirs, dict):
        ours = _at_home(everything, ours)
        if not isinstance(ours, dict):
            yield name, f"is {ours}, not a class"
            return
        for member, facts in theirs.items():
            yield from _of_member(f"{name}.{member}", facts, ours.get(member))
    elif isinstance(theirs, str) and not name.startswith("keopscore"):
        yield from _of_member(name, theirs, _at_home(everything, ours))


def _at_home(keops: Facts, facts: Any) -> Any:
    """What "= module.name" refers to."""
    if not isinstance(facts, str) or not facts.startswith("= "):
        return facts
    module, _, name = facts[2:].rpartition(".")
    return keops["modules"].get(module, {}).get(name)


def _of_member(name: str, theirs: str | None, ours: Any) -> Iterator[tuple[str, str]]:
    if ours is None:
        yield name, "is not there"
    elif theirs is None or not theirs.startswith("(") or isinstance(ours, dict):
        return
    elif not ours.startswith("("):
        yield name, f"is no function, but {ours}"
    else:
        for text in _of_signatures(theirs, ours, ".__" in name):
            yield name, text


def _of_signatures(theirs: str, ours: str, operator: bool) -> Iterator[str]:
    """Every argument of theirs has to be taken by ours, in its place, by its name, with its default."""
    expected, found = _parameters(theirs), _parameters(ours)
    if operator:
        expected = [p.replace(kind=p.POSITIONAL_ONLY) if p.kind is p.POSITIONAL_OR_KEYWORD else p for p in expected]
    takes = {p.kind for p in found}
    by_name = {p.name: p for p in found}
    for place, p in enumerate(expected):
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            if p.kind not in takes:
                yield f"takes no {p}: {ours}"
            continue
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.VAR_POSITIONAL not in takes:
            if place >= len(found) or found[place].kind is p.KEYWORD_ONLY:
                yield f"takes no {place + 1} arguments in their places: {ours}"
            elif found[place].name != p.name and p.name in by_name:
                yield f"has {p.name} in another place: {ours}"
        if p.kind is p.POSITIONAL_ONLY:
            continue
        same = by_name.get(p.name)
        if same is None:
            if p.VAR_KEYWORD not in takes:
                yield f"knows no {p.name}: {ours}, not {theirs}"
        elif same.default != p.default and p.default not in (p.empty, ...):
            yield f"has another default for {p}: {ours}"
    if operator or any(p.kind is p.VAR_POSITIONAL for p in expected):
        return
    if [p.kind for p in expected] == [inspect.Parameter.VAR_KEYWORD]:  # (**kwargs) says nothing of what it needs
        return
    for p in found:
        needed = p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        if needed and p.name not in {e.name for e in expected}:
            yield f"requires {p.name}: {ours}"


def _parameters(signature: str) -> list[inspect.Parameter]:
    function = eval(f"lambda {signature[1:-1]}: 0", {"__builtins__": {}})  # text that the tool wrote
    return list(inspect.signature(function).parameters.values())

"""The shape of a result where the user asks for it: keepdims (NumPy) or keepdim (torch).

In: the results of a reduction and the keywords of its call.  Out: the same numbers in another shape.  Without a keyword
results keep the axis of the components, (*batch, M or N, D), even if D is 1; with one they have the shape that NumPy
gives for an array of the shape K.shape, from which D is left out if it is 1:

    keepdims=False   (*batch, M) or (*batch, M, D)
    keepdims=True    (*batch, M, 1) or (*batch, M, 1, D) over j; over i (*batch, 1, N) or (*batch, 1, N, D)
"""

from __future__ import annotations

from typing import Any

from ..errors import KeywordError, message

KEYWORDS = ("keepdim", "keepdims")


def asked(name: str, options: dict[str, Any]) -> bool | None:
    """What the keywords of a call say; None: nothing. Raises KeywordError where they contradict each other."""
    given = [options[key] for key in KEYWORDS if options.get(key) is not None]
    if any(not isinstance(v, bool) for v in given):
        raise KeywordError(message(f"{name}(keepdims={given[0]!r}): True or False."))
    if len(set(given)) > 1:
        raise KeywordError(
            message(
                f"{name}(keepdim={options['keepdim']}, keepdims={options['keepdims']}): they contradict each other."
            )
        )
    return given[0] if given else None


def shaped(results: Any, over: str, keep: bool) -> Any:
    """The results of a reduction over "i", "j" or "ij" with or without the axes that were reduced."""
    if isinstance(results, tuple):
        return tuple([shaped(r, over, keep) for r in results])
    if keep and over == "ij":
        results = results[..., None, None, :]
    elif keep:
        results = results[..., None, :] if over == "j" else results[..., None, :, :]
    return results[..., 0] if results.shape[-1] == 1 else results


def refuse(name: str, options: dict[str, Any]) -> None:
    """For the calls whose results have no reduced axis to keep: products, solutions, lists of K places."""
    for key in KEYWORDS:
        if options.get(key) is not None:
            raise KeywordError(message(f"{name}({key}=...): its results have no axis to keep.", hint="leave it out."))

"""`keopscore.utils.misc_utils`: messages."""

from __future__ import annotations

from typing import Any, NoReturn

import keopscore

CHECK_MARK, CROSS_MARK = "✅", "❌"


def KeOps_Print(message: str, force_print: bool = False, **options: Any) -> None:
    """Print a text, unless keopscore.verbose is False."""
    if keopscore.verbose or force_print:
        print(message, **options)


def KeOps_Message(message: str, use_tag: bool = True, **options: Any) -> None:
    """Print a text with the name of the package before it."""
    KeOps_Print(f"[KeOps] {message}" if use_tag else message, **options)


def KeOps_Warning(message: str, newline: bool = False) -> None:
    """Print a warning."""
    KeOps_Print(f"{chr(10) if newline else ''}[KeOps] Warning : {message}")


def KeOps_Error(message: str, show_line_number: bool = True) -> NoReturn:
    """Raise a ValueError with this text."""
    raise ValueError(f"[KeOps] Error : {message}")

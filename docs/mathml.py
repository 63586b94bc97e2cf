"""Mathematics of the manual as MathML, which browsers show by themselves: no script, no font, no network.

In: the formulas of the pages, in LaTeX.  Out: `<math>` elements in the HTML; a formula that cannot be converted is an
error of the build.
"""

# Sphinx and latex2mathml are there where the manual is built, and not where types are checked:
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display(writer: Any, node: nodes.math_block) -> None:
    # the padding holds what hangs out of a line; without it the theme shows a scroll bar
    writer.body.append(f'<div style="padding: 0.6em 0">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True}

"""Settings of the manual (Sphinx): Markdown pages, and reference pages written from the tables of the library."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from reference import write_pages

from pairfuse.version import __version__

project = "Pairfuse"
author = "The Pairfuse authors"
copyright = "The Pairfuse authors"
release = version = __version__

extensions = ["myst_parser", "mathml"]
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Pairfuse {release}"

write_pages(Path(__file__).parent / "_generated")

"""What torch is told about reductions and linear systems: Functions, an operator, the rules of its compiler.

The modules of this package are the only ones that import torch. They are loaded by `pairfuse.torch`, or when torch
follows a tensor of a formula; `overrides` and `loading` know torch by its names alone, and are loaded always.
"""

"""What torch is told about reductions and linear systems: Functions, an operator, the rules of its compiler.

The modules of this package are the only ones that import torch. They are loaded by `pairfuse.torch`, or when torch
follows a tensor of a formula; `loading` knows torch by its name alone, and is loaded always.
"""

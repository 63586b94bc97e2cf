"""What users meet: symbolic tensors, their operations and reductions.

In processing order: variables (data to formulas), base (formulas and data), space (sizes), methods and vectors
(operations), calculus (derivatives as formulas), symbolic (variables without data), reductions and linear (what
computes), deferred (now or later), reduce and evaluate (the way to the driver), lazytensor (the class), public (the
functions beside it); messages and options serve all of them.  ranges and cluster are the block-sparse part.

Packages: `derivatives` (which reductions the derivatives are), `autograd` (all that torch is told), `systems` (linear
systems), `strings` (formulas in text).
"""

"""Formulas in text, in the language of KeOps: `Genred` and its kin, `KernelSolve`."""

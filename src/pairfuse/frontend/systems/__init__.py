"""Linear systems whose matrix is a reduction: `K.solve`, its algorithms and preconditioners."""

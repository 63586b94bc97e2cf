"""`pykeops.numpy.generic`."""

"""`pykeops.numpy.lazytensor`."""

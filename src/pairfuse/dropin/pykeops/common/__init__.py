"""`pykeops.common`: what programs use of the parts that both bindings share."""

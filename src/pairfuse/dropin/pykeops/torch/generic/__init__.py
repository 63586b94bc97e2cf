"""`pykeops.torch.generic`."""

"""What stands in a symbolic matrix: parts of it by index, and its entries as arrays."""

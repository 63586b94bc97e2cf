"""Derivatives of reductions as further reductions: which there are, and what users without a tape call."""

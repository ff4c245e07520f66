"""Scaled dot-product attention, and the kernels that may compute it."""

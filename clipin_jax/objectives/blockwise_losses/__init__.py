"""Losses over all pairs of a batch that never hold all of their logits.

`softmax.py` and `sigmoid.py` hold one loss each, `blocks.py` what they share. Their
values and gradients are those of `objectives.losses`, which holds the logits.
"""

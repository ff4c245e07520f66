"""Losses over all pairs of a batch that never hold all of their logits.

`softmax.py` and `sigmoid.py` hold one loss each. They share `pairs.py`, the logits of
some pairs; `blocks.py`, the visits to all; and `rankings.py`, the accuracies. Values
and gradients are those of `objectives.losses`, which holds the logits.
"""

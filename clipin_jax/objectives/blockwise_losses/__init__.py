"""Losses that never hold all logits: of the pairs of a batch, or over a vocabulary.

`softmax.py` and `sigmoid.py` hold one loss of pairs each. They share `pairs.py`, the
logits of some pairs; `blocks.py`, the visits to all; and `rankings.py`, the accuracies.
Values and gradients are those of `objectives.losses`, which holds the logits.

`vocabulary.py` applies any loss of single positions to a few of them at a time.
"""

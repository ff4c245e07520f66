"""Losses over all pairs of a batch, or a vocabulary, that never hold all logits.

`softmax.py` and `sigmoid.py` hold one loss each. They share `pairs.py`, the logits of
some pairs; `blocks.py`, the visits to all; and `rankings.py`, the accuracies. Values
and gradients are those of `objectives.losses`, which holds the logits.
`vocabulary.py` is of its own: logits over the words of a vocabulary.
"""

"""The types that modules exchange.

Docstrings write shapes with these letters:

B        batch (global unless stated otherwise)
H, W, C  image height, width, channels
N        image tokens
L        text length in tokens
D        width of a tower
P        width of the pre-projector
E        embed_dim, the joint space
V        vocabulary size
K        classes
"""

from collections.abc import Mapping
from typing import Any

import jax

Array = jax.Array

View = Mapping[str, Array]
"""One view of a batch of image-text pairs.

`image`: [B, H, W, C] uint8 pixels, or floats that are already normalised.
`text`: [B, L] int32 token ids. Either may be missing where one modality is enough.
`image_id`, `text_id`: [B] int32, equal for equal images or captions; a negative id is
equal to no other.
With `data.mask_probability` also `masked_text`: [B, L] int32, the ids with some of them
masked, and `masked_labels`: [B, L] int32, the original ids at the masked positions and
-100 elsewhere.
"""

Batch = Mapping[str, View]
"""`view1`, and `view2` where the data has a second view."""

TowerFeatures = dict[str, Array]
"""The output of a tower: `tokens` [B, N or L, D] and `pooled` [B, D]."""

Features = Mapping[str, Mapping[str, Array]]
"""Per modality (`image`, `text`) the features of a view.

`tokens`: [B, N or L, D]; `pooled`: [B, D]; `shared`: [B, P], the pre-projected
`pooled`, or `pooled` itself without a pre-projector; after `TwoTowers.embed` also
`embedding`: [B, E] float32 of unit norm.
"""

Pooled = Mapping[str, Mapping[str, Array]]
"""View -> modality -> `pooled` [B, D]: what micro-batches keep of the towers."""

Metrics = Mapping[str, Array]
"""Name to scalar, for example `contrastive/loss`."""

Hyper = Mapping[str, Any]
"""The numbers of one step, as arrays: changing them does not recompile the step.

`seed`: uint32, for dropout and sampling; `optim`: `learning_rate`, `weight_decay`;
`target`: `decay`; `objectives`: name to the scalars of that objective (`weight`, ...).
"""

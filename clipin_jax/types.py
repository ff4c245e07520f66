"""The nouns that travel between modules, and the letters of every shape.

| letter | dimension |
|---|---|
| B | batch (global unless said otherwise) |
| H, W, C | image height, width, channels |
| N | image tokens |
| L | text length in tokens |
| D | width of a tower |
| P | width of the pre-projector |
| E | embed_dim, the joint space |
| V | vocabulary |
| K | classes |
"""

from collections.abc import Mapping
from typing import Any

import jax

Array = jax.Array

View = Mapping[str, Array]
"""One view of a batch of pairs.

`image`: [B, H, W, C] uint8 pixels, or floats that are already normalised.
`text`: [B, L] int32 token ids. Either may be absent where one is enough.
`image_id`, `text_id`: [B] int32, not negative, equal for equal pictures and captions.
With `data.mask_probability` also `masked_text`: [B, L] int32, some ids replaced, and
`masked_labels`: [B, L] int32, what stood there, -100 elsewhere.
"""

Batch = Mapping[str, View]
"""`view1`, and `view2` where the data has a second view."""

Features = Mapping[str, Mapping[str, Array]]
"""Per modality (`image`, `text`), what its tower says.

`tokens`: [B, N or L, D], `pooled`: [B, D], `shared`: [B, P] (the pre-projected
`pooled`, or `pooled` itself without a pre-projector), `embedding`: [B, E] float32 of
unit norm (only after `TwoTowers.embed`).
"""

Metrics = Mapping[str, Array]
"""Name to scalar, for example `contrastive/loss`."""

Hyper = Mapping[str, Any]
"""The numbers of one step, as arrays so that turning them compiles nothing anew.

`seed`: of dropout and draws; `optim`: `learning_rate`, `weight_decay`; `target`:
`decay`; `objectives`: name to the scalars of that objective (`weight`, ...).
"""

"""Small arguments of classes whose defaults are too large for a test.

Other classes are built from their defaults.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tests.support.small_learner import EMBED_DIM, LENGTH, SIDE, VOCABULARY, WIDTH

T = TypeVar("T")

HEADS = dict(projection_dim=6, predictor_hidden_dim=5)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "clipin": HEADS,
    "cluster": dict(num_clusters=5, hidden_dim=4),
    "momentum_contrastive": dict(queue_length=6),
    "momentum_infonce": HEADS,
    "siamese": HEADS,
    "simclr": dict(hidden_dim=5, projection_dim=4),
}

SIZES = dict(width=WIDTH, depth=1, num_heads=2, mlp_ratio=1)
VIT = SIZES | dict(patch_size=(SIDE // 2,) * 2, image_size=(SIDE,) * 2)
TEXT = SIZES | dict(context_length=LENGTH, vocab_size=VOCABULARY)
TOWERS: dict[str, dict[str, Any]] = {
    "bert": TEXT,
    "mixture_bert": TEXT,
    "pooled_vit": VIT | dict(num_queries=3, pool_width=WIDTH, pool_heads=2),
    "resnet": dict(
        depths=(1,),
        width=4,
        num_heads=2,
        output_dim=EMBED_DIM,
        image_size=(SIDE,) * 2,
    ),
    "split_bert": TEXT | dict(fusion_depth=1),
    "split_decoder": TEXT | dict(decoder_depth=1),
    "text_transformer": TEXT,
    "vit": VIT,
}


def build(
    table: Mapping[str, Callable[..., Any]],
    examples: Mapping[str, dict[str, Any]],
    name: str,
    use: Callable[[Callable[[], Any]], T],
) -> T:
    """Builds a class of a table from its example, and uses it.

    Args:
      table: name -> class.
      examples: name -> arguments.
      name: of the class in the table.
      use: gets a function that builds the class. Errors of classes that build their
        parts on first use are caught here too.

    Returns:
      What `use` returns.

    Raises:
      AssertionError: the class cannot be built; the text says what to add.
    """
    arguments = examples.get(name, {})
    try:
        return use(lambda: table[name](**arguments))
    except Exception as error:
        raise AssertionError(
            f"{table[name].__name__} ({name!r}) cannot be built from {arguments}: "
            f"{type(error).__name__}: {error}. Give its options defaults, or add its "
            f"smallest arguments under {name!r} in {__file__}"
        ) from error

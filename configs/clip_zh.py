"""CLIP for Chinese captions: a BERT reads them, with its own vocabulary.

    clipin train clip_zh:data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train clip_zh:clipin,data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train clip_zh:clipin,runlocal            # two layers, embedded data

Paper: Chinese CLIP, arXiv 2211.01335, from scratch here. The folder has the COCO
captions layout, with captions in the files that `captions` names; the vocabulary is
that of a Chinese BERT (`bert-base-chinese`, 21128 pieces, one a line). Any language
whose vocabulary is WordPiece will do: set `model.text.vocab_size` to its size.

`variant=small`, the default, trains on a thousand pictures and two cores in minutes;
`variant=B/16` and the like are the sizes of CLIP's ViT, with a BERT of the same width.
"""

from collections.abc import Callable

from ml_collections import ConfigDict
from ml_collections.config_dict import required_placeholder

from clipin_jax.config import (
    CLIPIN,
    adamw,
    joint_space,
    pair_data,
    pair_evals,
    pair_source,
    parse_arg,
    plug_clipin,
    run_local,
    run_settings,
    run_small,
    vit,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: clipin, variant, data (a folder), captions, vocabulary, runlocal."""
    options = parse_arg(
        arg, clipin=CLIPIN, variant="small", data="", vocabulary="",
        captions="captions_{split}_zh.json", runlocal=False,
    )  # fmt: skip
    small = options.variant == "small"
    sizes = vit("B/16" if small else options.variant)
    config = run_settings("clip_zh", batch_size=256, total_steps=20_000)
    config.model = dict(
        **joint_space(embed_dim=512),
        image=dict(name="vit", **sizes, image_size=(224, 224)),
        text=dict(
            name="bert",
            **{key: sizes[key] for key in ("width", "depth", "num_heads")},
            context_length=52,
            vocab_size=21128,
        ),
    )
    config.objectives = dict(contrastive=dict(init_temperature=0.07))
    schedule = warmup_cosine(
        peak=5e-4, warmup_steps=1000, total_steps=config.get_ref("total_steps")
    )
    config.optim = adamw(schedule, weight_decay=0.2)
    source = _source(options)
    tokenizer = dict(name="wordpiece", vocabulary=_vocabulary(options))
    config.data = pair_data(config, source, tokenizer, flip=0.0)  # left stays left
    config.evals = pair_evals(source, labels="")
    if options.clipin:
        plug_clipin(config, options.clipin)
    if small:
        run_small(config)
    if options.runlocal:
        run_local(config)
    return config


def _source(options: ConfigDict) -> Callable[..., dict]:
    """The folder's captions file is another than usual."""
    source = pair_source(options.data, options.runlocal)
    if options.runlocal:
        return source
    return lambda split, labels=None: dict(
        source(split, labels), captions=options.captions
    )


def _vocabulary(options: ConfigDict) -> str:
    """The embedded data has a vocabulary of its own, named ""."""
    if options.runlocal:
        return options.vocabulary
    return options.vocabulary or required_placeholder(str)

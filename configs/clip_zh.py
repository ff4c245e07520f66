"""CLIP for Chinese captions: its text tower is a BERT with its own vocabulary.

    clipin train clip_zh:data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train clip_zh:clipin,data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train clip_zh:clipin,runlocal            # two layers, embedded data

Paper: Chinese CLIP, arXiv 2211.01335, from scratch here. Chance loss: ln(batch size),
5.545 for 256.

Options:

- `data`: a folder in the COCO captions layout; `captions`: its JSON files.
- `vocabulary`: a WordPiece vocabulary, one piece a line. The default size is that of
  `bert-base-chinese`, 21128; for another one, in any language, set
  `model.text.vocab_size`.
- `variant`: `small` (default) for a thousand images and two cores; `B/16` and the like
  for the sizes of CLIP's ViT, with a BERT of the same width.
- `clipin`: plugs CLIPin in, as `recommended` or `released`.
- `runlocal`: a few steps anywhere.
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
    parse_options,
    plug_clipin,
    run_settings,
    shrink_runlocal,
    shrink_small,
    vit_sizes,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(
        arg, clipin=CLIPIN, variant="small", data="", vocabulary="",
        captions="captions_{split}_zh.json", runlocal=False,
    )  # fmt: skip
    small = options.variant == "small"
    sizes = vit_sizes("B/16" if small else options.variant)
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
    config.data = pair_data(
        config, source, tokenizer, flip=0.0
    )  # captions name left and right
    config.evals = pair_evals(source, labels="")
    if options.clipin:
        plug_clipin(config, options.clipin)
    if small:
        shrink_small(config)
    if options.runlocal:
        shrink_runlocal(config)
    return config


def _source(options: ConfigDict) -> Callable[..., dict]:
    """The usual source, with the captions of another file."""
    source = pair_source(options.data, options.runlocal)
    if options.runlocal and not options.data:
        return source

    def with_captions(split: str, labels: str | None = None) -> dict:
        made = source(split, labels)
        of_coco = dict(captions=options.captions) if made["name"] == "coco" else {}
        return dict(made, **of_coco)

    return with_captions


def _vocabulary(options: ConfigDict) -> str:
    """The vocabulary; "" is that of the embedded data."""
    if options.runlocal:
        return options.vocabulary
    return options.vocabulary or required_placeholder(str)

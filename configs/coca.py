"""CoCa from scratch on image-caption pairs, and CLIPin plugged into it.

    clipin train coca:data=/path/to/folder                  # CoCa
    clipin train coca:clipin,data=/path/to/folder           # CoCa with CLIPin
    clipin train coca:clipin,variant=S/16,runlocal          # two layers, embedded data
    clipin caption runs/coca picture.jpg                    # what it says afterwards

Paper: arXiv 2205.01917; sizes: mlfoundations/open_clip, `coca_ViT-B-32` and
`coca_ViT-L-14`. Contrast of images and texts, plus twice the cross-entropy of each next
id of the caption, which a second half of the text tower predicts while it looks at what
256 learned queries read from the image. With CLIP's byte pairs, id 0 is both padding
and "!", so no caption learns to say that.

What differs from the paper: as in open_clip's models one pooler serves both losses
(`model.image.pool=cascade` is the paper's two), the vocabulary is CLIP's of 49,408,
images have 224 pixels, and the optimizer is CLIP's AdamW (published: Adafactor, batch
65,536, 500,000 steps, learning rate 8e-4 with 2 % warm-up and linear decay). From
open_clip's: the class token of a caption does not see padding
(`model.text.padding_mask=shifted` is theirs, for its weights).

Batch size and schedule are those of a small run. The folder and `labels` are those of
`clip`; `small` is for a thousand pictures and two cores. The first loss is about
ln(batch size) + 2 (ln 49408 + 1/2) = 28.2. Captions are scored by greedy decoding;
`evals.captioning.decoding.strategy=beam` is better and slower.
"""

from ml_collections import ConfigDict

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
    text,
    vit,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: clipin, variant, data (a folder), labels, vocabulary, small, runlocal.

    `vocabulary` is a file of WordPiece in place of CLIP's tokenizer.
    """
    options = parse_arg(
        arg, clipin=CLIPIN, variant="B/32", data="", labels="", vocabulary="",
        small=False, runlocal=False,
    )  # fmt: skip
    config = run_settings("coca", batch_size=256, total_steps=20_000)
    config.model = _model(options.variant)
    config.objectives = dict(
        contrastive=dict(weight=1.0, init_temperature=0.07),
        captioning=dict(weight=2.0),
    )
    schedule = warmup_cosine(
        peak=5e-4, warmup_steps=1000, total_steps=config.get_ref("total_steps")
    )
    config.optim = adamw(schedule, weight_decay=0.2)
    source = pair_source(options.data, options.runlocal)
    config.data = pair_data(config, source, _tokenizer(options))
    config.evals = pair_evals(source, options.labels)
    config.evals.captioning = dict(
        type="captioning",
        every_steps=1000,
        source=source("val"),
        decoding=dict(
            strategy="greedy", max_length=30
        ),  # tokens, both marks among them
    )
    if options.clipin:
        plug_clipin(config, options.clipin)
    if options.small:
        run_small(config, **_narrow(width=128, num_queries=32))
    if options.runlocal:
        run_local(config, **_narrow(width=64, num_queries=8))
        config.evals.captioning.source.length = 32
        config.evals.captioning.decoding.max_length = 12
    return config


def _model(variant: str) -> dict:
    sizes = text(variant)
    return joint_space(embed_dim=sizes["width"]) | dict(
        image=dict(
            name="pooled_vit",
            **vit(variant),
            image_size=(224, 224),
            num_queries=256,
            pool_width=sizes["width"],
            pool_heads=8,
            activation="gelu",
        ),
        text=dict(
            name="split_decoder",
            **sizes,
            decoder_depth=12,
            context_length=76,
            vocab_size=49408,
        ),
    )


def _tokenizer(options: ConfigDict) -> dict:
    if options.vocabulary:
        return dict(name="wordpiece", vocabulary=options.vocabulary)
    return dict(name="bpe")


def _narrow(width: int, num_queries: int) -> dict:
    return dict(
        image=dict(num_queries=num_queries, pool_width=width, pool_heads=2),
        text=dict(decoder_depth=2),
    )

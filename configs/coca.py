"""CoCa from scratch on image-caption pairs, and CLIPin plugged into it.

    clipin train coca:data=/path/to/folder                  # CoCa
    clipin train coca:clipin,data=/path/to/folder           # CoCa with CLIPin
    clipin train coca:clipin,variant=S/16,runlocal          # two layers, embedded data
    clipin caption runs/coca image.jpg                      # captions afterwards

Paper: arXiv 2205.01917; sizes: mlfoundations/open_clip, `coca_ViT-B-32` and
`coca_ViT-L-14`. The loss is the contrastive one plus twice the cross-entropy of each
next token of the caption. The second half of the text tower predicts that token, with
cross-attention to 256 learned queries of the image. With CLIP's byte pairs id 0 is both
padding and "!", so the model does not learn to write "!".

Differences from the paper: one pooler serves both losses, as in open_clip
(`model.image.pool=cascade` is the paper's two); CLIP's vocabulary of 49,408; images of
224 pixels; CLIP's AdamW (published: Adafactor, batch 65,536, 500,000 steps, learning
rate 8e-4 with 2 % warm-up and linear decay). Difference from open_clip: a caption's
class token does not attend to padding (for its weights,
`model.text.padding_mask=shifted`).

Batch size and schedule are those of a small run. First loss: about
ln(batch size) + 2 (ln 49408 + 1/2), 28.2 for 256. Captions are scored with greedy
decoding; `evals.captioning.decoding.strategy=beam` is better and slower.

Options: `vocabulary`, a WordPiece file in place of CLIP's tokenizer; the others are
those of `clip`.
"""

from ml_collections import ConfigDict

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
    text_sizes,
    vit_sizes,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(
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
        decoding=dict(strategy="greedy", max_length=30),  # ids, start and end too
    )
    if options.clipin:
        plug_clipin(config, options.clipin)
    if options.small:
        shrink_small(config, **_narrow(width=128, num_queries=32))
    if options.runlocal:
        shrink_runlocal(config, **_narrow(width=64, num_queries=8))
        config.evals.captioning.source.length = 32
        config.evals.captioning.decoding.max_length = 12
    return config


def _model(variant: str) -> dict:
    sizes = text_sizes(variant)
    return joint_space(embed_dim=sizes["width"]) | dict(
        image=dict(
            name="pooled_vit",
            **vit_sizes(variant),
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

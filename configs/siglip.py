"""SigLIP from scratch on image-caption pairs, and CLIPin plugged into it.

    clipin train siglip:data=/path/to/folder                # SigLIP
    clipin train siglip:clipin,data=/path/to/folder         # SigLIP with CLIPin
    clipin train siglip:tokenizer=c4_en.model,data=/path    # with the paper's pieces
    clipin train siglip:clipin,variant=S/16,runlocal        # two layers, embedded data

Paper: arXiv 2303.15343; recipe: google-research/big_vision, `trainers/proj/image_text`.
Every pair is a yes-or-no question, with a learned scale and offset; both towers are of
one size, the image's pooled by attention, the text's read at its last place.

What differs: batch size and schedule are those of a small run (published: 32768, with
20,000 steps of warm-up), images are cropped and jittered as in `clip`, Adam's first
moment is in float32, and the text's projection begins as a linear layer of PyTorch's.
big_vision's weight decay of 1e-4 does not scale with the learning rate of 1e-3: as
AdamW it is 0.1. Only kernels decay, and the scale is not bounded. With CLIPin both
towers have a linear projection, behind its pre-projector.

`tokenizer` is the path of a SentencePiece model; the paper's has 32,000 pieces, for
others set `model.text.vocab_size`. Left out, the byte pairs of CLIP are used, padded
with their end mark. The folder and `labels` are those of `clip`; `small` is for a
thousand pictures and two cores. The first loss is about 10, minus the offset.
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
    vit,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: clipin, variant, data, labels, tokenizer (a path), small, runlocal."""
    options = parse_arg(
        arg, clipin=CLIPIN, variant="B/16", data="", labels="", tokenizer="",
        small=False, runlocal=False,
    )  # fmt: skip
    config = run_settings("siglip", batch_size=256, total_steps=20_000)
    config.model = _model(options.variant, vocab_size=49408)
    config.model.embed_dim = config.model.image.get_ref("width")
    config.objectives = dict(sigmoid=dict(init_temperature=0.1, init_bias=-10.0))
    config.optim = adamw(
        warmup_cosine(
            peak=1e-3, warmup_steps=1000, total_steps=config.get_ref("total_steps")
        ),
        weight_decay=0.1,
        b2=0.95,
        eps=1e-8,
        no_decay=(r"(?<!/kernel)$",),  # all that does not end so
        bounds=((r"learned_", 0.0, 20.0),),
    )
    tokenizer = dict(name="bpe", pad_with_end=True)
    if options.tokenizer:
        config.model.text.vocab_size = 32_000
        tokenizer = dict(name="sentencepiece", model=options.tokenizer)
    source = pair_source(options.data, options.runlocal)
    config.data = pair_data(config, source, tokenizer)
    config.evals = pair_evals(source, options.labels)
    if options.clipin:
        plug_clipin(config, options.clipin)
    if options.small:
        run_small(config)
    if options.runlocal:
        run_local(config)
    return config


def _model(variant: str, vocab_size: int) -> dict:
    sizes = vit(variant)
    patch_size, width = sizes.pop("patch_size"), sizes["width"]
    shared = dict(
        sizes, activation="gelu_tanh", norm_eps=1e-6, initializer="xavier"
    )  # of both towers
    return joint_space(embed_dim=width, image="none", text="linear") | dict(
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.5, 0.5, 0.5),
        image=dict(
            shared,
            name="vit",
            patch_size=patch_size,
            image_size=(224, 224),
            pool="map",
            patch_bias=True,
            pre_norm=False,
        ),
        text=dict(
            shared,
            name="text_transformer",
            context_length=64,
            vocab_size=vocab_size,
            causal=False,
            pool="last",
        ),
    )

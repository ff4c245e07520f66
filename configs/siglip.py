"""SigLIP from scratch on image-caption pairs, and CLIPin plugged into it.

    clipin train siglip:data=/path/to/folder                # SigLIP
    clipin train siglip:clipin,data=/path/to/folder         # SigLIP with CLIPin
    clipin train siglip:tokenizer=c4_en.model,data=/path    # with the paper's pieces
    clipin train siglip:clipin,variant=S/16,runlocal        # two layers, embedded data

Paper: arXiv 2303.15343; recipe: google-research/big_vision, `trainers/proj/image_text`.
Each pair of the batch is a binary classification, with a learned scale and offset. Both
towers have the same size. The image is pooled by attention, the text at its last place.

Differences: batch size and schedule are those of a small run (published: 32768, with
20,000 steps of warm-up); images are cropped and jittered as in `clip`; Adam's first
moment is in float32 (`optim.mu_dtype=bfloat16` is the paper's); the text's projection
is initialised as a linear layer of PyTorch. big_vision's weight decay of 1e-4 does not
scale with the learning rate of 1e-3: in AdamW it is 0.1. Only kernels decay, and the
scale has no bound. With CLIPin both towers have a linear projection after its
pre-projector.

First loss: about 10, minus the offset.

Options: `tokenizer`, a SentencePiece model (the paper's has 32,000 pieces; for others
set `model.text.vocab_size`), without which CLIP's byte pairs are used, padded with
their end token; the others are those of `clip`.
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
    vit_sizes,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(
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
        no_decay=(r"(?<!/kernel)$",),  # all but kernels
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
        shrink_small(config)
    if options.runlocal:
        shrink_runlocal(config)
    return config


def _model(variant: str, vocab_size: int) -> dict:
    sizes = vit_sizes(variant)
    patch_size, width = sizes.pop("patch_size"), sizes["width"]
    both = dict(sizes, activation="gelu_tanh", norm_eps=1e-6, initializer="xavier")
    return joint_space(embed_dim=width, image="none", text="linear") | dict(
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.5, 0.5, 0.5),
        image=dict(
            both,
            name="vit",
            patch_size=patch_size,
            image_size=(224, 224),
            pool="map",
            patch_bias=True,
            pre_norm=False,
        ),
        text=dict(
            both,
            name="text_transformer",
            context_length=64,
            vocab_size=vocab_size,
            causal=False,
            pool="last",
        ),
    )

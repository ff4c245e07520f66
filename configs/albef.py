"""ALBEF on image-caption pairs: contrast, matching, masked words; CLIPin plugged in.

    clipin train albef:data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train albef:clipin,data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train albef:clipin,runlocal                      # two layers, embedded data

Paper: arXiv 2107.07651; recipe: salesforce/ALBEF, `configs/Pretrain.yaml`. A momentum
copy of the towers computes the keys of the contrastive objective, most of which come
from a queue, and soft labels for contrast and masked words. CLIPin takes its targets
from the same copy, with ALBEF's decay of 0.995 for its heads too. The second view is
for CLIPin alone: ALBEF's objectives get the same views with and without it.

Differences: towers start from random weights (published: an ImageNet DeiT-B and
BERT-base); the schedule is one cosine by step after a warm-up from 0 (published: by
epoch, from 1e-5; 30 epochs of 4 to 14 million pairs); the weight of the soft labels
rises over 2,000 steps (published: over the first epoch). Hard negatives are drawn by
online embeddings at a fixed temperature (published: by momentum keys, at the learned
one).

Chance losses: ln(batch + queue) = 11.1 for contrast, 0.64 for matching, ln 30522 = 10.3
for masked words.

Options: `vocabulary`, that of `bert-base-uncased`, one piece a line (for another one
set `model.text.vocab_size`); the others are those of `clip`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import required_placeholder

from clipin_jax.config import (
    CLIPIN,
    adamw,
    joint_space,
    linear,
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

MOMENTUM = 0.995


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(
        arg, clipin=CLIPIN, data="", labels="", vocabulary="", small=False,
        runlocal=False,
    )  # fmt: skip
    config = run_settings("albef", batch_size=512, total_steps=20_000)
    config.target.decay = MOMENTUM
    config.model = _model()
    config.objectives = _objectives()
    schedule = warmup_cosine(
        1e-4, warmup_steps=2000, total_steps=config.get_ref("total_steps"), end=1e-5
    )
    config.optim = adamw(
        schedule,
        weight_decay=0.02,
        b2=0.999,
        eps=1e-8,
        clip_norm=0.0,
        # Unlike in CLIP, position embeddings decay; so does the temperature.
        no_decay=(r"bias$", r"scale$", r"learned_"),
        bounds=((r"temperature/", 0.001, 0.5), (r"learned_", 0.0, 20.0)),
    )
    source = pair_source(options.data, options.runlocal)
    config.data = _data(config, options, source)
    config.evals = pair_evals(source, options.labels)
    config.evals.retrieval.rerank = 128  # published: 256 on COCO, 128 on Flickr30k
    if options.clipin:
        plug_clipin(config, options.clipin, decay=MOMENTUM, view="second-separate")
    if options.small:
        ramp = dict(distillation=linear(0.0, 0.4, total_steps=200))
        shrink_small(
            config,
            text=dict(fusion_depth=3),
            momentum_contrastive=dict(queue_length=1024, **ramp),
            masked_lm=ramp,
        )
    if options.runlocal:
        shrink_runlocal(
            config,
            text=dict(fusion_depth=2, vocab_size=256),
            momentum_contrastive=dict(queue_length=80),
            matching=dict(group=16),
        )
    return config


def _model() -> dict:
    return dict(
        **joint_space(embed_dim=256, image="linear", text="linear"),
        image=dict(
            name="vit",
            **vit_sizes("B/16"),
            image_size=(256, 256),
            patch_bias=True,
            pre_norm=False,
            activation="gelu",
            norm_eps=1e-6,
            initializer="xavier",
        ),
        text=dict(
            name="split_bert",
            width=768,
            depth=6,
            fusion_depth=6,
            num_heads=12,
            context_length=25,
            vocab_size=30522,
            dropout=0.1,  # in the target branch too
        ),
    )


def _objectives() -> dict:
    return dict(
        momentum_contrastive=dict(
            weight=1.0,
            distillation=linear(0.0, 0.4, total_steps=2000),
            queue_length=65536,
            init_temperature=0.07,
        ),
        matching=dict(
            weight=1.0,
            temperature=0.07,  # of drawing hard negatives
            group=64,  # pairs to draw among: a GPU's batch; 0: the whole batch
        ),
        masked_lm=dict(weight=1.0, distillation=linear(0.0, 0.4, total_steps=2000)),
    )


def _data(config: ConfigDict, options: ConfigDict, source) -> dict:
    vocabulary = options.vocabulary
    if not options.runlocal:  # "" is that of the embedded data
        vocabulary = vocabulary or required_placeholder(str)
    data = pair_data(
        config,
        source,
        tokenizer=dict(name="wordpiece", vocabulary=vocabulary),
        crop_scale=(0.2, 1.0),
        jitter_probability=0.0,
        grayscale=0.0,
        transforms=dict(rand_augment=dict(operations=2, magnitude=7.0)),
    )
    return data | dict(
        caption_cleaning="delete_punctuation", caption_words=30, mask_probability=0.15
    )

"""BLIP on image-caption pairs: contrast, matching, captioning; CLIPin plugged in.

    clipin train blip:data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train blip:clipin,data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train blip:clipin,runlocal                       # two layers, embedded data

Paper: arXiv 2201.12086; recipe: salesforce/BLIP, `configs/pretrain.yaml`. One BERT
encodes captions, matches them with images and writes them. A momentum copy of the
towers computes the keys of the contrastive objective. CLIPin takes its targets from the
same copy, with BLIP's decay of 0.995. The second view is for CLIPin alone: BLIP's
objectives get the same views with and without it.

Differences: towers start from random weights (published: an ImageNet ViT-B and
BERT-base); the batch is 512 (published: 2,400); the schedule is one cosine by step
(published: times 0.9 an epoch, 20 epochs of 14 to 129 million pairs); the weight of the
soft labels rises over 4,000 steps (published: over two epochs). Hard negatives are
drawn by online embeddings at a fixed temperature (published: by momentum keys, at the
learned one). Captions are not bootstrapped.

Chance losses: ln(batch + queue) = 11.0 for contrast, 0.64 for matching,
ln 30524 = 10.3 for captions.

Options: `vocabulary`, that of `bert-base-uncased`, one piece a line, to which two
tokens are added (for another one set `model.text.vocab_size`); the others are those of
`clip`.
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
    config = run_settings("blip", batch_size=512, total_steps=20_000)
    config.target.decay = MOMENTUM
    config.model = _model()
    config.objectives = _objectives()
    schedule = warmup_cosine(
        3e-4, warmup_steps=3000, total_steps=config.get_ref("total_steps"), end=1e-6
    )
    config.optim = adamw(
        schedule,
        weight_decay=0.05,
        b2=0.999,
        eps=1e-8,
        clip_norm=0.0,
        no_decay=(r"learned_",),  # all others decay, biases and temperature too
        bounds=((r"temperature/", 0.001, 0.5), (r"learned_", 0.0, 20.0)),
    )
    source = pair_source(options.data, options.runlocal)
    config.data = _data(config, options, source)
    config.evals = pair_evals(source, options.labels)
    # published: 256 on COCO, 128 on Flickr30k
    config.evals.retrieval.update(rerank=128, rerank_cosine_weight=1.0)
    if options.clipin:
        plug_clipin(config, options.clipin, decay=MOMENTUM, view="second-separate")
    if options.small:
        ramp = dict(distillation=linear(0.0, 0.4, total_steps=200))
        shrink_small(config, momentum_contrastive=dict(queue_length=1024, **ramp))
    if options.runlocal:
        shrink_runlocal(
            config,
            text=dict(vocab_size=256),
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
            image_size=(224, 224),
            patch_bias=True,
            pre_norm=False,
            activation="gelu",
            norm_eps=1e-6,
            initializer="xavier",
        ),
        text=dict(
            name="mixture_bert",
            width=768,
            depth=12,
            num_heads=12,
            context_length=30,
            vocab_size=30524,
            dropout=0.1,  # in the target branch too
        ),
    )


def _objectives() -> dict:
    return dict(
        momentum_contrastive=dict(
            weight=1.0,
            distillation=linear(0.0, 0.4, total_steps=4000),
            queue_length=57600,
            init_temperature=0.07,
        ),
        matching=dict(
            weight=1.0,
            temperature=0.07,  # of drawing hard negatives
            group=64,  # pairs to draw among (75: a GPU's batch); 0: the whole batch
            floor=1e-4,
        ),
        captioning=dict(weight=1.0, label_smoothing=0.1),
    )


def _data(config: ConfigDict, options: ConfigDict, source) -> dict:
    vocabulary = options.vocabulary
    if not options.runlocal:  # "" is that of the embedded data
        vocabulary = vocabulary or required_placeholder(str)
    added = ("[DEC]", "[ENC]")  # begin a text that is written, or read with an image
    data = pair_data(
        config,
        source,
        tokenizer=dict(name="wordpiece", vocabulary=vocabulary, extra_tokens=added),
        crop_scale=(0.2, 1.0),
        jitter_probability=0.0,
        grayscale=0.0,
        transforms=dict(rand_augment=dict(operations=2, magnitude=5.0)),
    )
    return data | dict(caption_cleaning="space_punctuation", caption_words=30)

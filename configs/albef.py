"""ALBEF on image-caption pairs: align, match, guess words; and CLIPin plugged in.

    clipin train albef:data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train albef:clipin,data=/path/to/folder,vocabulary=/path/to/vocab.txt
    clipin train albef:clipin,runlocal                      # two layers, embedded data

Paper: arXiv 2107.07651; recipe: salesforce/ALBEF, `configs/Pretrain.yaml`. A slowly
moving copy of the towers gives the keys of the contrastive objective, most of them from
earlier batches, and its opinion on labels and masked words. CLIPin takes its targets
from the same copy, which moves at ALBEF's 0.995; the copy of its heads does so too. The
second view is CLIPin's alone, so that ALBEF's own objectives see what they see without.

What differs: towers start from noise (published: an ImageNet DeiT-B and BERT-base), the
schedule is one cosine by step from a warm-up that starts at 0 (published: by epoch,
from 1e-5; 30 epochs of 4 to 14 million pairs), and the distillation share rises over
2,000 steps (published: over the first epoch). Negatives are ranked by online embeddings
at a fixed temperature, where the reference has momentum keys and its learned one.

The vocabulary is that of `bert-base-uncased`, one piece a line; for another set
`model.text.vocab_size`. The folder and `labels` are those of `clip`. Chance losses: ln
of batch and queue, 11.1, for the contrastive objective; 0.64 for matching; ln 30522 =
10.3 for masked words.
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
    parse_arg,
    plug_clipin,
    run_local,
    run_settings,
    run_small,
    vit,
    warmup_cosine,
)

MOMENTUM = 0.995


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: clipin, data (a folder), labels, vocabulary (a path), small, runlocal.

    `small` is for a thousand pictures and two cores.
    """
    options = parse_arg(
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
        no_decay=(r"bias$", r"scale$", r"learned_"),  # positions, temperature decay
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
        run_small(
            config,
            text=dict(fusion_depth=3),
            momentum_contrastive=dict(queue_length=1024, **ramp),
            masked_lm=ramp,
        )
    if options.runlocal:
        run_local(
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
            **vit("B/16"),
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
            dropout=0.1,  # in the target network too
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
            temperature=0.07,
            group=64,  # the reference's batch per GPU; 0: the whole batch
        ),
        masked_lm=dict(
            weight=1.0,
            distillation=linear(0.0, 0.4, total_steps=2000),
        ),
    )


def _data(config: ConfigDict, options: ConfigDict, source) -> dict:
    vocabulary = options.vocabulary
    if not options.runlocal:  # the embedded data has one of its own, named ""
        vocabulary = vocabulary or required_placeholder(str)
    data = pair_data(
        config,
        source,
        tokenizer=dict(name="wordpiece", vocabulary=vocabulary),
        crop_scale=(0.2, 1.0),
        jitter_probability=0.0,
        grayscale=0.0,
        rand_augment_ops=2,
        rand_augment_magnitude=7,
    )
    return data | dict(
        caption_cleaning="delete_punctuation", caption_words=30, mask_probability=0.15
    )

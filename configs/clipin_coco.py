"""The released CLIPin recipe: ViT-B/16 from scratch on COCO captions, one GPU's batch.

    clipin train clipin_coco:data=/path/to/coco
    clipin train clipin_coco:data=/path/to/coco,as_released   # with its quirks

Paper: CLIPin, arXiv 2508.06434; recipe: T6Yang/CLIPin, `main.py`, `data.py`,
`clip/model.py`. The folder is COCO 2014 (`annotations/captions_train2014.json`,
`train2014/`, and the same for val). 323 steps an epoch, 50 epochs. Chance loss:
ln 256 = 5.545 for the contrastive objective, 2 for each CLIPin term.

Differences from the release, and why:

- **Shuffling.** The release does not shuffle, so that a caption has the same negatives
  in every epoch. Here the data is shuffled, except with `as_released`.
- **Weights.** The release learns the weights of the contrastive and of the intra-modal
  term. All terms are positive, so these weights only fall, each by about the learning
  rate a step: here from 1 to about 0.76. Here they stay at 1; `as_released` learns
  them, with weight decay.
- **Second caption.** The release draws a second caption for the target branch, but uses
  the first one twice. So does this config (`data.second_text = "same"`); `"another"` is
  what the paper describes.
- **Crops.** The release resizes the shortest side to 224 pixels and crops a square of
  at least 0.8 of the area. An image wider than 5:4 has no such square and always gets
  the centre crop. Here images are squashed to a square first, so that crops differ.
- **Last batch.** The release ends an epoch with a batch of 95 images. Here all batches
  have one size, and an epoch may begin within one.
- **Precision.** The release computes in float16, this config in `model.dtype`.
- **Evaluation.** The release drops test images at random and uses bare class names; the
  evaluators here drop none.
"""

from collections.abc import Callable

from ml_collections import ConfigDict
from ml_collections.config_dict import required_placeholder

from clipin_jax.config import (
    adamw,
    joint_space,
    pair_data,
    pair_evals,
    pair_source,
    parse_options,
    plug_clipin,
    run_settings,
    shrink_runlocal,
    text_sizes,
    vit_sizes,
    warmup_cosine,
)

EVALUATE_EVERY = 1615  # steps: 5 epochs


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(arg, data="", as_released=False, runlocal=False)
    # 50 epochs of 323 full batches
    config = run_settings("coco", batch_size=256, total_steps=16_150)
    config.checkpoint.every_steps = EVALUATE_EVERY
    config.model = dict(
        **joint_space(embed_dim=512),
        image=dict(name="vit", **vit_sizes("B/16"), image_size=(224, 224)),
        text=dict(
            name="text_transformer",
            **text_sizes("B"),
            context_length=77,
            vocab_size=49408,
        ),
    )
    config.model.remat.update(image="full", text="full")  # as released
    learned = "learned" if options.as_released else 1.0
    config.objectives = dict(contrastive=dict(weight=learned, init_temperature=0.07))
    schedule = warmup_cosine(
        peak=3e-5, warmup_steps=100, total_steps=config.get_ref("total_steps")
    )
    config.optim = adamw(
        schedule,
        weight_decay=1e-3,
        clip_norm=0.0,
        # As released: embeddings, gains of the predictors' batch norms and learned
        # weights decay; layer norms and biases do not.
        no_decay=(r"/ln_\w+/", r"bias$", r"logit_scale$"),
    )
    source = _source(options)
    config.data = pair_data(
        config,
        source,
        tokenizer=dict(name="bpe"),
        resize_first=224,  # squashed to a square, then cropped
        crop_scale=(0.8, 1.0),
        crop_ratio=(1.0, 1.0),
        brightness=0.1,
        contrast=0.0,
        saturation=0.0,
        jitter_probability=1.0,
        grayscale=0.0,
    )
    config.data.shuffle = not options.as_released
    config.data.threads = 4
    config.evals = pair_evals(source, labels="", every_steps=EVALUATE_EVERY)
    plug_clipin(config, "released", intra_weight=learned)
    if options.runlocal:
        shrink_runlocal(config)
        config.data.augment.resize_first = 32
    return config


def _source(options: ConfigDict) -> Callable[..., dict]:
    if options.runlocal and not options.data:
        return pair_source("", runlocal=True)
    folder = options.data or required_placeholder(str)
    return lambda split: dict(
        name="coco",
        folder=folder,
        split=split,
        captions="annotations/captions_{split}2014.json",
        images="{split}2014",
    )

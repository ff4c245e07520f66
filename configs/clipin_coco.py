"""The released CLIPin recipe: ViT-B/16 from scratch on COCO captions, one GPU's batch.

    clipin train clipin_coco:data=/path/to/coco
    clipin train clipin_coco:data=/path/to/coco,as_released   # with its quirks

Paper: CLIPin, arXiv 2508.06434; recipe: T6Yang/CLIPin, `main.py`, `data.py`,
`clip/model.py`. The folder is COCO 2014 (`annotations/captions_train2014.json`,
`train2014/`, and the same for val). 323 steps an epoch, 50 epochs; the loss of chance
is ln 256 = 5.545 for the contrastive objective and 2 for each CLIPin term.

What differs from the release, and why:

- **Shuffling.** The release never shuffles, so that the negatives of a caption are the
  same in every epoch; we shuffle. `as_released` does not.
- **Weights.** The release learns the weights of the contrastive and of the intra-modal
  term. All terms are positive, so the weights can only fall, each by about the learning
  rate a step, whatever the losses: here from 1 to about 0.76. We keep them at 1.
  `as_released` learns them, with weight decay.
- **Second caption.** The release draws a second caption for the target branch and then
  uses the first twice; so do we (`data.second_text = "same"`; `"another"` is the
  alternative that the paper describes).
- **Crops.** The release brings the shortest side to 224 pixels and looks for a square
  of at least 0.8 of the area. A picture wider than 5:4 has none, and then it takes
  the centre, always. We squash pictures to a square first, so that crops differ.
- **Last batch.** The release ends an epoch with a batch of 95 images; ours are all of
  one size, and the next epoch begins within the last. It computes in float16, we in
  `model.dtype`.
- **Evaluation.** The release drops test images at random and uses bare class names; our
  evaluators drop nothing.
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
    parse_arg,
    plug_clipin,
    run_local,
    run_settings,
    text,
    vit,
    warmup_cosine,
)

EVALUATE_EVERY = 1615  # steps: 5 epochs


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: data (a folder), as_released, runlocal."""
    options = parse_arg(arg, data="", as_released=False, runlocal=False)
    # 50 epochs of 323 full batches
    config = run_settings("coco", batch_size=256, total_steps=16_150)
    config.checkpoint.every_steps = EVALUATE_EVERY
    config.model = dict(
        **joint_space(embed_dim=512),
        image=dict(name="vit", **vit("B/16"), image_size=(224, 224)),
        text=dict(
            name="text_transformer",
            **text("B"),
            context_length=77,
            vocab_size=49408,
        ),
    )
    config.model.remat = True  # as released
    learned = "learned" if options.as_released else 1.0
    config.objectives = dict(contrastive=dict(weight=learned, init_temperature=0.07))
    schedule = warmup_cosine(
        peak=3e-5, warmup_steps=100, total_steps=config.get_ref("total_steps")
    )
    config.optim = adamw(
        schedule,
        weight_decay=1e-3,
        clip_norm=0.0,
        # As released: embeddings, the predictors' batch norm gains and learned weights
        # are decayed, layer norms and biases are not.
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
    plug_clipin(config, intra_weight=learned)  # released widths, decay 0.95
    if options.runlocal:
        run_local(config)
        config.data.augment.resize_first = 32
    return config


def _source(options: ConfigDict) -> Callable[..., dict]:
    if options.runlocal:
        return pair_source("", runlocal=True)
    folder = options.data or required_placeholder(str)
    return lambda split: dict(
        name="coco",
        folder=folder,
        split=split,
        captions="annotations/captions_{split}2014.json",
        images="{split}2014",
    )

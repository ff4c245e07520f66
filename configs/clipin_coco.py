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
- **Last batch.** The release keeps a last batch of 95 images; we drop the remainder,
  another one in every epoch. It computes in float16, we in `model.dtype`.
- **Evaluation.** The release drops test images at random and uses bare class names; our
  evaluators drop nothing.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import required_placeholder

from clipin_jax.config import parse_arg, plug_clipin, text, vit, warmup_cosine


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: data (a folder), as_released, runlocal."""
    options = parse_arg(arg, data="", as_released=False, runlocal=False)
    config = ConfigDict()
    config.name = "clipin_coco"
    config.seed = 0
    config.batch_size = 256  # global, over all devices
    config.total_steps = 16_150  # 50 epochs of 323 full batches
    config.log_every_steps = 20
    config.health_every_steps = 200
    config.max_nonfinite_steps = 20  # skipped updates in a row that end the run

    config.model = dict(
        embed_dim=512,
        pre_projector=0,
        dtype="float32",  # "bfloat16" on TPU and recent GPUs
        param_dtype="float32",
        scan_layers=False,
        remat=True,  # as released
        image_mean=(0.48145466, 0.4578275, 0.40821073),
        image_std=(0.26862954, 0.26130258, 0.27577711),
        image=dict(
            name="vit",
            **vit("B/16"),
            image_size=(224, 224),
            pool="cls",
            activation="quick_gelu",
            norm_eps=1e-5,
        ),
        text=dict(
            name="text_transformer",
            **text("B"),
            context_length=77,
            vocab_size=49408,
            activation="quick_gelu",
            norm_eps=1e-5,
        ),
    )
    learned = "learned" if options.as_released else 1.0
    config.objectives = dict(contrastive=dict(weight=learned, init_temperature=0.07))
    config.optim = dict(
        learning_rate=warmup_cosine(
            peak=3e-5, warmup_steps=100, total_steps=config.get_ref("total_steps")
        ),
        weight_decay=1e-3,
        b1=0.9,
        b2=0.98,
        eps=1e-6,
        clip_norm=0.0,
        # As released: embeddings, the predictors' batch norm gains and learned weights
        # are decayed, layer norms and biases are not.
        no_decay=(r"/ln_\w+/", r"bias$", r"logit_scale$"),
        bounds=((r"logit_scale$", 0.0, 4.6052), (r"learned_", 0.0, 20.0)),
    )
    config.mesh = dict(data=-1, fsdp=1)
    config.sharding = ((r".*", "replicate"),)

    config.data = dict(
        source=_source(options, "train"),
        image_size=config.model.image.get_ref("image_size"),
        context_length=config.model.text.get_ref("context_length"),
        tokenizer=dict(name="bpe"),
        views=1,
        second_text="same",
        shuffle=not options.as_released,
        augment=dict(
            resize_first=224,  # squashed to a square, then cropped
            crop_scale=(0.8, 1.0),
            crop_ratio=(1.0, 1.0),
            flip=0.5,
            brightness=0.1,
            contrast=0.0,
            saturation=0.0,
            hue=0.0,
            jitter_probability=1.0,
            grayscale=0.0,
            blur=0.0,
            blur_sigma=(0.1, 2.0),
            interpolation="bicubic",
        ),
        threads=4,
        processes=0,
        prefetch_batches=2,
        max_bad_fraction=0.01,
    )
    config.evals = dict(
        retrieval=dict(
            type="retrieval",
            every_steps=1615,  # 5 epochs
            source=_source(options, "val"),
            batch_size=256,
        )
    )
    config.checkpoint = dict(
        every_steps=1615,
        keep_last=2,
        keep_every_steps=0,
        best_metric="retrieval/text_to_image_R@1",
        best_mode="max",
    )
    config.log = dict(tensorboard=True)
    plug_clipin(config, intra_weight=learned)  # released widths, decay 0.95
    if options.runlocal:
        _run_local(config)
    return config


def _source(options: ConfigDict, split: str) -> dict:
    if options.runlocal:
        return dict(name="scenes", split=split, length=256, size=32)
    return dict(
        name="coco",
        folder=options.data or required_placeholder(str),
        split=split,
        captions="annotations/captions_{split}2014.json",
        images="{split}2014",
        labels=None,
    )


def _run_local(config: ConfigDict) -> None:
    """Two narrow layers and a few steps, to try the config anywhere."""
    config.batch_size = 32
    config.total_steps = 20
    config.log_every_steps = 5
    config.health_every_steps = 10
    config.model.embed_dim = 32
    config.model.pre_projector = 64
    small = dict(width=64, depth=2, num_heads=2)
    config.model.image.update(small, image_size=(32, 32), patch_size=(8, 8))
    config.model.text.update(small, context_length=32)
    config.objectives.clipin.projection_dim = 128
    config.objectives.clipin.predictor_hidden_dim = 32
    config.optim.learning_rate.warmup_steps = 5
    config.data.augment.update(resize_first=32, flip=0.0)
    config.checkpoint.every_steps = 10
    config.evals.retrieval.update(every_steps=10, batch_size=32)

"""A few minutes on two cores: a small CLIP on embedded scenes, or on a folder of pairs.

    clipin train quickstart                                 # CLIP
    clipin train quickstart:clipin                          # CLIP with CLIPin
    clipin train quickstart:clipin,data=/path/to/folder     # on a folder of pairs
    clipin train quickstart:clipin,data=/path/to/folder,labels=category

The scenes are drawn on demand. Their captions are as loose as those of the web: two of
ten belong to another image, two leave something out. The scored captions are clean.
CLIP and CLIPin have the same start, and CLIPin an eighth of the released widths. Chance
loss: ln(batch size), 4.16 for 64.

Options:

- `data`: a folder in the COCO captions layout (`images/`, `captions_train.json`,
  `captions_val.json`).
- `labels`: `category`, or `objects` for several classes an image; evaluates classes.
- `clipin`: plugs CLIPin in, as `recommended` or `released`. `runlocal`: a few steps.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from clipin_jax.config import (
    CLIPIN,
    SCENE_TEMPLATES,
    adamw,
    joint_space,
    pair_data,
    pair_source,
    parse_options,
    plug_clipin,
    run_settings,
    warmup_cosine,
)

SIZE = 32  # pixels
LOOSENESS = 0.4  # of the training captions
EVALUATE_EVERY = 200  # steps


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(arg, clipin=CLIPIN, data="", labels="", runlocal=False)
    config = run_settings("quickstart", batch_size=64, total_steps=600)
    config.log_every_steps = 10
    config.health_every_steps = 50
    config.checkpoint.every_steps = EVALUATE_EVERY
    config.model = dict(
        **joint_space(embed_dim=128, init="orthogonal"),
        image=dict(
            name="vit",
            patch_size=(8, 8),
            width=128,
            depth=3,
            num_heads=4,
            image_size=(SIZE, SIZE),
            pool="mean",
            activation="gelu",
        ),
        text=dict(
            name="text_transformer",
            width=128,
            depth=2,
            num_heads=4,
            context_length=16,
            vocab_size=49408,
            activation="gelu",
        ),
    )
    config.objectives = dict(contrastive=dict(init_temperature=0.07))
    schedule = warmup_cosine(
        peak=5e-4, warmup_steps=50, total_steps=config.get_ref("total_steps")
    )
    config.optim = adamw(schedule, weight_decay=0.1, clip_norm=0.0)
    source = pair_source(options.data, runlocal=False) if options.data else _scenes
    config.data = pair_data(
        config,
        source,
        tokenizer=dict(name="bpe"),
        crop_scale=(0.95, 1.0),
        crop_ratio=(1.0, 1.0),
        flip=0.0,  # captions of scenes name left and right
        brightness=0.1,
        contrast=0.1,
        saturation=0.0,
        grayscale=0.0,
        blur_sigma=(0.1, 1.0),
        interpolation="bilinear",
    )
    config.data.threads = 1
    config.evals = dict(
        retrieval=dict(
            type="retrieval",
            every_steps=EVALUATE_EVERY,
            source=source("val"),
            batch_size=128,
        ),
        **_folder_evals(source, options.labels) if options.data else _scenes_evals(),
    )
    if options.clipin:
        plug_clipin(
            config,
            options.clipin,
            projection_dim=1024,
            predictor_hidden_dim=256,
        )
        config.model.pre_projector = min(config.model.pre_projector, 128)
    if options.data:
        _for_photographs(config)
    if options.runlocal:
        _run_local(config)
    return config


def _scenes(split: str, labels: str | None = None) -> dict:
    train = split == "train"
    return dict(
        name="scenes",
        split=split,
        length=50_000 if train and not labels else 512,
        size=40,
        objects=(1, 1),
        looseness=LOOSENESS if train else 0.0,
        **(dict(labels=labels) if labels else {}),
    )


def _scenes_evals() -> dict:
    evals = {
        f"zero_shot_{label}": dict(
            type="zero_shot",
            every_steps=EVALUATE_EVERY,
            source=_scenes("val", label),
            batch_size=128,
            templates=templates,
        )
        for label, templates in SCENE_TEMPLATES.items()
    }
    evals["linear_probe"] = _probe(_scenes, "shape")
    return evals


def _folder_evals(source: Callable[..., dict], labels: str) -> dict:
    if not labels:
        return {}
    zero_shot = dict(
        type="zero_shot",
        every_steps=EVALUATE_EVERY,
        source=source("val", labels),
        batch_size=128,
        templates=("a photo of a {}.", "this is a {}.", "{}"),
    )
    return dict(zero_shot=zero_shot, linear_probe=_probe(source, labels))


def _probe(source: Callable[..., dict], labels: str) -> dict:
    return dict(
        type="linear_probe",  # without every_steps: at the end only
        source=source("val", labels),
        train_source=source("train", labels),
        batch_size=128,
    )


def _for_photographs(config: ConfigDict) -> None:
    """Sets larger images and batches, more steps, stronger augmentation."""
    config.batch_size = 128
    config.total_steps = 1300
    config.optim.learning_rate.peak = 1e-3
    config.model.image.image_size = (48, 48)
    config.model.text.context_length = 32
    config.data.augment.update(
        crop_scale=(0.4, 1.0),
        crop_ratio=(0.75, 1.3333),
        flip=0.5,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        grayscale=0.1,
    )


def _run_local(config: ConfigDict) -> None:
    """Shrinks the config to two narrow layers and a few steps."""
    config.batch_size = 32
    config.total_steps = 20
    config.health_every_steps = 10
    config.model.image.update(width=64, depth=2)
    config.model.text.update(width=64, depth=2)
    config.optim.learning_rate.warmup_steps = 5
    config.checkpoint.every_steps = 10
    for evaluation in config.evals.values():
        evaluation.batch_size = 32
        if "every_steps" in evaluation:
            evaluation.every_steps = 10

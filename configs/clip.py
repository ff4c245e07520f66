"""CLIP from scratch on image-caption pairs, and CLIPin plugged into it.

    clipin train clip:data=/path/to/folder                  # CLIP
    clipin train clip:clipin,data=/path/to/folder           # CLIP with CLIPin
    clipin train clip:clipin,variant=S/16,runlocal          # two layers, embedded data

Papers: CLIP, arXiv 2103.00020; CLIPin, arXiv 2508.06434. The folder has the COCO
captions layout; `labels=category` adds zero-shot classification and a linear probe
where its JSON files have classes. Batch size and schedule are those of a small run: for
a large one raise `batch_size`, `total_steps` and `optim.learning_rate.warmup_steps`.
Chance loss is ln(batch size).
"""

from collections.abc import Callable

from ml_collections import ConfigDict
from ml_collections.config_dict import required_placeholder

from clipin_jax.config import parse_arg, plug_clipin, text, vit, warmup_cosine


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: clipin, variant, data (a folder), labels, runlocal."""
    options = parse_arg(
        arg, clipin=False, variant="B/16", data="", labels="", runlocal=False
    )
    source = _sources(options)
    config = ConfigDict()
    config.name = "clipin" if options.clipin else "clip"
    config.seed = 0
    config.batch_size = 256  # global, over all devices
    config.total_steps = 20_000
    config.log_every_steps = 20
    config.health_every_steps = 200
    config.max_nonfinite_steps = 20  # skipped updates in a row that end the run

    config.model = dict(
        embed_dim=512,
        pre_projector=0,
        dtype="float32",  # of products; "bfloat16" on TPU and recent GPUs
        param_dtype="float32",
        scan_layers=False,  # True: compiles faster, right on TPU
        remat=False,  # True: recompute activations, for memory
        image_mean=(0.48145466, 0.4578275, 0.40821073),
        image_std=(0.26862954, 0.26130258, 0.27577711),
        image=dict(
            name="vit",
            **vit(options.variant),
            image_size=(224, 224),
            pool="cls",
            activation="quick_gelu",
            norm_eps=1e-5,
        ),
        text=dict(
            name="text_transformer",
            **text(options.variant),
            context_length=77,
            vocab_size=49408,
            activation="quick_gelu",
            norm_eps=1e-5,
        ),
    )
    config.objectives = dict(contrastive=dict(weight=1.0, init_temperature=0.07))
    config.target = dict(decay=0.0, view="second", symmetric=False)
    config.optim = dict(
        learning_rate=warmup_cosine(
            peak=5e-4, warmup_steps=1000, total_steps=config.get_ref("total_steps")
        ),
        weight_decay=0.2,
        b1=0.9,
        b2=0.98,
        eps=1e-6,
        clip_norm=1.0,  # of the global gradient; 0 for none
        no_decay=(r"bias$", r"scale$", r"embedding$", r"learned_"),
        bounds=(  # after every step; 4.6052 is ln 100
            (r"logit_scale$", 0.0, 4.6052),
            (r"learned_", 0.0, 20.0),
        ),
    )
    config.mesh = dict(data=-1, fsdp=1)  # -1: all devices that are left
    config.sharding = ((r".*", "replicate"),)  # "fsdp" splits parameters

    config.data = dict(
        source=source("train"),
        image_size=config.model.image.get_ref("image_size"),
        context_length=config.model.text.get_ref("context_length"),
        tokenizer=dict(name="bpe"),
        views=1,
        second_text="same",  # or "another" caption of the image
        shuffle=True,
        augment=dict(
            resize_first=0,
            crop_scale=(0.5, 1.0),
            crop_ratio=(0.75, 1.3333),
            flip=0.5,
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
            hue=0.0,
            jitter_probability=0.8,
            grayscale=0.1,
            blur=0.0,
            blur_sigma=(0.1, 2.0),
            interpolation="bicubic",
        ),
        threads=2,
        processes=0,
        prefetch_batches=2,
        max_bad_fraction=0.01,
    )
    config.evals = dict(
        retrieval=dict(
            type="retrieval", every_steps=1000, source=source("val"), batch_size=256
        )
    )
    if options.labels:
        config.evals.update(_classification(source, options.labels))
    config.checkpoint = dict(
        every_steps=500,
        keep_last=2,
        keep_every_steps=0,
        best_metric="retrieval/text_to_image_R@1",
        best_mode="max",
    )
    config.log = dict(tensorboard=True)
    if options.clipin:
        plug_clipin(config)
    if options.runlocal:
        _run_local(config)
    return config


def _sources(options: ConfigDict) -> Callable[..., dict]:
    """What makes the source of a split, with class labels or without."""
    if options.runlocal:
        return lambda split, labels=None: dict(
            name="scenes", split=split, length=256, size=32, labels=labels
        )
    folder = options.data or required_placeholder(str)
    return lambda split, labels=None: dict(
        name="coco",
        folder=folder,
        split=split,
        captions="captions_{split}.json",
        images="images",
        labels=labels,
    )


def _classification(source: Callable[..., dict], labels: str) -> dict:
    return dict(
        zero_shot=dict(
            type="zero_shot",
            every_steps=1000,
            source=source("val", labels),
            batch_size=256,
            classes=(),  # (): the names that the data has
            templates=("a photo of a {}.", "a picture of a {}.", "{}"),
        ),
        linear_probe=dict(
            type="linear_probe",
            every_steps=0,  # 0: at the end only
            source=source("val", labels),
            train_source=source("train", labels),
            batch_size=256,
        ),
    )


def _run_local(config: ConfigDict) -> None:
    """Two narrow layers and a few steps, to try the config anywhere."""
    config.batch_size = 32
    config.total_steps = 20
    config.log_every_steps = 5
    config.health_every_steps = 10
    config.model.embed_dim = 32
    small = dict(width=64, depth=2, num_heads=2)
    config.model.image.update(small, image_size=(32, 32), patch_size=(8, 8))
    config.model.text.update(small, context_length=32)
    config.optim.learning_rate.warmup_steps = 5
    config.data.augment.flip = 0.0  # the captions of scenes say left and right
    config.checkpoint.every_steps = 10
    for evaluation in config.evals.values():
        evaluation.every_steps = 10
        evaluation.batch_size = 32
    if "clipin" in config.objectives:
        config.model.pre_projector = 64
        config.objectives.clipin.projection_dim = 128
        config.objectives.clipin.predictor_hidden_dim = 32

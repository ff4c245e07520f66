"""Groups of a config that most pages share: run settings, data, evals, optimizer.

Pages import them from `clipin_jax.config`, and set what they want otherwise.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import required_placeholder

from clipin_jax.config.key_origins import changes_config, recipe

SourceMaker = Callable[..., dict[str, Any]]

# Files of pairs, compressed or not; `data.detect` tells which source reads one.
_DATA_FILE = re.compile(
    r"\.(csv|tsv|jsonl|ndjson|json|parquet|tar|tgz|array_record|npz)(\.(gz|bz2|xz))?$",
    re.IGNORECASE,
)

SCENE_TEMPLATES = {  # prompts for the labels of the embedded scenes
    "shape": ("a {}", "a picture of a {}", "there is a {}"),
    "color": ("a {} object", "a picture of a {} shape", "there is a {} thing"),
}


@recipe(r".*")
def warmup_cosine(
    peak: float, warmup_steps: Any, total_steps: Any, end: float = 0.0
) -> dict[str, Any]:
    """Returns a schedule: linear from 0 to `peak`, then half a cosine to `end`."""
    return dict(
        schedule="warmup_cosine",
        peak=peak,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        end=end,
    )


@recipe(r".*")
def cosine(start: float, end: float, total_steps: Any) -> dict[str, Any]:
    """Returns a schedule: half a cosine from `start` to `end` over `total_steps`."""
    return dict(schedule="cosine", start=start, end=end, total_steps=total_steps)


@recipe(r".*")
def linear(start: float, end: float, total_steps: Any) -> dict[str, Any]:
    """Returns a schedule: a line from `start` to `end` over `total_steps`."""
    return dict(schedule="linear", start=start, end=end, total_steps=total_steps)


@recipe(r"")
def run_settings(name: str, *, batch_size: int, total_steps: int) -> ConfigDict:
    """Returns a config without model, objectives, optimizer, data and evals.

    Args:
      name: of the run; its folder is `runs/NAME`.
      batch_size: pairs a step, over all devices.
      total_steps: updates.
    """
    config = ConfigDict()
    config.name = name
    config.seed = 0
    config.batch_size = batch_size
    config.micro_batches = 1  # of a device, for the towers; losses see whole batches
    config.total_steps = total_steps
    config.log_every_steps = 20
    config.health_every_steps = 200
    config.max_nonfinite_steps = 20  # in a row, each skipped; more end the run
    config.init_from = ""  # weights to start from: a model's file or folder, or a run
    config.init_parts = ("all",)  # or "image", "text", regular expressions of paths
    config.init_keep = ()  # patterns of what starts from scratch all the same
    config.target = dict(decay=0.0, symmetric=False)
    config.mesh = dict(
        dcn=1,  # slices, with a network between them
        data=-1,  # of a slice; -1: all other devices
        fsdp=1,  # of a slice
    )
    config.sharding = dict(
        preset="replicate",  # or "zero1", "fsdp", "fsdp+zero1": splits the state
        rules=(),  # (path pattern, "replicate", "fsdp" or "all") before the preset
        min_mib=4.0,  # smaller arrays are replicated
    )
    config.compiler_options = {}  # of XLA, for the training step
    config.checkpoint = dict(
        every_steps=500,
        keep_last=2,
        best_metric="retrieval/text_to_image_R@1",
    )
    config.log = dict(tensorboard=True)
    return config


@recipe(r"model")
def joint_space(
    embed_dim: int, image: str = "matrix", text: str = "matrix", init: str = "released"
) -> dict:
    """Returns the keys of `config.model` other than the towers.

    Args:
      embed_dim: width of the joint space; 0 for none.
      image: how the image tower's pooled feature gets there: "matrix" (no bias),
        "linear" (with bias) or "none".
      text: the same for the text tower.
      init: how these layers start: as their published code ("released"), as CLIP's
        ("clip"), or "orthogonal".
    """
    return dict(
        embed_dim=embed_dim,
        pre_projector=0,
        projection=dict(image=image, text=text),
        projection_init=init,
        embedding_from="",  # the joint space; or an objective with an `embed`
        dtype="float32",  # of matrix products; "bfloat16" for TPU and recent GPUs
        param_dtype="float32",
        scan_layers=False,  # True: compiles faster, for TPU
        remat=dict(image="none", text="none"),  # what the backward pass keeps
        lora=dict(image=dict(rank=0), text=dict(rank=0)),  # 0: no low-rank factors
        attention="auto",  # a kernel where there is one; or "plain", "fused", "cudnn"
        image_mean=(0.48145466, 0.4578275, 0.40821073),  # CLIP's
        image_std=(0.26862954, 0.26130258, 0.27577711),
    )


@recipe(r"optim")
def adamw(learning_rate: Any, weight_decay: Any, **changes: Any) -> dict[str, Any]:
    """Returns `config.optim`: AdamW as in CLIP, unless changed.

    Another `name` is another optimizer with other arguments. `groups` sets rates, decay
    and clipping by parameter path, or freezes: `(("^towers/image/",
    dict(freeze=True)),)`. `layer_decay` lowers the rates towards a tower's input.
    """
    optim = dict(
        name="adamw",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip_norm=1.0,  # of the global gradient; 0 for none
        no_decay=(r"bias$", r"scale$", r"embedding$", r"learned_"),
        bounds=(  # after every step; 4.6052 is ln 100
            (r"logit_scale$", 0.0, 4.6052),
            (r"learned_", 0.0, 20.0),
        ),
    )
    return optim | changes


def pair_source(folder: str, runlocal: bool) -> SourceMaker:
    """Returns a function `(split, labels) -> source`.

    Args:
      folder: of pairs in the COCO captions layout; or a folder or file of another
        layout, which the source `auto` finds out.
      runlocal: whether to take the embedded scenes if there is no folder; otherwise it
        is required of the user.
    """
    where = folder or required_placeholder(str)

    @recipe(r".*source", name="pair_source")
    def scenes(split: str, labels: str | None = None) -> dict[str, Any]:
        source = dict(name="scenes", split=split, length=256, size=32)
        return source | _classes(labels)

    @recipe(r".*source", name="pair_source")
    def coco(split: str, labels: str | None = None) -> dict[str, Any]:
        source = dict(name="coco", folder=where, split=split)
        return source | _classes(labels)

    @recipe(r".*source", name="pair_source")
    def auto(split: str, labels: str | None = None) -> dict[str, Any]:
        return dict(name="auto", path=where, split=split) | _classes(labels)

    if runlocal and not folder:
        return scenes
    return auto if _is_other_layout(folder) else coco


def _is_other_layout(path: str) -> bool:
    """Whether a path is an existing folder without captions of COCO, or a data file."""
    folder = os.path.expanduser(path)
    if not os.path.isdir(folder):
        return bool(_DATA_FILE.search(path))
    names = os.listdir(folder)
    if "annotations" in names and os.path.isdir(os.path.join(folder, "annotations")):
        names += os.listdir(os.path.join(folder, "annotations"))
    # With another name of its JSON file, which `data.source.captions` gives.
    has_json = "images" in names and any(name.endswith(".json") for name in names)
    return not has_json and not any(name.startswith("captions_") for name in names)


def _classes(labels: str | None) -> dict[str, str]:
    return dict(labels=labels) if labels else {}


@recipe(r"data")
def pair_data(
    config: ConfigDict,
    source: SourceMaker,
    tokenizer: Mapping[str, Any],
    **augment: Any,
) -> dict[str, Any]:
    """Returns `config.data`: shuffled pairs of the train split.

    Args:
      config: with both towers, for the size of images and the length of texts.
      source: returns the source of a split, see `pair_source`.
      tokenizer: `name` and arguments of a tokenizer.
      augment: other values of `data.augment`, see `clipin_jax.data.image.views`.
    """
    return dict(
        source=source("train"),
        image_size=config.model.image.get_ref("image_size"),
        context_length=config.model.text.get_ref("context_length"),
        resize="shortest",  # for evaluation: and crop; or "squash", the whole image
        tokenizer=dict(tokenizer),
        views=1,
        second_text="same",  # of view 2; or "another" caption of the image
        caption_cleaning="",  # or "delete_punctuation", "space_punctuation"
        caption_words=0,  # at most so many of a caption; 0: all
        long_captions="cut",  # if longer than context_length; or "error"
        caption_weights=(),  # (kind of caption, weight) pairs; (): equal weights
        mask_probability=0.0,  # per token, for masked language modelling
        shuffle=True,
        shuffle_block=0,  # neighbouring records read together; 0: any order
        augment_on="host",  # or "device", with augment.resize_first
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
            transforms=dict(),  # such as rand_augment=dict(magnitude=7)
            interpolation="bicubic",
        )
        | augment,
        threads=2,
        processes=0,  # 0: threads alone
        prefetch_batches=2,
        max_pixels=80_000_000,  # of an image; larger ones count as bad records
        max_bad_fraction=0.01,  # of all records; more end the run
        allow_change=False,  # True: resumes although the data has changed
    )


@recipe(r"evals")
def pair_evals(
    source: SourceMaker, labels: str, every_steps: int = 1000, *, fixed_set: str = ""
) -> dict:
    """Returns `config.evals`: retrieval, and with labels zero-shot and a linear probe.

    Args:
      source: returns the source of a split, see `pair_source`.
      labels: name of the classes in the data; "" for none.
      every_steps: how often; always at the end too.
      fixed_set: a folder of other images, in a folder for each class, for zero-shot
        classification; "" for none.
    """
    templates = ("a photo of a {}.", "a picture of a {}.", "{}")
    evals = dict(
        retrieval=dict(
            type="retrieval",
            every_steps=every_steps,
            source=source("val"),
        )
    )
    if labels:
        evals |= dict(
            zero_shot=dict(
                type="zero_shot",
                every_steps=every_steps,
                source=source("val", labels),
                templates=templates,
            ),
            linear_probe=dict(
                type="linear_probe",  # without every_steps: at the end only
                source=source("val", labels),
                train_source=source("train", labels),
            ),
        )
    if fixed_set:
        evals |= dict(
            fixed_set=dict(
                type="zero_shot",
                every_steps=every_steps,
                source=dict(name="image_folder", folder=fixed_set),
                templates=templates,
            )
        )
    return evals


@changes_config
def fine_tune(config: ConfigDict) -> None:
    """Changes a config of training from scratch for one that starts from weights.

    A tenth of the steps, a fiftieth of the rate, which is lower towards the input of
    the towers; evaluations before the first step and ten times on the way. What starts
    from scratch all the same (`init_keep`) learns at the rate of before. The config's
    name gets the ending `_finetune`.

    Args:
      config: changed in place; its optimizer is from `adamw`, with a schedule that has
        a `peak` and `warmup_steps`.
    """
    slower = 50
    config.name += "_finetune"
    config.total_steps //= 10
    every_steps = max(config.total_steps // 10, 1)
    config.checkpoint.every_steps = every_steps
    rate = config.optim.learning_rate
    rate.update(peak=rate.peak / slower, warmup_steps=max(config.total_steps // 20, 1))
    config.optim.update(weight_decay=0.1, layer_decay=0.8)
    config.optim.groups = tuple(
        (new, dict(learning_rate=float(slower))) for new in config.init_keep
    )
    for evaluation in config.evals.values():
        if "every_steps" in evaluation:
            evaluation.update(every_steps=every_steps, at_start=True)


@changes_config
def lock_image_tower(config: ConfigDict) -> None:
    """Freezes the image tower; its projection and all of the text tower are trained.

    The config's name gets the ending `_lit`. Source: LiT, arXiv 2111.07991.
    """
    frozen = (r"^towers/image/", dict(freeze=True))
    config.name += "_lit"
    config.optim.groups = (frozen, *config.optim.get("groups", ()))

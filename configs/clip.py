"""CLIP from scratch on image-caption pairs, and CLIPin plugged into it.

    clipin train clip:data=/path/to/folder                  # CLIP
    clipin train clip:clipin,data=/path/to/folder           # CLIP with CLIPin
    clipin train clip:tower=RN50,data=/path/to/folder       # a residual network
    clipin train clip:clipin,variant=S/16,runlocal          # two layers, embedded data

Papers: CLIP, arXiv 2103.00020; CLIPin, arXiv 2508.06434. The folder has the COCO
captions layout; `labels=category` adds zero-shot classification and a linear probe
where its JSON files have classes. Batch size and schedule are those of a small run: for
a large one raise `batch_size`, `total_steps` and `optim.learning_rate.warmup_steps`;
`small` is for a thousand pictures and two cores. Chance loss is ln(batch size).

`tower` is RN50, RN101, RN50x4, RN50x16 or RN50x64, with its text tower and the
paper's Adam for it; left out, `variant` sizes a ViT and its text tower. The attention
pool of a residual network ends in the joint space; CLIPin's pre-projector starts there.
"""

from ml_collections import ConfigDict

from clipin_jax.config import (
    CLIPIN,
    adamw,
    joint_space,
    pair_data,
    pair_evals,
    pair_source,
    parse_arg,
    plug_clipin,
    resnet,
    run_local,
    run_settings,
    run_small,
    text,
    vit,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Options: clipin, variant, tower, data (a folder), labels, small, runlocal."""
    options = parse_arg(
        arg, clipin=CLIPIN, variant="B/16", tower="", data="", labels="", small=False,
        runlocal=False,
    )  # fmt: skip
    config = run_settings("clip", batch_size=256, total_steps=20_000)
    config.model = dict(
        **joint_space(embed_dim=512),
        image=dict(name="vit", **vit(options.variant), image_size=(224, 224)),
        text=dict(
            name="text_transformer",
            **text(options.variant),
            context_length=77,
            vocab_size=49408,
        ),
    )
    config.objectives = dict(contrastive=dict(init_temperature=0.07))
    schedule = warmup_cosine(
        peak=5e-4, warmup_steps=1000, total_steps=config.get_ref("total_steps")
    )
    config.optim = adamw(schedule, weight_decay=0.2)
    if options.tower:
        _use_resnet(config, options.tower)
    source = pair_source(options.data, options.runlocal)
    config.data = pair_data(config, source, tokenizer=dict(name="bpe"))
    config.evals = pair_evals(source, options.labels)
    if options.clipin:
        plug_clipin(config, options.clipin)
    if options.small:
        run_small(config, **_narrow(options.tower, width=16, pixels=64))
    if options.runlocal:
        run_local(config, **_narrow(options.tower, width=8, pixels=32))
    return config


def _use_resnet(config: ConfigDict, tower: str) -> None:
    sizes = resnet(tower)
    config.model.embed_dim = sizes["output_dim"]
    config.model.projection.image = "none"
    config.model.image = dict(name="resnet", **sizes)
    config.model.image.output_dim = config.model.get_ref("embed_dim")
    config.model.text.update(text(tower))
    config.optim.update(b2=0.999, eps=1e-8)


def _narrow(tower: str, width: int, pixels: int) -> dict:
    """Sizes of a small residual network; none for a ViT."""
    if not tower:
        return {}
    stages = dict(depths=(1, 1, 1, 1), width=width, num_heads=4)
    return dict(image=dict(stages, image_size=(pixels, pixels)))

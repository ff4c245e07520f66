"""CLIP on image-caption pairs, from scratch or not, and CLIPin plugged into it.

    clipin train clip:data=/path/to/folder                  # CLIP
    clipin train clip:clipin,data=/path/to/folder           # CLIP with CLIPin
    clipin train clip:tower=RN50,data=/path/to/folder       # a residual network
    clipin train clip:clipin,variant=S/16,runlocal          # two layers, embedded data
    clipin train clip:finetune,data=/path/to/folder init_from=/path/to/model
    clipin train clip:lit,data=/path/to/folder init_from=/path/to/model

Papers: CLIP, arXiv 2103.00020; CLIPin, arXiv 2508.06434; LiT, arXiv 2111.07991. Batch
size and schedule are those of a small run: for a large one raise `batch_size`,
`total_steps` and `optim.learning_rate.warmup_steps`. Chance loss: ln(batch size), 5.545
for 256.

Options:

- `data`: a folder in the COCO captions layout, or another folder or file of pairs.
- `labels`: name of the classes in its JSON files, such as `category`; adds zero-shot
  classification and a linear probe.
- `variant`: sizes of the ViT and its text tower.
- `text`: `minilm`, a BERT of the size of MiniLM-L6 (arXiv 2002.10957), also with
  `small` and `runlocal`, pooled as in sentence-transformers. `init_from=FOLDER
  init_parts=('text',) data.tokenizer.vocabulary=FOLDER/vocab.txt` reads its weights.
- `tower`: RN50, RN101, RN50x4, RN50x16 or RN50x64 instead of a ViT, with its text tower
  and the paper's Adam for it. Its attention pool ends in the joint space; CLIPin's
  pre-projector starts there.
- `clipin`: plugs CLIPin in, as `recommended` or `released`.
- `finetune`: for the weights of `init_from`: 2000 steps at a rate of 1e-5, lower
  towards the input; evaluations also before the first step, so that one sees what is
  forgotten. CLIPin has no pre-projector then, which would come between towers and
  projections that are trained already, and its heads learn at 5e-4.
- `lit`: freezes the image tower, which `init_from` gives; the text tower and both
  projections learn.
- `fixed_set`: a folder of images in a folder for each class, on which zero-shot
  classification is measured beside the data.
- `small`: for a thousand images and two cores. `runlocal`: for a few steps anywhere, on
  the embedded scenes if there is no `data`, and from scratch without `init_from`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import required_placeholder

from clipin_jax.config import (
    CLIPIN,
    adamw,
    fine_tune,
    joint_space,
    lock_image_tower,
    pair_data,
    pair_evals,
    pair_source,
    parse_options,
    plug_clipin,
    resnet_sizes,
    run_settings,
    shrink_runlocal,
    shrink_small,
    text_sizes,
    vit_sizes,
    warmup_cosine,
)

BERTS = dict(minilm=dict(width=384, depth=6, num_heads=12))


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(
        arg, clipin=CLIPIN, variant="B/16", text=BERTS, tower="", data="", labels="",
        fixed_set="", finetune=False, lit=False, small=False, runlocal=False,
    )  # fmt: skip
    config = run_settings("clip", batch_size=256, total_steps=20_000)
    config.model = dict(
        **joint_space(embed_dim=512),
        image=dict(name="vit", **vit_sizes(options.variant), image_size=(224, 224)),
        text=dict(
            name="text_transformer",
            **text_sizes(options.variant),
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
    tokenizer = dict(name="bpe")
    if options.text:
        config.model.text = _bert(options.text)
        vocabulary = "" if options.runlocal else required_placeholder(str)
        tokenizer = dict(name="wordpiece", vocabulary=vocabulary)
    config.data = pair_data(config, source, tokenizer)
    config.evals = pair_evals(source, options.labels, fixed_set=options.fixed_set)
    if options.clipin:
        direct = dict(pre_projector=0) if options.finetune else {}
        plug_clipin(config, options.clipin, **direct)
    if options.small:
        shrink_small(config, **_sizes(options, width=16, pixels=64))
    if options.finetune:
        fine_tune(config)
    if options.lit:
        lock_image_tower(config)
    if (options.finetune or options.lit) and not options.runlocal:
        config.init_from = required_placeholder(str)
    if options.runlocal:
        shrink_runlocal(config, **_sizes(options, width=8, pixels=32))
    return config


def _bert(name: str) -> dict:
    """A published BERT, with the mean of all positions as in sentence-transformers."""
    sizes = dict(context_length=77, vocab_size=30522, token_types=2)
    return dict(name="bert", **BERTS[name], **sizes, pool="mean")


def _use_resnet(config: ConfigDict, tower: str) -> None:
    sizes = resnet_sizes(tower)
    config.model.embed_dim = sizes["output_dim"]
    config.model.projection.image = "none"
    config.model.image = dict(name="resnet", **sizes)
    config.model.image.output_dim = config.model.get_ref("embed_dim")
    config.model.text.update(text_sizes(tower))
    config.optim.update(b2=0.999, eps=1e-8)


def _sizes(options: ConfigDict, width: int, pixels: int) -> dict:
    """Sizes of a small residual network; those of a published BERT stay."""
    sizes = dict(text=BERTS[options.text]) if options.text else {}
    if options.tower:
        stages = dict(depths=(1, 1, 1, 1), width=width, num_heads=4)
        sizes["image"] = dict(stages, image_size=(pixels, pixels))
    return sizes

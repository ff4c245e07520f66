"""xCLIP: CLIP and nCLIP on the same towers, a contrastive and a cluster objective.

    clipin train xclip:data=/path/to/folder                 # xCLIP
    clipin train xclip:clipin,data=/path/to/folder          # xCLIP with CLIPin
    clipin train xclip:variant=S/16,runlocal                # two layers, embedded data

Paper: arXiv 2210.09304, whose code is not public. The cluster objective is that of
`nclip`, with its own heads. The paper does not give the weights of the two; both are 1
here. Towers, data, schedule and options are those of `clip`, to compare with.
Evaluation uses the joint space of the contrastive objective.
"""

from ml_collections import ConfigDict

from clipin_jax.config import (
    CLIPIN,
    adamw,
    joint_space,
    pair_data,
    pair_evals,
    pair_source,
    parse_options,
    plug_clipin,
    run_settings,
    shrink_runlocal,
    shrink_small,
    text_sizes,
    vit_sizes,
    warmup_cosine,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config; arg: the options above, with commas between."""
    options = parse_options(
        arg, clipin=CLIPIN, variant="B/16", data="", labels="", small=False,
        runlocal=False,
    )  # fmt: skip
    config = run_settings("xclip", batch_size=256, total_steps=20_000)
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
    config.objectives = dict(
        contrastive=dict(weight=1.0, init_temperature=0.07),
        cluster=dict(weight=1.0, num_clusters=32768, hidden_dim=4096),
    )
    schedule = warmup_cosine(
        peak=5e-4, warmup_steps=1000, total_steps=config.get_ref("total_steps")
    )
    config.optim = adamw(schedule, weight_decay=0.2)
    source = pair_source(options.data, options.runlocal)
    config.data = pair_data(config, source, tokenizer=dict(name="bpe"))
    config.evals = pair_evals(source, options.labels)
    if options.clipin:
        plug_clipin(config, options.clipin)
    if options.small:
        shrink_small(config, cluster=dict(num_clusters=512, hidden_dim=256))
    if options.runlocal:
        shrink_runlocal(config, cluster=dict(num_clusters=64, hidden_dim=128))
    return config

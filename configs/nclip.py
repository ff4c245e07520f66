"""nCLIP: images and texts agree on soft clusters; no negatives, no joint space.

    clipin train nclip:data=/path/to/folder                 # nCLIP
    clipin train nclip:clipin,data=/path/to/folder          # nCLIP with CLIPin
    clipin train nclip:variant=S/16,runlocal                # two layers, embedded data

Paper: arXiv 2210.09304, whose code is not public. Not in the paper are the weights of
the three terms, the batch mean in the smoothness term, CLIP's Adam, and the similarity
of the evaluation (the Bhattacharyya coefficient of the cluster probabilities). Towers,
data, schedule and options are those of `clip`, to compare with.

The paper trains with batches of 4,096. A batch uses few more clusters than it has
pairs: take fewer for a small one, `objectives.cluster.num_clusters=1024`. Watch
`cluster/image_used_clusters`: 1 is a collapse.
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
    config = run_settings("nclip", batch_size=256, total_steps=20_000)
    config.model = dict(
        # No joint space: evaluation compares the clusters.
        **joint_space(embed_dim=0) | dict(embedding_from="cluster"),
        image=dict(name="vit", **vit_sizes(options.variant), image_size=(224, 224)),
        text=dict(
            name="text_transformer",
            **text_sizes(options.variant),
            context_length=77,
            vocab_size=49408,
        ),
    )
    config.objectives = dict(
        cluster=dict(
            sharpness_weight=0.5,
            smoothness_weight=1.5,  # at 1 few clusters are used
            num_clusters=32768,
            hidden_dim=4096,
        ),
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

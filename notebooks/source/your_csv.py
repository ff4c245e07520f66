# %% [markdown]
# # Your own CSV
#
# A list of image files and captions is enough to train on. This notebook draws pictures, lists
# them in a CSV with two mistakes, finds the mistakes, trains, and scores. Put your own list in
# place of `pairs/train.csv` and leave out the first two cells.

# %% tags=["parameters"] quick={"steps": 2, "length": 460}
steps = 150  # of 64 pairs
length = 1500  # pictures

# %% [markdown]
# ## A CSV
#
# The columns are a path, relative to the CSV, and a caption. `train.csv` and `val.csv` beside
# each other are the two splits. Without `val.csv`, one record in twenty is held out.

# %%
# !clipin data convert quickstart shards --to webdataset --overwrite \
#     data.source.length={length} data.source.looseness=0 data.source.size=48

# %%
import csv
import tarfile
from pathlib import Path

for shard in Path("shards").glob("*.tar"):
    with tarfile.open(shard) as tar:
        tar.extractall("pairs/pictures", filter="data")
rows = [
    (f"pictures/{path.name}", path.with_suffix(".txt").read_text())
    for path in sorted(Path("pairs/pictures").glob("*.png"))
]
rows[:3]


# %%
def write_csv(name, rows):
    with open(name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("filepath", "title"), *rows])


mistakes = [("pictures/lost.png", "a red star"), (rows[0][0], "")]
write_csv("pairs/train.csv", [*rows[200:], *mistakes])
write_csv("pairs/val.csv", rows[:200])

# %% [markdown]
# ## Check it before training
#
# The check reads every record. It lists unusable ones, captions that are cut, and duplicates.

# %%
import clipin_jax

clipin_jax.check_data("quickstart:data=pairs/train.csv")

# %% [markdown]
# Training replaces unusable records by good ones, lists them, and stops if they are more than
# one in a hundred. Here they are removed.

# %%
write_csv("pairs/train.csv", rows[200:])
clipin_jax.check_data("quickstart:data=pairs/train.csv").advice

# %% [markdown]
# ## Train and score
#
# Captions name left and right, so pictures are not mirrored here.

# %%
changes = [
    f"total_steps={steps}",
    f"evals.retrieval.every_steps={max(steps // 3, 1)}",
    "batch_size=64",
    "data.augment.flip=0",
    "data.augment.crop_scale=(0.9, 1.0)",
]
config = clipin_jax.load_config("quickstart:clipin,data=pairs/train.csv", changes)
run = clipin_jax.train(config, "runs/csv")

# %%
run.plot("train/loss", "retrieval/mean_recall")

# %%
run.scores

# %% [markdown]
# Larger models take the same data: `clip:clipin,data=pairs/train.csv,variant=S/16`. Tars,
# Parquet, JSON lines and folders do too, by the same `data=`.

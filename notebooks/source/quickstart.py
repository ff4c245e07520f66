# %% [markdown]
# # Quickstart
#
# Train a small CLIP with the CLIPin plug-in on drawn scenes, see it learn, and ask it for
# pictures. It takes two minutes on two cores. No data are downloaded.

# %% tags=["parameters"] quick={"recipe": "quickstart:runlocal", "steps": 4}
recipe = "quickstart:clipin"
steps = 300  # of 64 pairs

# %% [markdown]
# ## Train
#
# A config names the model, the objectives, the data and the schedule. `KEY=VALUE` changes any
# of it.

# %%
import clipin_jax

every = max(steps // 6, 1)  # steps between two evaluations
changes = [f"total_steps={steps}", f"evals.retrieval.every_steps={every}"]
config = clipin_jax.load_config(recipe, changes)
config

# %%
run = clipin_jax.train(config, "runs/quickstart")

# %% [markdown]
# ## Did it learn?
#
# Mean recall is the share of queries whose match is among the first 1, 5 or 10 of 512 pictures
# or captions. A model that knows nothing has 1.2 %.

# %%
run.plot("train/loss", "retrieval/mean_recall")

# %%
run.scores

# %% [markdown]
# ## Ask it for pictures
#
# Write 300 scenes that the model has never seen, and rank them for three texts.

# %%
# !clipin data convert quickstart pictures --to webdataset --overwrite \
#     data.source.split=val data.source.length=300 data.source.size=48

# %%
import io
import tarfile
from pathlib import Path

from PIL import Image

[tar_file] = Path("pictures").glob("*.tar")
with tarfile.open(tar_file) as tar:
    files = [tar.extractfile(m).read() for m in tar if m.name.endswith(".png")]
pictures = [Image.open(io.BytesIO(file)) for file in files]
len(pictures)

# %%
import numpy as np

texts = ["a red star", "a blue ring", "a green triangle"]
cosines = run.model.similarity(pictures, texts)  # [pictures, texts]
best = np.argsort(-cosines, axis=0)[:5].T  # [texts, 5], the nearest first
rows = [np.hstack([np.asarray(pictures[i]) for i in row]) for row in best]
print(*texts, sep="\n")
Image.fromarray(np.vstack(rows))

# %% [markdown]
# ## Go on
#
# The same call resumes a run that was stopped. `run.resume` trains a finished one for longer:
# `run.resume(["total_steps=600"])`. The other notebooks show your own data, fine-tuning,
# explanations, sweeps and TPUs.

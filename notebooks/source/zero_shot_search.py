# %% [markdown]
# # Zero-shot classes, retrieval, and search in a folder
#
# Use a trained model: sort pictures into classes that it was never trained on, compare pictures
# with texts, and search a folder by a text or a picture.

# %% tags=["parameters"] quick={"recipe": "quickstart:clipin,runlocal", "steps": 4, "length": 40}
recipe = "quickstart:clipin"
steps = 200  # of the model that is used here
length = 400  # pictures in the folder

# %% [markdown]
# ## A model, and a folder of pictures
#
# Put your own in place: `clipin_jax.load("runs/mine")`, and any folder of images.

# %%
import clipin_jax

model = clipin_jax.train(recipe, "runs/model", [f"total_steps={steps}"]).model
model

# %%
# !clipin data convert quickstart shards --to webdataset --overwrite \
#     data.source.split=val data.source.length={length} data.source.size=64

# %%
import tarfile
from pathlib import Path

[shard] = Path("shards").glob("*.tar")
with tarfile.open(shard) as tar:
    tar.extractall("pictures", filter="data")
pictures = sorted(Path("pictures").glob("*.png"))
len(pictures)

# %% [markdown]
# ## Zero-shot classes
#
# A class is a name, put into prompts. Probabilities are [pictures, classes].

# %%
import numpy as np
from PIL import Image

colours = ["red", "yellow", "green", "blue", "purple"]
probabilities = model.zero_shot(pictures[:8], colours, ["a {} object", "a {} thing"])
for row in probabilities:
    print(f"{colours[row.argmax()]:8}{row.max():.0%}")
Image.fromarray(np.hstack([np.asarray(Image.open(p)) for p in pictures[:8]]))

# %% [markdown]
# ## Pictures and texts
#
# Images may be paths, URLs, bytes, images of Pillow or arrays.

# %%
texts = ["a red star", "a blue ring", "a yellow cross"]
np.round(model.similarity(pictures[:4], texts), 2)  # [pictures, texts]

# %% [markdown]
# ## Embed a folder once, search it often

# %%
# !clipin embed runs/model pictures --output pictures.parquet

# %%
# !clipin search runs/model pictures.parquet "a blue ring" --top 5 --page found.html

# %%
# !clipin search runs/model pictures.parquet {pictures[0]} --top 5

# %% [markdown]
# `found.html` shows the pictures. The file of vectors is a table that other tools read too:

# %%
import pyarrow.parquet as pq

table = pq.read_table("pictures.parquet")
vectors = np.stack(table["embedding"].to_numpy())  # [N, E] of unit norm
cosines = vectors @ model.encode_text("a blue ring")[0]
nearest = np.argsort(-cosines)[:8]
found = [pictures[table["index"][i].as_py()] for i in nearest.tolist()]
Image.fromarray(np.hstack([np.asarray(Image.open(path)) for path in found]))

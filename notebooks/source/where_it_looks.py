# %% [markdown]
# # Where does it look?
#
# Draw where in an image a model finds what a text says: for the whole text, word by word, and
# for one model beside another.

# %% tags=["parameters"] quick={"small": "runlocal", "steps": 4}
small = ""
steps = 200

# %% [markdown]
# ## Two models

# %%
import clipin_jax

only_loss = [f"total_steps={steps}", "evals.linear_probe=None"]
clip = clipin_jax.train(f"quickstart:{small}", "runs/clip", only_loss)
clipin = clipin_jax.train(f"quickstart:clipin,{small}", "runs/clipin", only_loss)
clip.plot("retrieval/mean_recall", beside=[clipin])

# %% [markdown]
# ## Pictures with several objects
#
# The models were trained on one object in each picture.

# %%
# !clipin data convert quickstart shards --to webdataset --overwrite data.source.split=val \
#     data.source.length=4 data.source.size=96 "data.source.objects=(2, 3)" data.source.looseness=0

# %%
import tarfile
from pathlib import Path

[shard] = Path("shards").glob("*.tar")
with tarfile.open(shard) as tar:
    tar.extractall("pictures", filter="data")
pictures = sorted(Path("pictures").glob("*.png"))
for picture in pictures:
    print(picture, "-", picture.with_suffix(".txt").read_text())

# %% [markdown]
# ## Maps

# %%
texts = ["a red circle", "a yellow hexagon"]
shown = f"--image {pictures[0]} --text '{texts[0]}' '{texts[1]}'"
# !clipin explain runs/clip runs/clipin {shown} --output maps.png

# %%
from PIL import Image

Image.open("maps.png")

# %% [markdown]
# ## Word by word

# %%
# !clipin explain runs/clipin {shown} --words --output words.png

# %%
Image.open("words.png")

# %% [markdown]
# ## As numbers
#
# A map has one value for each patch, here as shares of the greatest. `prediction` explains CLIPin's
# second path: the image as it is predicted from the text.

# %%
for method in ("contrastive", "prediction"):
    heat = clipin.model.explain(pictures[0], texts[0], method)
    print(method, (heat / heat.max()).round(1), sep="\n")

# %% [markdown]
# Do the maps lie on what the text names? The evaluator `localization` compares them with the masks
# of the objects. Maps of an untrained model do not depend on the text: compare `named_object` with
# its chance.

# %%
scenes = dict(name="scenes", split="val", length=100, size=40, objects=(2, 3))
maps = dict(type="localization", source=scenes, method="contrastive")
# !clipin evaluate runs/clipin "evals={{'maps': {maps}}}" --output maps.json

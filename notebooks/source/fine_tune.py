# %% [markdown]
# # Fine-tune a pretrained model
#
# Start from trained weights, adapt them to other data, and see what is gained and what is
# forgotten. The pretrained model is a small one made here, so nothing is downloaded.

# %% tags=["parameters"] quick={"recipe": "quickstart:runlocal", "steps": 4, "tune_steps": 4}
recipe = "quickstart"
steps = 250  # of pretraining
tune_steps = 120

# %% [markdown]
# ## A pretrained model
#
# Skip these two cells if you have one: a folder of transformers, open_clip, timm or big_vision,
# or `hf-hub:openai/clip-vit-base-patch32`, is `init_from` as well.

# %%
import clipin_jax

config = clipin_jax.load_config(recipe, [f"total_steps={steps}"])
pretrained = clipin_jax.train(config, "runs/pretrained")

# %%
# !clipin export runs/pretrained pretrained --to safetensors

# %% [markdown]
# ## Other data
#
# The new scenes are drawn in another style, and there are 800 of them. `retrieval` scores new
# scenes, `old` those of the pretraining, both also before the first step.

# %%
scored = dict(name="scenes", split="val", length=512, size=40, objects=(1, 1))
old = dict(type="retrieval", source=scored, at_start=True, every_steps=60)
new = ["data.source.shift=1", "evals.retrieval.source.shift=1"]
evals = [f"evals.old={old}", "evals.retrieval.at_start=True"]
others = ["zero_shot_color", "zero_shot_shape", "linear_probe"]
changes = [*new, *evals, *(f"evals.{name}=None" for name in others)]

# %% [markdown]
# ## Fine-tune
#
# The rate becomes smaller towards the input, layer by layer. The page `clip:finetune` sets these
# keys for models of usual sizes, with smaller rates.

# %%
tune = [
    "init_from=pretrained",
    f"total_steps={tune_steps}",
    "data.source.length=800",
    "data.source.looseness=0",
    "evals.retrieval.every_steps=60",
    "optim.learning_rate.warmup_steps=2",
    "optim.learning_rate.peak=1e-3",
    "optim.layer_decay=0.8",
]
config = clipin_jax.load_config(recipe, [*changes, *tune])
full = clipin_jax.train(config, "runs/full")

# %% [markdown]
# ## Or train factors of low rank
#
# LoRA trains two thin matrices beside each linear layer and leaves the rest as it is. It takes a
# larger rate.

# %%
factors = [f"model.lora.{tower}.rank=4" for tower in ("image", "text")]
rates = ["optim.learning_rate.peak=2e-3", "optim.layer_decay=1"]
config = clipin_jax.load_config(recipe, [*changes, *tune, *factors, *rates])
lora = clipin_jax.train(config, "runs/lora")

# %% [markdown]
# ## What is gained, what is forgotten

# %%
full.plot("retrieval/mean_recall", "old/mean_recall", beside=[lora])

# %% [markdown]
# Weights between the old and the new model may be good on both.

# %%
# !clipin evaluate runs/full --interpolate 0,0.5,1 --with runs/pretrained

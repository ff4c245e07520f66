# %% [markdown]
# # Add your own objective
#
# An objective is a module that maps the features of a batch to a loss and metrics. Write it in a file
# of your own, and name it in the config. Nothing in the package changes.

# %% tags=["parameters"] quick={"small": "runlocal", "steps": 4}
small = ""
steps = 150

# %% [markdown]
# ## The file
#
# This one spreads embeddings over the unit sphere (Wang and Isola, arXiv 2005.10242). Numbers in
# `scalars` can be set, scheduled or learned in the config; `weight` is the factor of the loss.

# %%
# %%writefile uniformity.py
import jax.numpy as jnp

from clipin_jax.objectives.base import ObjectiveModule


class Uniformity(ObjectiveModule):
    scalars = {"weight": 1.0, "scale": 2.0}

    def __call__(self, inputs):
        x = inputs.features["image"]["embedding"]  # [B, E] of unit norm
        distance = 2 - 2 * x @ x.T  # squared, [B, B]
        potential = jnp.exp(-self.scalar("scale", inputs.hyper) * distance)
        loss = jnp.log(jnp.mean(potential, where=~jnp.eye(len(x), dtype=bool)))
        return loss, {"squared_distance": jnp.mean(distance)}


# %% [markdown]
# ## Name it in the config

# %%
import clipin_jax

own = {"type": "uniformity:Uniformity", "weight": 0.1}
every = max(steps // 4, 1)
changes = [f"total_steps={steps}", f"evals.retrieval.every_steps={every}"]
changes += [f"checkpoint.every_steps={steps}"]
for name in ("zero_shot_color", "zero_shot_shape", "linear_probe"):
    changes += [f"evals.{name}=None"]
config = clipin_jax.load_config(
    f"quickstart:{small}", [*changes, f"objectives.uniformity={own}"]
)
config.objectives

# %% [markdown]
# ## Train with it, and without

# %%
with_it = clipin_jax.train(config, "runs/with")
without = clipin_jax.train(
    clipin_jax.load_config(f"quickstart:{small}", changes), "runs/without"
)

# %% [markdown]
# Its loss and its metrics are logged beside the others.

# %%
names = ["uniformity/loss", "uniformity/squared_distance", "retrieval/mean_recall"]
with_it.plot(*names, beside=[without])

# %% [markdown]
# A mistake in the class ends with one line that names the config key and the line of the file. Towers,
# sources, evaluators, optimizers, schedules and loggers of your own are named in the same way.

# %%
wrong = {"type": "uniformity:Uniformity", "wait": 0.1}
try:
    clipin_jax.train("quickstart", "runs/x", [f"objectives.uniformity={wrong}"])
except clipin_jax.ClipinError as error:
    print(error)

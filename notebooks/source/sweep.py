# %% [markdown]
# # A sweep
#
# Train a config with several values, see what matters, and take the best one on.

# %% tags=["parameters"] quick={"recipe": "quickstart:runlocal", "steps": 4, "trials": 2}
recipe = "quickstart"
steps = 60  # of each run
trials = 4

# %% [markdown]
# ## What would be trained?
#
# `KEY=a,b` are values, `KEY=LOW..HIGH:log` is a range. `--dry-run` lists the points.

# %%
common = (
    f"total_steps={steps} evals.linear_probe=None optim.learning_rate.warmup_steps=1"
)
space = "optim.learning_rate.peak=1e-4..1e-2:log"
# !clipin sweep {recipe} {space} {common} --trials {trials} --dry-run

# %% [markdown]
# ## Train
#
# The points share one compiled program. The same command goes on with a sweep that was stopped,
# and trains only what is missing.

# %%
# !clipin sweep {recipe} {space} {common} --trials {trials}

# %% [markdown]
# ## Results
#
# The page has a table, parallel coordinates, the importance of each key and the curves. It is
# `sweep.html` in the folder, too.

# %%
import clipin_jax

sweep = clipin_jax.open_sweep("runs/sweeps/quickstart")
sweep

# %%
for point in sweep.ranked:
    print(point.assignment, point.values)

# %% [markdown]
# ## Take the best one on
#
# The best of many scores too well by chance: score it anew on another seed.

# %%
# !clipin sweep best runs/sweeps/quickstart --write best.py

# %%
changes = ["seed=1", f"total_steps={3 * steps}"]
run = clipin_jax.train(clipin_jax.load_config("best.py", changes), "runs/best")
run.plot("train/loss", "retrieval/mean_recall")

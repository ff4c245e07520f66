# %% [markdown]
# # A sweep
#
# Train a config with several values, see what matters, and take the best one on.

# %% tags=["parameters"] quick={"recipe": "quickstart:runlocal", "steps": 4, "trials": 2}
recipe = "quickstart"
steps = 100  # of each run
trials = 4

# %% [markdown]
# ## What would be trained?
#
# `KEY=a,b` are values, `KEY=LOW..HIGH:log` is a range. `--dry-run` lists the points.

# %%
warmup = f"optim.learning_rate.warmup_steps={max(steps // 10, 1)}"
common = f"total_steps={steps} evals.linear_probe=None {warmup}"
space = "optim.learning_rate.peak=3e-5..3e-3:log"
metric = "retrieval/mean_recall"  # chance is 1.2 %
# !clipin sweep {recipe} {space} {common} --metric {metric} --trials {trials} --dry-run

# %% [markdown]
# ## Train
#
# The points share one compiled program. The same command goes on with a sweep that was stopped,
# and trains only what is missing.

# %%
# !clipin sweep {recipe} {space} {common} --metric {metric} --trials {trials}

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
# The best of many scores too well by chance: score it anew on another seed. It is trained for
# twice as long here.

# %%
# !clipin sweep best runs/sweeps/quickstart --write best.py

# %%
changes = ["seed=1", f"total_steps={2 * steps}"]
run = clipin_jax.train(clipin_jax.load_config("best.py", changes), "runs/best")
run.plot("train/loss", "retrieval/mean_recall")

# %% [markdown]
# # Plug CLIPin in, and compare
#
# CLIPin is one more objective beside the one of CLIP. Train the same model with and without it,
# look at both on one page, and find out whether the difference is more than chance.

# %% tags=["parameters"] quick={"steps": 4, "study_steps": 4, "seeds": 2, "small": ",runlocal"}
steps = 150  # of the two runs
study_steps = 50  # of each run of the study
seeds = 3
small = ""

# %% [markdown]
# ## What the plug-in changes
#
# Both configs have the same towers, data, rate and start.

# %%
# !clipin config quickstart:clipin{small} --diff quickstart:{small}

# %% [markdown]
# ## Two runs

# %%
import clipin_jax

recipes = {"clip": f"quickstart:{small}", "clipin": f"quickstart:clipin{small}"}
every = max(steps // 4, 1)
changes = [f"total_steps={steps}", f"evals.retrieval.every_steps={every}"]
runs = {
    name: clipin_jax.train(clipin_jax.load_config(recipe, changes), f"runs/{name}")
    for name, recipe in recipes.items()
}

# %% [markdown]
# ## One page

# %%
runs["clip"].report(runs["clipin"])

# %% [markdown]
# ## More than chance?
#
# One seed shows nothing. A study trains each method with several seeds, compares them seed by
# seed, and gives the 95 % interval of the difference. The seeds share the compiled programs.

# %%
study = f"""
from clipin_jax.config import SCENE_METRICS, scenes_changes

def get_study(arg=None):
    methods = {{
        "CLIP": dict(config="quickstart:{small}"),
        "CLIPin": dict(config="quickstart:clipin{small}"),
    }}
    return dict(title="CLIPin", question="Does it help here?", methods=methods,
        baseline="CLIP", seeds=range({seeds}), metrics={{"retrieval/mean_recall": "recall"}},
        changes={{"total_steps": {study_steps}}})
"""
with open("my_study.py", "w") as file:
    file.write(study)

# %%
# !clipin study my_study.py --workdir runs/study

# %%
clipin_jax.open_study("runs/study")

# %% [markdown]
# # Plug CLIPin in, and compare
#
# CLIPin is one more objective beside the one of CLIP. Train the same model with and without it,
# look at both on one page, and find out whether the difference is more than chance.

# %% tags=["parameters"] quick={"small": "runlocal", "steps": 4, "study": "seeds=2,steps=4,small"}
small = ""
steps = 150  # of the two runs
study = "seeds=3,steps=40"

# %% [markdown]
# ## What the plug-in changes
#
# Both configs have the same towers, data, rate and start.

# %%
# !clipin config quickstart:clipin,{small} --diff quickstart:{small}

# %% [markdown]
# ## Two runs

# %%
import clipin_jax

recipes = {"clip": f"quickstart:{small}", "clipin": f"quickstart:clipin,{small}"}
every = max(steps // 4, 1)
changes = [f"total_steps={steps}", f"evals.retrieval.every_steps={every}"]
runs = {
    name: clipin_jax.train(clipin_jax.load_config(recipe, changes), f"runs/{name}")
    for name, recipe in recipes.items()
}

# %% [markdown]
# ## One page
#
# The page has scores, curves, retrieved pictures and both configs. A cell that ends with `page`
# shows it; here is a part of it.

# %%
page = runs["clip"].report(runs["clipin"], output="runs/compare.html")
runs["clip"].plot("train/loss", "retrieval/mean_recall", beside=[runs["clipin"]])

# %% [markdown]
# ## More than chance?
#
# One seed shows nothing. A study trains each method with several seeds, compares them seed by
# seed, and gives the 95 % interval of the difference. The seeds share the compiled programs.
#
# This one is small, to take a minute or two: three seeds of 40 steps rarely decide. "Undecided"
# means that the interval holds zero, not that the methods are equal. More seeds and longer runs
# make it narrower.

# %%
# %%writefile my_study.py
from clipin_jax.config import parse_options


def get_study(arg=None):
    options = parse_options(arg, seeds=3, steps=100, small=False)
    size = "runlocal" if options.small else ""
    methods = {
        "CLIP": dict(config=f"quickstart:{size}"),
        "CLIPin": dict(config=f"quickstart:clipin,{size}"),
    }
    metrics = {"retrieval/mean_recall": "mean recall"}
    keys = dict(methods=methods, baseline="CLIP", metrics=metrics)
    keys |= dict(seeds=range(options.seeds), changes=dict(total_steps=options.steps))
    return keys | dict(title="CLIPin", question="Does it help here?")


# %%
# !clipin study my_study.py:{study} --workdir runs/study

# %%
clipin_jax.open_study("runs/study")

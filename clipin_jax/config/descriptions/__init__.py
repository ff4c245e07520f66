"""What each key of a config means, in one or two sentences.

Keys that recipes and the run read themselves stand in a table. Keys that are arguments
of a class have the words of its docstring. Imports `config` alone; classes are imported
when they are asked for.
"""

from clipin_jax.config.descriptions.class_docs import describe_arguments, summary
from clipin_jax.config.descriptions.keys import describe_key
from clipin_jax.config.descriptions.recipe_keys import RECIPE_KEYS, describe_recipe_key

__all__ = [
    "RECIPE_KEYS",
    "describe_arguments",
    "describe_key",
    "describe_recipe_key",
    "summary",
]

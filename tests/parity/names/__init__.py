"""Name tables: from arrays under the names of published code to our parameter trees.

Each has `to_tree(arrays)`, which only moves entries about: it transposes, reshapes,
splits and joins arrays.
"""

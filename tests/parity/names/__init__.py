"""Name tables: they convert arrays of published code to our parameter trees.

Each has `to_tree(arrays)`, which only moves entries: it transposes, reshapes, splits
and joins arrays.
"""

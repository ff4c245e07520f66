"""A package as anybody may write it: an objective, a source and an evaluator."""

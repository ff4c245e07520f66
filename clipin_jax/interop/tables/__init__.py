"""A table of names for each family of published models."""

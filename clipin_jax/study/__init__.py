"""Studies: a grid of configs with several seeds, run, compared, written as a page."""

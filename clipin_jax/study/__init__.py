"""Studies: a grid of configs and seeds is trained, compared and written as a page.

Imports `config`, `core`, `data`, `runs`, `report` and `training`.
"""

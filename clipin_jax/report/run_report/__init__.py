"""The report of runs: its page, its sections, and the example images it shows.

Imports the shared parts of `report`, besides `data` for the example images.
"""

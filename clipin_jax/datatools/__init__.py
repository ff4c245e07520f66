"""Before a run: look at its data (`check`), time it (`bench`), convert it (`convert`).

Each of these modules is one command of `clipin data`.
"""

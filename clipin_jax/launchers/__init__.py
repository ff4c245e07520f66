"""Jobs for schedulers: rendered from templates, submitted, watched and stopped.

`engine` says what every engine can do, `engines` lists them; the fields of their
classes are the keys of a site file (launch/site.toml). Templates are in the folder
`launch` of the repository, which is installed as `clipin_jax.launch`.

Imports nothing of jax. Above: `commands`, and what starts workers.
"""

from clipin_jax.launchers.engines import ENGINES
from clipin_jax.launchers.job import Job
from clipin_jax.launchers.record import Launch, read_launch
from clipin_jax.launchers.site import make_engine
from clipin_jax.launchers.submission import render, submit

__all__ = [
    "ENGINES", "Job", "Launch", "make_engine", "read_launch", "render", "submit",
]  # fmt: skip

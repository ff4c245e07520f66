"""Files by path or URL: local ones, and those of stores (`gs://`, `s3://`, ...).

The library of a store comes with `clipin_jax[remote]`. Imports nothing but `errors`.
"""

from clipin_jax.storage.files import (
    create,
    exists,
    make_folder,
    read,
    read_range,
    remove,
    size,
    write,
    write_output,
)
from clipin_jax.storage.paths import (
    absolute,
    full_path,
    is_remote,
    join,
    local_path,
    parent,
)
from clipin_jax.storage.patterns import expand, is_pattern
from clipin_jax.storage.store import Store

__all__ = [
    "Store", "absolute", "create", "exists", "expand", "full_path", "is_pattern",
    "is_remote", "join", "local_path", "make_folder", "parent", "read", "read_range",
    "remove", "size", "write", "write_output",
]  # fmt: skip

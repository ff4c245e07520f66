"""Tars of samples, sound and damaged."""

import io
import tarfile

from clipin_jax.data import make_source
from clipin_jax.data.source import BadRecord


def tar_of(*members, form=tarfile.PAX_FORMAT):
    """A tar of (name, content) pairs, or of headers that are there already."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def pair(key, text="text"):
    return (f"{key}.jpg", f"image {key}".encode()), (f"{key}.txt", text.encode())


def open_tars(files, **cfg):
    return make_source(name="webdataset", files=files, **cfg)


def bad(source):
    """Index -> reason of each bad record, by both ways to read one."""
    reasons = {}
    for index in range(len(source)):
        for read in (source.__getitem__, source.annotations):
            try:
                read(index)
                assert index not in reasons
            except BadRecord as error:
                assert reasons.setdefault(index, str(error)) == str(error)
    return reasons

"""From tars to batches: every pair once an epoch, every bad record counted."""

import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import ClipinError
from tests.data.image.test_views import packed, smooth_image
from tests.data.test_pipeline import config
from tests.support.tars import special, tar_of


def grey(level):
    return packed(Image.new("L", (3, 2), level), "PNG")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shards=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    hosts=st.sampled_from([1, 2, 3, 4, 8]),
    rows=st.integers(1, 3),
    block=st.sampled_from([0, 1, 4]),
    shuffle=st.booleans(),
)
def test_no_pair_is_lost_or_seen_twice_in_an_epoch(
    tmp_path_factory, shards, hosts, rows, block, shuffle
):
    """For any sizes of shards, some of them empty, of hosts and of batches."""
    total, batch = sum(shards), min(hosts * rows, sum(shards) // hosts * hosts)
    if not batch:
        return  # fewer pairs than hosts: refused, see below
    folder, level = tmp_path_factory.mktemp("tars"), 0
    for number, count in enumerate(shards):
        members = []
        for _ in range(count):
            members += [(f"{level:03}.png", grey(level)), (f"{level:03}.txt", b"x")]
            level += 1
        (folder / f"{number}.tar").write_bytes(tar_of(*members))
    seen = []
    shares = [
        TrainBatches(
            tars(folder, shuffle=shuffle, shuffle_block=block, threads=0, views=1),
            seed=0,
            batch_size=batch,
            process_index=host,
            process_count=hosts,
        )
        for host in range(hosts)
    ]
    while len(seen) < 2 * total:
        rows_of = [next(share)["index"] for share in shares]
        seen += np.stack(rows_of, axis=1).ravel().tolist()  # in the order of the run
    assert sorted(seen[:total]) == list(range(total))
    assert sorted(seen[total : 2 * total]) == list(range(total))


def tars(folder, **changes):
    source = dict(name="webdataset", files=str(folder / "*.tar"))
    return config(source=source, image_size=(4, 4), **changes)


def test_fewer_pairs_than_a_batch(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(("1.png", grey(9)), ("1.txt", b"x")))
    with pytest.raises(ClipinError, match="batch_size is 8, but .* only 1 records"):
        TrainBatches(tars(tmp_path), seed=0, batch_size=8, process_count=8)


def animated():
    frames = [Image.new("L", (8, 8), level) for level in (10, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return packed(Image.fromarray(smooth_image()), "JPEG", exif=exif)


JPEG = packed(Image.fromarray(smooth_image()), "JPEG")
READ = {
    "plain": JPEG,
    "cmyk": packed(Image.new("CMYK", (8, 8)), "JPEG"),
    "palette": packed(Image.fromarray(smooth_image()).quantize(8), "PNG"),
    "alpha": packed(Image.new("RGBA", (8, 8), (9, 9, 9, 9)), "PNG"),
    "sixteen": packed(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG"),
    "turned": turned(),
    "animated": animated(),
    "tiny": packed(Image.new("RGB", (1, 1)), "PNG"),
    "wide": packed(Image.new("L", (20_000, 2)), "JPEG"),
    "webp": packed(Image.fromarray(smooth_image()), "WEBP"),
}
BAD_IMAGES = {
    "truncated": (JPEG[: len(JPEG) // 2], "runcated"),
    "text": (b"not an image at all", "cannot identify"),
    "nothing": (b"", "zero bytes|empty"),
    "bomb": (packed(Image.new("1", (9_000, 9_000)), "PNG"), "9000 x 9000 pixels"),
}
BAD_CAPTIONS = {
    "silent": (b"  \n", "no caption"),
    "latin": ("grün".encode("latin-1"), "UTF-8"),
    "missing": (None, "no caption|txt"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_bad_record_is_counted_with_its_reason(tmp_path):
    members, reasons = (
        [("../out.jpg", JPEG), ("../out.txt", b"a name that leads out")],
        {},
    )
    for key, content in READ.items():
        members += [(f"read/{key}.png", content), (f"read/{key}.txt", b"fine")]
    for key, (content, reason) in BAD_IMAGES.items():
        members += [(f"bad/{key}.jpg", content), (f"bad/{key}.txt", b"fine")]
        reasons[f"bad/{key}"] = reason
    for key, (text, reason) in BAD_CAPTIONS.items():
        members += [(f"bad/{key}.jpg", JPEG)]
        members += [(f"bad/{key}.txt", text)] if text is not None else []
        reasons[f"bad/{key}"] = reason
    members += [special("bad/link.jpg", tarfile.SYMTYPE, "/etc/passwd")]
    members += [("bad/link.txt", b"fine")]
    reasons["bad/link"] = "link"
    members += [("read/plain.png", JPEG), ("read/plain.txt", b"once more")]
    reasons["read/plain"] = "twice"
    (tmp_path / "a.tar").write_bytes(tar_of(*members))
    total, log = 1 + len(READ) + len(reasons), tmp_path / "bad_records.jsonl"
    data = tars(tmp_path, shuffle=False, max_bad_fraction=1.0)
    batches = TrainBatches(data, seed=0, batch_size=total, bad_records=log)
    assert len(batches.source) == total
    used = next(batches)["index"].tolist()
    batches.close()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    actual = {entry["where"].split(" in ")[0]: entry["reason"] for entry in entries}
    assert actual.keys() == reasons.keys()
    for key, reason in reasons.items():
        assert any(word in actual[key] for word in reason.split("|")), actual[key]
    assert used[: 1 + len(READ)] == list(range(1 + len(READ)))
    assert set(used[1 + len(READ) :]) <= set(range(1 + len(READ)))

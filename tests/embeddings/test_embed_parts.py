"""`clipin embed` on several machines."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from clipin_jax.commands.main import main
from clipin_jax.embeddings import files, parts
from clipin_jax.embeddings.embed import embed_source
from clipin_jax.embeddings.files import read_embeddings
from clipin_jax.errors import ClipinError
from clipin_jax.inference import model as model_module
from clipin_jax.parts.part import Part
from clipin_jax.parts.run import How
from tests.support.pixel_model import pixel_model

COUNT = 21
SOURCE = dict(name="scenes", length=COUNT, size=16)


def how(index, count):
    return How(part=Part(index, count), argv=("embed", "run", "--part", "1/4"))


MERGE = How(merge=True, argv=("embed", "run", "--merge"))


@pytest.mark.parametrize("ending", ["npy", "parquet"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_shares_in_any_order_are_the_file_of_one_process(
    tmp_path, monkeypatch, ending, count
):
    monkeypatch.setattr(files, "_GROUP", 10)
    model = pixel_model(batch_size=4)
    whole, path = tmp_path / f"whole.{ending}", tmp_path / f"all.{ending}"
    total = embed_source(model, SOURCE, whole, what="both")
    made = 0
    for index in reversed(range(1, count + 1)):
        for _ in range(2):  # the second call has nothing to do
            made += embed_source(
                model, SOURCE, path, what="both", how=how(index, count)
            )
    assert made == total > COUNT
    assert embed_source(model, SOURCE, path, what="both", how=MERGE) == 0
    assert path.read_bytes() == whole.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{name}.{end}"
        for name in ("whole", "all")
        for end in ([ending, "ids.parquet"] if ending == "npy" else [ending])
    }
    assert read_embeddings(path).facts == read_embeddings(whole).facts


def test_missing_shares_are_named_with_their_command(tmp_path):
    model, path = pixel_model(batch_size=4), tmp_path / "a.npy"
    with pytest.raises(ClipinError, match="has no parts of several machines"):
        embed_source(model, SOURCE, path, how=MERGE)
    for index in (1, 3):
        embed_source(model, SOURCE, path, how=how(index, 3))
    message = r"record 8 of 21 is not embedded .*: run clipin embed run --part 2/3"
    with pytest.raises(ClipinError, match=message):
        embed_source(model, SOURCE, path, how=MERGE)
    assert not path.exists()
    # One process makes what is left.
    assert embed_source(model, SOURCE, path) == 8
    assert np.load(path).shape[0] == COUNT


def test_other_shares_are_refused(tmp_path):
    model, path = pixel_model(batch_size=4), tmp_path / "a.npy"
    embed_source(model, SOURCE, path, how=how(2, 3))
    with pytest.raises(ClipinError, match="begun in 3 parts with --batch-size 4, no"):
        embed_source(model, SOURCE, path, how=how(2, 4))
    with pytest.raises(ClipinError, match="--part I/3 --batch-size 4, or remove it"):
        embed_source(pixel_model(batch_size=5), SOURCE, path, how=how(1, 3))
    with pytest.raises(ClipinError, match="parts of another source"):
        embed_source(model, SOURCE | dict(seed=1), path, how=how(1, 3))
    with parts.own_parts(path, " 1 of 3"):
        with pytest.raises(ClipinError, match=r"another process writes .* 1 of 3"):
            embed_source(model, SOURCE, path, how=how(1, 3))
        embed_source(model, SOURCE, path, how=how(3, 3))


def test_a_damaged_share_is_named(tmp_path):
    model, path = pixel_model(batch_size=4), tmp_path / "a.npy"
    for index in (1, 2):
        embed_source(model, SOURCE, path, how=how(index, 2))
    damaged = tmp_path / "a.npy.parts" / "000000000000-000000000012.parquet"
    data = bytearray(damaged.read_bytes())
    vectors = pq.read_metadata(damaged).row_group(0).column(4)
    first = vectors.dictionary_page_offset or vectors.data_page_offset
    data[first + vectors.total_compressed_size - 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(ClipinError, match=f"{damaged.name} is damaged .*: remove it"):
        embed_source(model, SOURCE, path, how=MERGE)
    damaged.unlink()
    embed_source(model, SOURCE, path, how=how(1, 2))
    assert embed_source(model, SOURCE, path, how=MERGE) == 0


def test_a_file_that_one_process_began_is_not_shared(tmp_path, monkeypatch):
    model, path = pixel_model(batch_size=4), tmp_path / "a.npy"
    add = parts.Parts.add

    def add_one(self, end, table):
        if end > 4:
            raise KeyboardInterrupt
        add(self, end, table)

    with monkeypatch.context() as patch:
        patch.setattr(parts.Parts, "add", add_one)
        with pytest.raises(KeyboardInterrupt):
            embed_source(model, SOURCE, path, part_seconds=0)
    with pytest.raises(ClipinError, match="begun by one process: go on without --part"):
        embed_source(model, SOURCE, path, how=how(1, 3))


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(model_module, "load", lambda *_, **__: pixel_model(4))
    run = ["embed", "run", str(SOURCE), "--output", str(tmp_path / "a.npy")]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    for name, value in dict(MIN="0", MAX="1", COUNT="2", STEP="1").items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert main([*run, "--part", "auto"]) == 0
    assert "part 2/2 of " in capsys.readouterr().out
    assert main([*run, "--merge"]) == 78
    assert "--part 1/2" in capsys.readouterr().err
    assert main([*run, "--part", "1/2"]) == 0
    assert "--merge" in capsys.readouterr().out
    assert main([*run, "--merge"]) == 0
    assert np.load(tmp_path / "a.npy").shape[0] == COUNT
    assert main([*run, "--part", "5/4"]) == 78
    assert "counted from 1 to 4" in capsys.readouterr().err

"""`clipin embed --on dask`: the file of one process."""

import jax
import numpy as np
import pytest

from clipin_jax.commands.main import main
from clipin_jax.data.sources.scenes import Scenes
from clipin_jax.embeddings import embed, parts, shares
from clipin_jax.embeddings.embed import embed_source
from clipin_jax.errors import ClipinError
from clipin_jax.parts.part import Part
from clipin_jax.parts.run import How
from tests.support.pixel_model import pixel_model

COUNT = 21
SOURCE = dict(name="scenes", length=COUNT, size=16)

# Dask and tornado leave sockets to the garbage collector when they end.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers in threads of this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=":0",
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def on_dask(address, monkeypatch):
    """How to embed on workers, which take two batches at a time."""
    embed._load.cache_clear()
    monkeypatch.setattr(embed, "load", lambda *_, batch_size: pixel_model(batch_size))
    monkeypatch.setattr(shares, "_LEAST_BATCHES", 2)
    yield How(on=f"dask:{address}", argv=("embed", "run"))
    embed._load.cache_clear()


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_workers_make_the_file_of_one_process(tmp_path, on_dask, ending):
    whole, path = tmp_path / f"whole.{ending}", tmp_path / f"all.{ending}"
    model = pixel_model(batch_size=4)
    total = embed_source(model, SOURCE, whole, what="both")
    assert embed_source(model, SOURCE, path, what="both", how=on_dask) == total > COUNT
    assert path.read_bytes() == whole.read_bytes()
    assert not (tmp_path / f"all.{ending}.parts").exists()
    assert embed_source(model, SOURCE, path, what="both", how=on_dask) == 0


def test_finished_shares_are_not_made_again(tmp_path, on_dask):
    model, path = pixel_model(batch_size=4), tmp_path / "a.npy"
    part = How(part=Part(2, 3), argv=on_dask.argv)
    assert embed_source(model, SOURCE, path, how=part) == 8
    assert embed_source(model, SOURCE, path, how=on_dask) == COUNT - 8
    assert np.load(path).shape[0] == COUNT


def test_what_a_worker_cannot_do_is_said_and_resumed(tmp_path, on_dask, monkeypatch):
    model, path = pixel_model(batch_size=4), tmp_path / "a.npy"
    with monkeypatch.context() as patch:
        patch.setattr(Scenes, "__getitem__", _fail_at_9(Scenes.__getitem__))
        with pytest.raises(ClipinError, match="record 9"):
            embed_source(model, SOURCE, path, how=on_dask)
    with parts.own_parts(path, " 2 of 3"):
        with pytest.raises(ClipinError, match=r"another process writes .* 2 of 3"):
            embed_source(model, SOURCE, path, how=on_dask)
    assert 0 < embed_source(model, SOURCE, path, how=on_dask) < COUNT
    assert np.load(path).shape[0] == COUNT


def _fail_at_9(read):
    def fail(self, index):
        if index == 9:
            raise ClipinError("record 9 is damaged")
        return read(self, index)

    return fail


def test_processes_of_one_machine_do_not_share_its_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ClipinError, match="cannot share its GPU: run it without --on"):
        embed_source(
            pixel_model(batch_size=4), SOURCE, tmp_path / "a.npy", how=How(on="dask")
        )


def test_the_command(tmp_path, capsys, on_dask, monkeypatch):
    monkeypatch.setattr(
        "clipin_jax.inference.model.load", lambda *_, **__: pixel_model(4)
    )
    run = ["embed", "run", str(SOURCE), "--output", str(tmp_path / "a.npy")]
    assert main([*run, "--on", "ray"]) == 78
    assert "--on is 'ray': give dask" in capsys.readouterr().err
    assert main([*run, "--on", on_dask.on]) == 0
    assert f"{COUNT} embeddings computed" in capsys.readouterr().out


@pytest.mark.parametrize(("total", "count"), [(1, 1), (64, 1), (320, 5), (10**9, 512)])
def test_shares_have_several_batches_and_all_records(total, count):
    chosen = shares.choose_shares(total, batch_size=8)
    assert chosen.count == count
    ranges = [chosen.records(part) for part in chosen.parts()]
    assert [r.start for r in ranges[1:]] == [r.stop for r in ranges[:-1]]
    assert (ranges[0].start, ranges[-1].stop) == (0, total)
    assert [chosen.part_of(r.start) for r in ranges] == list(chosen.parts())

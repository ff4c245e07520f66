"""`clipin data convert` in parts: the manifest and bytes of one process."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from clipin_jax.commands.main import main
from clipin_jax.datatools.conversion.convert import convert
from clipin_jax.datatools.conversion.job import conversion_work
from clipin_jax.datatools.conversion.record_writers import FORMATS
from clipin_jax.datatools.conversion.shards import ShardWriter
from clipin_jax.errors import ClipinError
from clipin_jax.parts.part import Part
from clipin_jax.parts.run import How
from tests.support.pair_folders import encoded_image, pair_config, pair_folder

COUNT = 23
CAPTIONS = [[f"caption {n}", f"another {n}"] for n in range(COUNT)]
BAD = (2, 9, 10)
MERGE = How(merge=True, argv=("data", "convert", "c", "out", "--merge"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config with 23 records, three of them bad; four in each file make six files."""
    images = [encoded_image(n) for n in range(COUNT)]
    for n in BAD:
        images[n] = b"not an image"
    folder = pair_folder(tmp_path_factory.mktemp("pairs") / "pairs", CAPTIONS, images)
    return pair_config(folder, "data.max_bad_fraction=0.2")


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The files of one process, by format."""
    folder = tmp_path_factory.mktemp("whole")
    for to in FORMATS:
        run(config, folder / to, to=to)
    return {to: content(folder / to) for to in FORMATS}


def run(config, out, how=How(), **arguments):
    lines: list[str] = []
    arguments = dict(to="webdataset", records_per_file=4) | arguments
    assert convert(config, out, how=how, **arguments, print_line=lines.append) == 0
    return "\n".join(lines)


def part(index, count):
    return How(part=Part(index, count), argv=("data", "convert", "c", "--part=1/2"))


def content(folder):
    """Returns the bytes of all files, of hidden ones too.

    Those of the index that is made where a tar is read have its date.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".index.npz")
    }


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("count", [1, 4, 9])
def test_parts_in_any_order_are_those_of_one_process(
    config, whole, tmp_path, to, count
):
    out = tmp_path / "out"
    for index in reversed(range(1, count + 1)):
        run(config, out, part(index, count), to=to)
    assert not (out / "manifest.json").exists()
    assert "20 records written and read again, 3 left out" in run(
        config, out, MERGE, to=to
    )
    assert content(out) == whole[to]
    run(config, out, MERGE, to=to)  # again: it only verifies
    assert content(out) == whole[to]


def test_a_part_says_what_it_does_and_what_comes_next(config, tmp_path):
    out = tmp_path / "out"
    first = run(config, out, part(2, 4))
    assert "part 2/4: files 2 to 3 of 6" in first and first.count(" MB") == 2
    assert first.endswith("when all parts are: clipin data convert c --merge")
    again = run(config, out, part(2, 4))
    assert "0 files made now, 2 before" in again and " MB" not in again
    assert "has nothing to do: there are only 6 files" in run(
        config, tmp_path / "other", part(1, 9)
    )


def test_two_workers_at_once_do_no_harm(config, whole, tmp_path, monkeypatch):
    out, barrier = tmp_path / "out", threading.Barrier(2)
    write = ShardWriter.write

    def together(self, number, draft):
        barrier.wait(20)  # both write every file at the same time
        return write(self, number, draft)

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(ShardWriter, "write", together)
        for done in [pool.submit(run, config, out, part(1, 1)) for _ in range(2)]:
            done.result()
    run(config, out, MERGE)
    assert content(out) == whole["webdataset"]


def test_a_part_that_died_at_any_point_goes_on(config, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write = ShardWriter.write

    class Killed(BaseException):
        pass

    def die(self, number, draft):
        result = write(self, number, draft)
        if number == 3:
            shutil.copytree(draft.parent, out / ".parts" / "draft-left")
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", die)
        with pytest.raises(Killed):
            run(config, out, part(1, 1))
    # It also died between the file and its receipt.
    (out / ".parts" / "train-00002-of-00006.tar.json").unlink()
    assert "4 files made now, 2 before" in run(config, out, part(1, 1))
    run(config, out, MERGE)
    assert content(out) == whole["webdataset"]


def test_one_process_makes_what_is_left_of_parts(config, whole, tmp_path):
    run(config, tmp_path / "out", part(2, 3))
    assert run(config, tmp_path / "out").count(" MB") == 4
    assert content(tmp_path / "out") == whole["webdataset"]


def test_missing_parts_are_named_with_their_command(config, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(
        ClipinError, match="has no parts: make them first, as by clipin"
    ):
        run(config, out, MERGE)
    assert not out.exists()
    for index in (1, 4):
        run(config, out, part(index, 4))
    message = (
        r"3 of 6 files are missing in .*out, of the parts 2/4, 3/4: run clipin data "
        r"convert c out --part 2/4, and so on for 2 parts"
    )
    with pytest.raises(ClipinError, match=message):
        run(config, out, MERGE)


def test_a_damaged_file_is_named_and_made_again(config, whole, tmp_path):
    out = tmp_path / "out"
    for index in (1, 2):
        run(config, out, part(index, 2))
    path = out / "train-00004-of-00006.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    message = r"1 files are not as .* train-00004-of-00006.tar: remove .* --part 2/2"
    with pytest.raises(ClipinError, match=message):
        run(config, out, MERGE)
    path.unlink()
    with pytest.raises(ClipinError, match="00004.*remove them .* --part 2/2"):
        run(config, out, MERGE)
    run(config, out, part(2, 2))
    run(config, out, MERGE)
    assert content(out) == whole["webdataset"]


def test_a_damaged_file_of_a_finished_conversion_is_found(config, tmp_path):
    run(config, tmp_path / "out")
    path = tmp_path / "out" / "train-00004-of-00006.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ClipinError, match="not as they were written, train-00004"):
        run(config, tmp_path / "out", MERGE)


def test_parts_of_something_else_are_refused(config, tmp_path):
    out = tmp_path / "out"
    run(config, out, part(1, 4))
    with pytest.raises(ClipinError, match="begun in 4 parts, not 5: give --part I/4"):
        run(config, out, part(2, 5))
    with pytest.raises(ClipinError, match="another records_per_file: 4, now 5"):
        run(config, out, part(2, 4), records_per_file=5)
    with pytest.raises(ClipinError, match="another records_per_file: 4, now 5"):
        run(config, out, MERGE, records_per_file=5)
    with pytest.raises(ClipinError, match="another to: 'webdataset', now"):
        run(config, out, part(2, 4), to="array_record")
    other = pair_config(pair_folder(tmp_path / "others", CAPTIONS[:20]))
    with pytest.raises(ClipinError, match="another fingerprint"):
        run(other, out, part(2, 4))
    with pytest.raises(ClipinError, match="would remove the files of other parts"):
        run(config, out, part(2, 4), overwrite=True)


def test_receipts_and_files_that_came_from_elsewhere_are_refused(config, tmp_path):
    out = tmp_path / "out"
    run(config, out, part(1, 1))
    stranger = out / "train-00000-of-00009.tar"
    stranger.write_bytes(b"")
    with pytest.raises(ClipinError, match="do not belong .* train-00000-of-00009.tar"):
        run(config, out, MERGE)
    stranger.unlink()
    receipt = out / ".parts" / "train-00002-of-00006.tar.json"
    receipt.write_text(json.dumps(json.loads(receipt.read_text()) | {"job": "other"}))
    for how in (MERGE, part(1, 1)):
        with pytest.raises(ClipinError, match="00002.* is of another data set"):
            run(config, out, how)
    receipt.write_text("{")
    with pytest.raises(ClipinError, match="1 of 6 files are missing"):
        run(config, out, MERGE)


def test_a_full_folder_is_left_as_it_is(config, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ClipinError, match="not empty and has no manifest.json"):
        run(config, tmp_path, part(1, 2))
    assert content(tmp_path) == {"letter.txt": b"dear"}


def test_bad_records_are_judged_over_all_parts(config, tmp_path):
    # Three of 23 are bad, all of them in the first half: 3 / 12 there.
    out = tmp_path / "out"
    for index in (1, 2):
        run(config, out, part(index, 2))
    run(config, out, MERGE)
    strict = pair_config(config.data.source.folder, "data.max_bad_fraction=0.1")
    with pytest.raises(ClipinError, match="3 of 23 records cannot be used"):
        run(strict, tmp_path / "strict", part(1, 2))
    run(strict, tmp_path / "strict", part(2, 2))
    files = {path.name for path in (tmp_path / "strict").glob("*.tar")}
    assert "train-00001-of-00006.tar" in files
    run(config, tmp_path / "strict", part(1, 2))
    with pytest.raises(ClipinError, match="more than data.max_bad_fraction 0.1"):
        run(strict, tmp_path / "strict", MERGE)


def test_any_process_can_make_a_shard(config, whole, tmp_path):
    work = conversion_work(config, tmp_path / "o", to="webdataset", records_per_file=4)
    with pytest.raises(ClipinError, match="was not begun on .* all machines share"):
        work.make(0)
    assert work.begin() == 6
    entries = [work.make(number) for number in (3, 0, 5, 1, 2, 4, 4)]
    assert [len(entry["bad"]) for entry in entries] == [0, 1, 0, 0, 2, 0, 0]
    run(config, tmp_path / "o", MERGE)
    assert content(tmp_path / "o") == whole["webdataset"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--part", "5/4"], "counted from 1 to 4"),
        (["--part", "0/0"], "at least 1 part"),
        (["--part", "auto"], "SLURM_ARRAY_TASK_ID"),
        (["--on", "spark"], "--on is 'spark': give dask"),
        (["--on", "dask:somewhere"], "dask:tcp://HOST:8786"),
        (["--workers", "2"], "--workers is for --on dask"),
        (["--on", "dask", "--workers", "0"], "must be at least 1"),
        (["--merge"], "has no parts: make them first, as by clipin data convert"),
        (["--merge", "--overwrite"], "would remove the files of other parts"),
    ],
)
def test_wrong_commands_are_one_line(config, tmp_path, capsys, options, message):
    folder = config.data.source.folder
    argv = ["data", "convert", f"clip:data={folder}", str(tmp_path / "out"), *options]
    assert main(argv) == 78
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("clipin: error: ") and message in line


def test_options_that_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        main(["data", "convert", "clip", "out", "--part", "1/2", "--merge"])
    assert "not allowed with" in capsys.readouterr().err

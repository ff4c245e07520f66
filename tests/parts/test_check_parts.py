"""`clipin data check` in parts: the figures of one process."""

import json

import pytest

from clipin_jax.commands.main import main
from clipin_jax.datatools import scan_job
from clipin_jax.datatools.check import check
from clipin_jax.errors import ClipinError
from clipin_jax.parts.part import Part
from clipin_jax.parts.run import How
from tests.support.pair_folders import encoded_image, pair_config, pair_folder

COUNT = 37
MERGE = How(merge=True, argv=("data", "check", "c", "--merge"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Images, captions and bad records that occur again in other parts."""
    captions = [
        [f"caption {n % 11}", f"another {n}"][: 1 + n % 2] for n in range(COUNT)
    ]
    images = [encoded_image(n % 20, (50 + n, 40)) for n in range(COUNT)]
    images[30] = images[3]
    images[7] = images[20] = b"not an image"
    images[33] = images[33][:300]
    folder = tmp_path_factory.mktemp("check") / "pairs"
    return pair_config(
        pair_folder(folder, captions, images, classes=3),
        "data.source.labels=category", "data.max_bad_fraction=0.2",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(scan_job, "_LEAST", 5)


def figures(config, tmp_path, **arguments):
    """Returns the figures but the speed, and what was printed."""
    lines: list[str] = []
    file = tmp_path / "figures.json"
    code = check(config, json_file=file, print_line=lines.append, **arguments)
    assert code == 0
    content = json.loads(file.read_text()) if file.exists() else {}
    return {k: v for k, v in content.items() if k != "speed"}, "\n".join(lines)


def part(index, count):
    return How(part=Part(index, count), argv=("data", "check", "c", "--part", "1/2"))


@pytest.mark.parametrize("records", [0, 13])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_merged_figures_are_those_of_one_process(config, tmp_path, records, count):
    whole, _ = figures(config, tmp_path, records=records)
    (tmp_path / "figures.json").unlink()
    for index in reversed(range(1, count + 1)):
        _, printed = figures(
            config, tmp_path, records=records, folder=tmp_path / "f",
            how=part(index, count),
        )  # fmt: skip
        assert f"part {index}/{count} is done" in printed
    assert not (tmp_path / "figures.json").exists()
    merged, printed = figures(
        config, tmp_path, records=records, folder=tmp_path / "f", how=MERGE,
        output=tmp_path / "page.html",
    )  # fmt: skip
    assert json.dumps(merged) == json.dumps(whole)
    if not records:
        assert merged["images"]["duplicates"] > 0
        assert merged["captions"]["duplicates"] > 0.2
        assert merged["unusable"]["count"] == 3
        reasons = list(merged["unusable"]["reasons"].values())
        assert reasons == sorted(reasons, reverse=True) and sum(reasons) == 3
    assert "records" in printed and (tmp_path / "page.html").stat().st_size > 10_000


def test_a_check_with_a_folder_resumes(config, tmp_path, monkeypatch):
    make = scan_job.Scan.make

    def stop(self, number, draft):
        if number == 4:
            raise KeyboardInterrupt
        return make(self, number, draft)

    whole, _ = figures(config, tmp_path, records=0)
    lines: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(scan_job.Scan, "make", stop)
        code = check(config, records=0, folder=tmp_path / "f", print_line=lines.append)
    assert code == 75 and lines[-1] == "stopped: run the same command to resume"
    assert len(list((tmp_path / "f").glob("*.npz"))) == 4
    again, printed = figures(config, tmp_path, records=0, folder=tmp_path / "f")
    assert again == whole and printed.count(".npz") == 4


def test_what_does_not_belong_together_is_refused(config, tmp_path):
    folder = tmp_path / "f"
    figures(config, tmp_path, records=0, folder=folder, how=part(1, 3))
    for other, message in (
        (dict(records=13), "another records: 37, now 13; choose another --folder"),
        (dict(how=part(1, 4)), "begun in 3 parts, not 4"),
        (dict(how=MERGE), r"parts 2/3, 3/3: run clipin data check c --part 2/3"),
    ):
        arguments = dict(records=0, folder=folder, how=part(1, 3)) | other
        with pytest.raises(ClipinError, match=message):
            figures(config, tmp_path, **arguments)
    cleaned = config.copy_and_resolve_references()
    with cleaned.unlocked():
        cleaned.data.context_length = 20
    with pytest.raises(ClipinError, match="another settings"):
        figures(cleaned, tmp_path, records=0, folder=folder, how=part(1, 3))
    with pytest.raises(ClipinError, match="name it by --folder"):
        figures(config, tmp_path, how=part(1, 3))


def test_damaged_figures_are_named(config, tmp_path):
    folder = tmp_path / "f"
    figures(config, tmp_path, records=0, folder=folder, how=part(1, 1))
    path = folder / "scan-00002-of-00008.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ClipinError, match="not as they were written, scan-00002"):
        figures(config, tmp_path, records=0, folder=folder, how=MERGE)


def test_the_command(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("JOB_COMPLETIONS", "2")
    argv = ["data", "check", f"clip:data={config.data.source.folder},small", "evals={}"]
    argv += ["batch_size=4", "data.max_bad_fraction=0.2", "--records", "0"]
    argv += ["--folder", str(tmp_path / "f")]
    assert main([*argv, "--part", "auto"]) == 0
    assert "part 2/2 is done" in capsys.readouterr().out
    assert main([*argv, "--merge"]) == 78
    assert "of the parts 1/2: run clipin data check" in capsys.readouterr().err
    assert main([*argv, "--part", "1/2"]) == 0
    assert main([*argv, "--merge"]) == 0
    assert "37 from source 'coco', all scanned" in capsys.readouterr().out

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from clipin_jax.commands.main import main
from clipin_jax.config import load_config
from clipin_jax.data import make_source
from clipin_jax.datatools import check, record_scan
from clipin_jax.errors import ClipinError
from tests.support.pair_folders import encoded_image, pair_config, pair_folder

SENTENCES = [[f"caption {n} of its own", f"another {n}"] for n in range(12)]


def run_check(config, tmp_path, **arguments):
    """Returns exit code, statistics and what was printed."""
    lines = []
    file = tmp_path / "statistics.json"
    code = check.check(config, json_file=file, print_line=lines.append, **arguments)
    return code, json.loads(file.read_text()), "\n".join(lines)


def test_the_statistics_are_those_of_the_folder(tmp_path):
    sizes = [(60 + n, 50) for n in range(11)]
    images = [encoded_image(n, size) for n, size in enumerate(sizes)]
    images.append(encoded_image(11, (80, 90), "PNG"))
    captions = [*SENTENCES[:11], ["one", "two", "three"]]
    folder = pair_folder(tmp_path / "pairs", captions, images, classes=5)
    config = pair_config(folder, "data.source.labels=category")
    code, stats, printed = run_check(config, tmp_path)
    assert code == 0 and "nothing to fix" in printed
    assert stats["records"] == stats["scanned"] == 12
    assert stats["images"]["formats"] == pytest.approx({"JPEG": 11 / 12, "PNG": 1 / 12})
    assert stats["images"]["width"] == dict(min=60, median=66, p95=80, max=80)
    assert stats["images"]["height"] == dict(min=50, median=50, p95=90, max=90)
    assert stats["images"]["bytes"]["max"] == max(map(len, images))
    assert stats["captions"]["count"] == 25
    assert stats["captions"]["per_record"] == dict(min=2, median=2, p95=3, max=3)
    assert stats["captions"]["tokens"]["min"] == 3  # "one" and two marks
    assert stats["classes"] == {f"class {n}": 3 if n < 2 else 2 for n in range(5)}
    assert stats["fingerprint"] and stats["unusable"]["count"] == 0


def test_duplicates_are_counted_and_shown(tmp_path):
    captions = (
        [["a photo"]] * 6 + [["a cat", "a cat"]] + [[f"thing {n}"] for n in "xyz"]
    )
    images = [encoded_image(min(n, 7)) for n in range(10)]  # the last three are one
    folder = pair_folder(tmp_path / "pairs", captions, images)
    code, stats, printed = run_check(pair_config(folder), tmp_path)
    assert code == 0
    assert stats["images"]["duplicates"] == pytest.approx(2 / 10)
    assert stats["captions"]["duplicates"] == pytest.approx(6 / 11)
    assert stats["captions"]["most_frequent"] == [
        dict(caption="a photo", count=6),
        dict(caption="a cat", count=2),
    ]
    assert "objectives.contrastive.duplicates=mask" in printed
    assert "20.0% of the images are copies of another" in printed
    with_mask = pair_config(folder, "objectives.contrastive.duplicates=mask")
    assert "duplicates=mask" not in run_check(with_mask, tmp_path)[2]


def test_the_expected_share_of_equal_captions_matches_drawn_batches(tmp_path):
    captions = [["a"]] * 8 + [["b"]] * 3 + [[f"{n}"] for n in range(9)]
    folder = pair_folder(tmp_path / "pairs", captions)
    config = pair_config(folder, "batch_size=6")
    share = run_check(config, tmp_path)[1]["captions"]["same_in_batch"]
    rng, words = np.random.default_rng(0), np.array([texts[0] for texts in captions])
    drawn = []
    for _ in range(4000):
        batch = rng.permutation(words)[:6]
        drawn.append(np.mean([np.sum(batch == word) > 1 for word in batch]))
    assert share == pytest.approx(np.mean(drawn), abs=0.03)


def test_unusable_records_are_counted_with_their_reasons(tmp_path):
    images = [encoded_image(n) for n in range(12)]
    images[3] = images[3][: len(images[3]) // 2]
    images[7], images[8] = b"", b"not an image at all"
    folder = pair_folder(tmp_path / "pairs", SENTENCES, images)
    code, stats, printed = run_check(pair_config(folder), tmp_path)
    assert code == 78
    assert stats["unusable"]["count"] == sum(stats["unusable"]["reasons"].values()) == 3
    assert [one["index"] for one in stats["unusable"]["first"]] == [3, 7, 8]
    assert stats["unusable"]["first"][1]["where"].endswith("7.jpg")
    assert "empty" in stats["unusable"]["first"][1]["reason"]
    assert stats["captions"]["count"] == 18  # of usable records only
    assert "training would stop: 25.00% of the records cannot be used" in printed
    lenient = pair_config(folder, "data.max_bad_fraction=0.3")
    assert run_check(lenient, tmp_path)[0] == 0


def test_images_of_evaluations_are_read(tmp_path):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    bad = [encoded_image(n) for n in range(12)]
    bad[3], bad[9] = b"", b"not an image at all"
    other = pair_folder(tmp_path / "other", SENTENCES, bad)
    source = f"{{'name': 'coco', 'folder': '{other}', 'split': 'train'}}"
    entries = [
        f"evals.{name}={{'type': 'retrieval', 'source': {source}}}"
        for name in ("bad", "the_same")
    ]
    missing = "{'name': 'coco', 'folder': '/nowhere'}"
    entries.append(f"evals.gone={{'type': 'retrieval', 'source': {missing}}}")
    config = pair_config(folder, *entries)
    code, stats, printed = run_check(config, tmp_path)
    assert code == 78
    texts = [item["text"] for item in stats["advice"] if item["stops"]]
    assert len(texts) == 2  # equal sources are read once
    assert texts[0].startswith("evals.bad.source: 2 of 12 images cannot be read: ")
    assert "record 3, " in texts[0] and "3.jpg: the file is empty" in texts[0]
    assert texts[1].startswith("evals.gone.source: ") and "/nowhere" in texts[1]
    assert f"training would stop: {texts[0]}" in printed


def test_equal_faults_are_counted_together():
    for reasons in (
        ["truncated (12 bytes left)", "truncated (1,300 bytes left)"],
        ["no file '/a/b.jpg'", "no file '/c.jpg'"],
    ):
        assert len({record_scan.generalize_reason(reason) for reason in reasons}) == 1


def test_a_fault_in_a_source_is_reported_without_a_traceback(tmp_path, monkeypatch):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    read = make_source(**pair_config(folder).data.source).__class__.__getitem__

    def fail(self, index):
        if index == 5:
            raise KeyError("caption")
        return read(self, index)

    monkeypatch.setattr("clipin_jax.data.sources.coco.Coco.__getitem__", fail)
    code, stats, _ = run_check(pair_config(folder), tmp_path)
    assert code == 78
    assert stats["unusable"]["first"][0]["reason"] == "KeyError: 'caption'"


def test_a_sample_of_the_records_is_spread_evenly(tmp_path, monkeypatch):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    indices = []
    describe = record_scan.RecordReader.__call__

    def note(self, index):
        indices.append(index)
        return describe(self, index)

    monkeypatch.setattr(record_scan.RecordReader, "__call__", note)
    _, stats, printed = run_check(pair_config(folder), tmp_path, records=4)
    assert sorted(indices) == [0, 3, 6, 9] and stats["scanned"] == 4
    assert "12 from source 'coco', 4 scanned, spread evenly" in printed
    assert run_check(pair_config(folder), tmp_path, records=0)[1]["scanned"] == 12
    with pytest.raises(ClipinError, match="--records is -1"):
        run_check(pair_config(folder), tmp_path, records=-1)


def test_long_captions_are_cut_or_stop_the_training(tmp_path):
    captions = [["word " * 60], *SENTENCES[1:]]
    folder = pair_folder(tmp_path / "pairs", captions)
    code, stats, printed = run_check(pair_config(folder), tmp_path)
    assert code == 0
    assert stats["captions"]["tokens"]["max"] == 62
    assert stats["captions"]["cut"] == pytest.approx(1 / 23)
    folder = pair_folder(tmp_path / "more", captions[:4])
    code, stats, printed = run_check(pair_config(folder), tmp_path)
    assert "14.3% of the captions are longer than data.context_length 32" in printed
    strict = pair_config(folder, "data.long_captions=error")
    code, _, printed = run_check(strict, tmp_path)
    assert code == 78 and "data.long_captions is 'error'" in printed


def test_small_images_and_too_few_records_are_reported(tmp_path):
    images = [encoded_image(n, (40, 60)) for n in range(12)]
    folder = pair_folder(tmp_path / "pairs", SENTENCES, images)
    code, _, printed = run_check(pair_config(folder, "batch_size=16"), tmp_path)
    assert code == 78
    assert "100% of the images are smaller than the 48 x 48 pixels" in printed
    assert "training would stop: 12 records do not fill a batch of 16" in printed


def test_captions_without_a_weighted_kind_are_unusable_as_in_training(tmp_path):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    config = pair_config(folder, "data.caption_weights=(('human', 1.0),)")
    code, stats, printed = run_check(config, tmp_path)
    assert code == 78 and stats["unusable"]["count"] == 12 and stats["captions"] is None
    assert "none of the records can be used" in printed


def test_the_page_is_self_contained_and_escapes_captions(tmp_path):
    captions = [["<script>alert(1)</script> & more"]] * 5 + SENTENCES
    images = [encoded_image(n) for n in range(16)] + [b"not an image"]
    folder = pair_folder(tmp_path / "pairs", captions, images)
    page = tmp_path / "page.html"
    config = pair_config(folder, "data.max_bad_fraction=0.5")
    assert run_check(config, tmp_path, output=page)[0] == 0
    text = page.read_text()
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 3 * 12
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?://|<script|<link", text)
    assert "&lt;script&gt;alert(1)" in text
    for word in ("Unusable records", "Most frequent captions", "view 2", "<rect"):
        assert word in text


def test_a_page_without_any_usable_record(tmp_path):
    folder = pair_folder(tmp_path / "pairs", SENTENCES, [b"not an image"] * 12)
    page = tmp_path / "page.html"
    code, stats, _ = run_check(pair_config(folder), tmp_path, output=page)
    assert code == 78 and stats["images"] is None
    assert "no samples could be made" in page.read_text()


def test_sources_of_pixels_are_scanned_too(tmp_path):
    config = load_config("clip:runlocal", ("data.source.length=40",))
    code, stats, printed = run_check(config, tmp_path, output=tmp_path / "page.html")
    assert code == 0 and "all pixels" in printed
    assert stats["images"]["formats"] == {"pixels": 1.0}


def test_the_command_takes_options_and_overrides(tmp_path, capsys):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    argv = ["data", "check", f"clip:data={folder},small", "batch_size=4"]
    assert main(argv) == 78  # there is no "val" split to evaluate on
    argv.append("evals={}")
    assert main([*argv, "--records", "5", "data.views=2"]) == 0
    assert "5 scanned" in capsys.readouterr().out
    assert main([*argv, "batch_size=99"]) == 78
    assert main(["data", "check", f"clip:data={tmp_path / 'none'}"]) == 78
    assert capsys.readouterr().err.startswith("clipin: error: data folder")


def test_images_of_one_colour_are_counted(tmp_path):
    images = [encoded_image(n) for n in range(12)]
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 6, (40, 40, 3), dtype=np.uint8)
    for number, pixels in ((4, np.full_like(dark, 200)), (9, dark)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        images[number] = buffer.getvalue()
    folder = pair_folder(tmp_path / "pairs", SENTENCES, images)
    code, stats, printed = run_check(pair_config(folder), tmp_path)
    assert code == 0
    assert stats["images"]["one_colour"] == {"count": 2, "share": 2 / 12}
    assert "one colour  2 = 16.7% of images, nearly" in printed
    assert "16.7% of the images are nearly of one colour: look at some" in printed


def test_names_of_files_that_are_no_unicode(tmp_path, capsys):
    for name in ("cat", "dog\udce9"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            path = tmp_path / "data" / name / f"{number}.jpg"
            path.write_bytes(encoded_image(number))
    (tmp_path / "data" / "cat" / "gar\udce7on.jpg").write_bytes(b"")
    source = json.dumps(dict(name="image_folder", folder=str(tmp_path / "data")))
    page = tmp_path / "page.html"
    overrides = [f"data.source={source}", "evals={}", "batch_size=4"]
    command = ["data", "check", "clip:small", *overrides, "--output", str(page)]
    assert main(command) == 78
    assert "1 x the file is empty" in capsys.readouterr().out
    assert "gar\\udce7on.jpg" in page.read_text()

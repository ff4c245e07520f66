import json
import re

import numpy as np
import pytest

from clipin_jax.commands import main as cli
from clipin_jax.config import load_config
from clipin_jax.datatools import check, scan
from clipin_jax.errors import ClipinError
from tests.support.pair_folders import pair_config, pair_folder, picture

SENTENCES = [[f"caption {n} of its own", f"another {n}"] for n in range(12)]


def look(config, tmp_path, **arguments):
    """Exit code, figures and what was printed."""
    said = []
    file = tmp_path / "figures.json"
    code = check.check(config, json_file=file, say=said.append, **arguments)
    return code, json.loads(file.read_text()), "\n".join(said)


def test_the_figures_are_those_of_the_folder(tmp_path):
    sizes = [(60 + n, 50) for n in range(11)]
    pictures = [picture(n, size) for n, size in enumerate(sizes)]
    pictures.append(picture(11, (80, 90), "PNG"))
    captions = [*SENTENCES[:11], ["one", "two", "three"]]
    folder = pair_folder(tmp_path / "pairs", captions, pictures, classes=5)
    config = pair_config(folder, "data.source.labels=category")
    code, found, said = look(config, tmp_path)
    assert code == 0 and "fine: nothing to mend was found" in said
    assert found["records"] == found["looked_at"] == 12
    assert found["pictures"]["formats"] == pytest.approx(
        {"JPEG": 11 / 12, "PNG": 1 / 12}
    )
    assert found["pictures"]["width"] == dict(min=60, median=66, p95=80, max=80)
    assert found["pictures"]["height"] == dict(min=50, median=50, p95=90, max=90)
    assert found["pictures"]["bytes"]["max"] == max(map(len, pictures))
    assert found["captions"]["count"] == 25
    assert found["captions"]["per_record"] == dict(min=2, median=2, p95=3, max=3)
    assert found["captions"]["tokens"]["min"] == 3  # "one" and two marks
    assert found["classes"] == {f"class {n}": 3 if n < 2 else 2 for n in range(5)}
    assert found["fingerprint"] and found["bad"]["count"] == 0


def test_repeats_are_found_and_shown(tmp_path):
    captions = (
        [["a photo"]] * 6 + [["a cat", "a cat"]] + [[f"thing {n}"] for n in "xyz"]
    )
    pictures = [picture(min(n, 7)) for n in range(10)]  # the last three are one
    folder = pair_folder(tmp_path / "pairs", captions, pictures)
    code, found, said = look(pair_config(folder), tmp_path)
    assert code == 0
    assert found["pictures"]["duplicates"] == pytest.approx(2 / 10)
    assert found["captions"]["duplicates"] == pytest.approx(6 / 11)
    assert found["captions"]["most_frequent"] == [
        dict(caption="a photo", count=6),
        dict(caption="a cat", count=2),
    ]
    assert "objectives.contrastive.duplicates=mask" in said
    assert "20.0% of the pictures are copies of another" in said
    with_mask = pair_config(folder, "objectives.contrastive.duplicates=mask")
    assert "duplicates=mask" not in look(with_mask, tmp_path)[2]


def test_the_share_of_a_batch_with_equal_captions_is_what_is_drawn(tmp_path):
    captions = [["a"]] * 8 + [["b"]] * 3 + [[f"{n}"] for n in range(9)]
    folder = pair_folder(tmp_path / "pairs", captions)
    config = pair_config(folder, "batch_size=6")
    found = look(config, tmp_path)[1]["captions"]["same_in_batch"]
    rng, words = np.random.default_rng(0), np.array([texts[0] for texts in captions])
    drawn = []
    for _ in range(4000):
        batch = rng.permutation(words)[:6]
        drawn.append(np.mean([np.sum(batch == word) > 1 for word in batch]))
    assert found == pytest.approx(np.mean(drawn), abs=0.03)


def test_unusable_records_are_counted_with_their_reasons(tmp_path):
    pictures = [picture(n) for n in range(12)]
    pictures[3] = pictures[3][: len(pictures[3]) // 2]
    pictures[7], pictures[8] = b"", b"no picture at all"
    folder = pair_folder(tmp_path / "pairs", SENTENCES, pictures)
    code, found, said = look(pair_config(folder), tmp_path)
    assert code == 1
    assert found["bad"]["count"] == sum(found["bad"]["reasons"].values()) == 3
    assert [one["index"] for one in found["bad"]["first"]] == [3, 7, 8]
    assert found["bad"]["first"][1]["where"].endswith("7.jpg")
    assert "empty" in found["bad"]["first"][1]["reason"]
    assert found["captions"]["count"] == 18  # of good records alone
    assert "training would stop: 25.00% of the records are of no use" in said
    lenient = pair_config(folder, "data.max_bad_fraction=0.3")
    assert look(lenient, tmp_path)[0] == 0


def test_equal_faults_are_counted_together():
    reasons = ["truncated (12 bytes left)", "truncated (1,300 bytes left)"]
    assert len({scan.kind_of(reason) for reason in reasons}) == 1
    assert scan.kind_of("no file '/a/b.jpg'") == scan.kind_of("no file '/c.jpg'")


def test_a_fault_in_a_source_is_a_finding_and_no_traceback(tmp_path, monkeypatch):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    read = check.make_source(**pair_config(folder).data.source).__class__.__getitem__

    def fail(self, index):
        if index == 5:
            raise KeyError("caption")
        return read(self, index)

    monkeypatch.setattr("clipin_jax.data.sources.coco.Coco.__getitem__", fail)
    code, found, _ = look(pair_config(folder), tmp_path)
    assert code == 1
    assert found["bad"]["first"][0]["reason"] == "KeyError: 'caption'"


def test_part_of_the_records_is_spread_evenly_and_said_so(tmp_path, monkeypatch):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    indices = []
    describe = scan.Reader.__call__

    def note(self, index):
        indices.append(index)
        return describe(self, index)

    monkeypatch.setattr(scan.Reader, "__call__", note)
    _, found, said = look(pair_config(folder), tmp_path, records=4)
    assert sorted(indices) == [0, 3, 6, 9] and found["looked_at"] == 4
    assert "12 from source 'coco', 4 looked at, spread evenly" in said
    assert look(pair_config(folder), tmp_path, records=0)[1]["looked_at"] == 12
    with pytest.raises(ClipinError, match="--records is -1"):
        look(pair_config(folder), tmp_path, records=-1)


def test_long_captions_are_cut_or_stop_the_training(tmp_path):
    captions = [["word " * 60], *SENTENCES[1:]]
    folder = pair_folder(tmp_path / "pairs", captions)
    code, found, said = look(pair_config(folder), tmp_path)
    assert code == 0
    assert found["captions"]["tokens"]["max"] == 62
    assert found["captions"]["cut"] == pytest.approx(1 / 23)
    folder = pair_folder(tmp_path / "more", captions[:4])
    code, found, said = look(pair_config(folder), tmp_path)
    assert "14.3% of the captions are longer than data.context_length 32" in said
    strict = pair_config(folder, "data.long_captions=error")
    code, _, said = look(strict, tmp_path)
    assert code == 1 and "data.long_captions is 'error'" in said


def test_small_pictures_and_too_few_records_are_said(tmp_path):
    pictures = [picture(n, (40, 60)) for n in range(12)]
    folder = pair_folder(tmp_path / "pairs", SENTENCES, pictures)
    code, _, said = look(pair_config(folder, "batch_size=16"), tmp_path)
    assert code == 1
    assert "100% of the pictures are smaller than the 48 x 48 pixels" in said
    assert "training would stop: 12 records do not fill a batch of 16" in said


def test_captions_of_no_wanted_kind_are_unusable_as_in_training(tmp_path):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    config = pair_config(folder, "data.caption_weights=(('human', 1.0),)")
    code, found, said = look(config, tmp_path)
    assert code == 1 and found["bad"]["count"] == 12 and found["captions"] is None
    assert "not one of the records can be used" in said


def test_the_page_needs_nothing_but_itself_and_escapes_captions(tmp_path):
    captions = [["<script>alert(1)</script> & more"]] * 5 + SENTENCES
    pictures = [picture(n) for n in range(16)] + [b"no picture"]
    folder = pair_folder(tmp_path / "pairs", captions, pictures)
    page = tmp_path / "page.html"
    config = pair_config(folder, "data.max_bad_fraction=0.5")
    assert look(config, tmp_path, output=page)[0] == 0
    text = page.read_text()
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 3 * 12
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?://|<script|<link", text)
    assert "&lt;script&gt;alert(1)" in text
    for word in ("Unusable records", "Most frequent captions", "view 2", "<rect"):
        assert word in text


def test_there_is_a_page_where_no_record_can_be_used(tmp_path):
    folder = pair_folder(tmp_path / "pairs", SENTENCES, [b"no picture"] * 12)
    page = tmp_path / "page.html"
    code, found, _ = look(pair_config(folder), tmp_path, output=page)
    assert code == 1 and found["pictures"] is None
    assert "no samples could be made" in page.read_text()


def test_pixels_and_odd_words_are_looked_at_too(tmp_path):
    config = load_config("clip:runlocal", ("data.source.length=40",))
    code, found, said = look(config, tmp_path, output=tmp_path / "page.html")
    assert code == 0 and "all pixels" in said
    assert found["pictures"]["formats"] == {"pixels": 1.0}


def test_the_command_takes_options_and_overrides(tmp_path, capsys):
    folder = pair_folder(tmp_path / "pairs", SENTENCES)
    argv = ["data", "check", f"clip:data={folder},small", "batch_size=4"]
    assert cli.main([*argv, "--records", "5", "data.views=2"]) == 0
    assert "5 looked at" in capsys.readouterr().out
    assert cli.main([*argv, "batch_size=99"]) == 1
    assert cli.main(["data", "check", f"clip:data={tmp_path / 'none'}"]) == 1
    assert capsys.readouterr().err.startswith("clipin: error: data folder")

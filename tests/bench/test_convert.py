"""The benchmark of conversions on Dask: it runs, and compares the bytes."""

import json

import pytest


@pytest.mark.slow
def test_the_last_line_is_one_json_object(bench, capsys, tmp_path):
    small = ["--pictures", "60", "--width", "160", "--files", "6", "--workers", "2"]
    bench("convert").main([*small, "--kills", "1", "--folder", str(tmp_path)])
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["pictures"] == 60 and len(lines) == 3
    for name in ("one", "dask", "parts"):
        assert result[f"{name}_equal"] and result[f"{name}_cpu_seconds"] > 0
    assert result["dask_over_one"] > 0
    assert list(tmp_path.iterdir()) == []


def test_files_that_differ_are_noticed(bench, tmp_path):
    checksums = bench("convert").checksums
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.tar").write_text("a")
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
    (tmp_path / "two" / ".left").write_text("")
    assert checksums(tmp_path / "one") != checksums(tmp_path / "two")
    (tmp_path / "one" / ".left").write_text("x")
    assert checksums(tmp_path / "one") != checksums(tmp_path / "two")

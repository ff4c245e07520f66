from pathlib import Path

import pytest

from clipin_jax.study.markdown_page import study_markdown
from clipin_jax.study.results_json import read_results
from tests.support.study_results import ablation_study, looseness_study

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "studies"


def test_markdown_has_even_columns():
    text = study_markdown(looseness_study())
    assert text.startswith("## Loosely aligned captions\n\nDoes CLIPin make")
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 3  # means, comparisons, changes along the dial
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1
    head, rule, *rows = tables[0].splitlines()
    assert [cell.strip() for cell in head.split("|")[2:-1]] == [
        "0",
        "0.2",
        "0.4",
        "0.6",
    ]
    assert rule.startswith("| -----") and "-:" in rule
    assert [row.split()[1] for row in rows] == [*looseness_study()["methods"], "chance"]
    assert "- At looseness 0.4 CLIPin is " in text
    assert "zero-shot accuracy, %" in study_markdown(ablation_study())


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_the_documents_of_studies_are_what_the_command_writes(path):
    results = read_results(path)
    assert path.with_suffix(".md").read_text() == study_markdown(results)
    assert results["name"] == path.stem

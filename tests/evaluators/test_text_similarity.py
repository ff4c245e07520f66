"""Cosines of sentences against human scores, as scipy correlates them."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.text_similarity import TextSimilarity
from clipin_jax.inference.encoder import Encoder
from tests.support.in_memory import function_encoder

RNG = np.random.default_rng(0)
TABLE = {
    "embedding": RNG.normal(size=(40, 6)).astype(np.float32),
    "pooled": RNG.normal(size=(40, 9)).astype(np.float32),
}
STATE = SimpleNamespace(variables={k: jnp.asarray(v) for k, v in TABLE.items()})


def encoder_on(devices: int) -> Encoder:
    def text(variables, ids):
        return {name: table[ids[:, 0]] for name, table in variables.items()}

    return function_encoder(image=None, text=text, devices=devices)


@pytest.fixture(scope="module")
def encoder():
    return encoder_on(8)


def rows(number: int, seed: int = 1) -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(seed)
    return [
        (*rng.integers(40, size=2).tolist(), float(rng.integers(11)) / 2)
        for _ in range(number)
    ]


def write(path, lines, header="score\tsentence1\tsentence2", separator="\t"):
    """Sentences with quotes and separators' rivals in them."""
    text = [header.replace("\t", separator)]
    text += [separator.join((str(s), f'"a {i}', f"b; {j}")) for i, j, s in lines]
    path.write_text("\n".join(text) + "\n")
    return str(path)


@pytest.mark.parametrize("feature", ["embedding", "pooled"])
@pytest.mark.parametrize("devices, batch_size", [(1, 7), (8, 16)])
def test_cosines_are_correlated_with_scores(tmp_path, feature, devices, batch_size):
    lines = rows(150)
    path = write(tmp_path / "sts.tsv", lines)
    sts = TextSimilarity(
        encoder_on(devices), file=path, feature=feature, batch_size=batch_size
    )
    values = dict(sts.run(STATE))
    first, second, scores = map(np.array, zip(*lines, strict=True))
    table = TABLE[feature].astype(np.float64)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    cosine = np.sum(table[first] * table[second], axis=1)
    expected = stats.pearsonr(cosine, scores).statistic
    assert values["pearson"] == pytest.approx(expected, abs=1e-6)
    # A sentence against itself is as alike as any other against itself.
    assert np.sum(first == second) > 1
    expected = stats.spearmanr(np.round(cosine, 6), scores).statistic
    assert values["spearman"] == pytest.approx(expected, abs=1e-12)
    assert values["chance/spearman"] == values["chance/pearson"] == 0


def test_commas_quotes_and_other_names(tmp_path, encoder):
    path = tmp_path / "sts.csv"
    path.write_text('human,left,right\n1,"""a"", 1",b 2\n\n2,a 3,b 3\n0,a 4,b 9\n')
    sts = TextSimilarity(encoder, file=str(path), columns=("left", "right", "human"))
    assert sts._texts == ['"a", 1', "a 3", "a 4", "b 2", "b 3", "b 9"]
    assert -1 <= dict(sts.run(STATE))["spearman"] <= 1


def test_a_collapsed_tower_correlates_with_nothing(tmp_path, encoder):
    sts = TextSimilarity(encoder, file=write(tmp_path / "sts.tsv", rows(30)))
    one = {name: jnp.ones((40, 1)) @ t[:1] for name, t in STATE.variables.items()}
    for factor in (1.0, 0.0, np.nan):
        state = SimpleNamespace(variables={k: t * factor for k, t in one.items()})
        values = dict(sts.run(state))
        assert np.isnan(values["spearman"]) and np.isnan(values["pearson"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("score\tsentence1\tsentence2\n", "no rows"),
        ("score\tsentence\tsentence2\n1\ta\tb\n", "did you mean 'sentence'"),
        ("score\tsentence1\tsentence2\n1\ta 1\n", "line 2: 2 cells"),
        ("score\tsentence1\tsentence2\n1\ta 1\t \n", "line 2: its 'sentence2'"),
        ("score\tsentence1\tsentence2\nhigh\ta 1\tb 1\n", "row 1: the score 'high'"),
        ("score\tsentence1\tsentence2\nnan\ta 1\tb 1\n", "'nan' is no number"),
        ("score\tsentence1\tsentence2\n2\ta 1\tb 1\n2\ta 2\tb 1\n", "are 2: there"),
    ],
)
def test_wrong_files(tmp_path, encoder, text, message):
    path = tmp_path / "sts.tsv"
    path.write_text(text)
    with pytest.raises(ClipinError, match=message):
        TextSimilarity(encoder, file=str(path))


def test_wrong_arguments(tmp_path, encoder):
    with pytest.raises(ClipinError, match="no file"):
        TextSimilarity(encoder, file=str(tmp_path / "absent.tsv"))
    (tmp_path / "binary.tsv").write_bytes(b"score\xff\xfe\n")
    with pytest.raises(ClipinError, match="not UTF-8"):
        TextSimilarity(encoder, file=str(tmp_path / "binary.tsv"))
    (tmp_path / "open.csv").write_text('score,sentence1,sentence2\n1,"a 1,b\n')
    with pytest.raises(ClipinError, match=r"open.csv, line 2"):
        TextSimilarity(encoder, file=str(tmp_path / "open.csv"))
    path = write(tmp_path / "sts.tsv", rows(3))
    with pytest.raises(ClipinError, match="feature is 'pool'.*'pooled'"):
        TextSimilarity(encoder, file=path, feature="pool")
    with pytest.raises(ClipinError, match="two sentences and a score"):
        TextSimilarity(encoder, file=path, columns=("sentence1", "score"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_real_files_are_read_whole(data_folder, encoder, language):
    path = data_folder / "text" / f"stsb_{language}_val.tsv"
    sts = TextSimilarity(encoder, file=str(path))
    assert len(sts._texts) == 3000 and sts._scores.max() == 5

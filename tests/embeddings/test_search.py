from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipin_jax.embeddings import search as search_module
from clipin_jax.embeddings.files import Embeddings, Origin
from clipin_jax.embeddings.rows import FACTS
from clipin_jax.embeddings.search import Hit, search
from clipin_jax.embeddings.search_page import search_page
from clipin_jax.errors import ClipinError
from tests.support.html_pages import EVIL, ParsedPage

SOURCE = {"name": "scenes", "split": "val", "length": 50, "size": 32}


def some_embeddings(vectors: np.ndarray, **changes: Any) -> Embeddings:
    count = len(vectors)
    columns = [
        list(range(count)), ["image"] * count, [f"{n}.png" for n in range(count)],
        [EVIL] * count,
    ]  # fmt: skip
    facts = pa.Table.from_arrays(list(map(pa.array, columns)), schema=FACTS)
    origin = dict(
        model="run@1", fingerprint="one", width=vectors.shape[1], source=SOURCE,
        source_fingerprint="", what="image",
    )  # fmt: skip
    return Embeddings(Origin(**{**origin, **changes}), facts, vectors)


def model_of(query: np.ndarray) -> Any:
    return SimpleNamespace(
        name="run@1", fingerprint="one", width=len(query),
        encode_text=lambda text: query[None],
    )  # fmt: skip


@pytest.mark.parametrize("block", [7, 50, 1000])
def test_the_nearest_come_first_and_equal_ones_in_order(monkeypatch, block):
    monkeypatch.setattr(search_module, "_BLOCK", block)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[40] = vectors[11]
    query = vectors[11]
    hits = search(model_of(query), some_embeddings(vectors), "a star", 9)
    cosines = vectors @ query
    expected = np.argsort(-cosines, kind="stable")[:9]
    assert [hit.row.index for hit in hits] == expected.tolist()
    assert [hit.row.index for hit in hits][:2] == [11, 40]
    found = [hit.cosine for hit in hits]
    np.testing.assert_allclose(found, cosines[expected], rtol=1e-6)
    every = search(model_of(query), some_embeddings(vectors), "a star", 500)
    assert len(every) == 50


@pytest.mark.parametrize(
    ("changes", "query", "top", "message"),
    [
        ({"fingerprint": "two"}, "a star", 5, "embeddings are of another model: run@1"),
        ({"width": 7}, "a star", 5, "width 7.*not run@1 .width 6"),
        ({}, " ", 5, "the query is empty"),
        ({}, "gone.jpg", 5, "image file gone.jpg does not exist"),
        ({}, "a star", 0, "top is 0"),
    ],
)
def test_wrong_searches(changes, query, top, message):
    embeddings = some_embeddings(np.eye(6, dtype=np.float32), **changes)
    with pytest.raises(ClipinError, match=message):
        search(model_of(np.ones(6)), embeddings, query, top)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "the data have changed"),
        ({"source": {"name": "coco", "folder": "/gone", "split": "val"}}, "/gone"),
    ],
)
def test_a_page_without_the_data_has_no_pictures_and_the_reason(changes, note):
    embeddings = some_embeddings(np.eye(3, dtype=np.float32), **changes)
    page = search_page(EVIL, [Hit(0.5, embeddings.row(1))], embeddings)
    parsed = ParsedPage(page)
    assert EVIL not in page and parsed.count("img") == 0
    assert any(note in text for text in parsed.texts)
    assert "cosine 0.500" in parsed.texts

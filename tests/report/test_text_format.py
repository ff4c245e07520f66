from clipin_jax.report.text_format import (
    count_noun,
    format_duration,
    format_number,
    format_p_value,
    join_words,
    quote_phrase,
)


def test_lists_in_sentences():
    assert join_words(["a"]) == "a"
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert join_words(["a, b", "c", "d"]) == "a, b; c; and d"
    assert join_words(["a", "b, c"]) == "a; and b, c"


def test_numbers_are_short():
    numbers = [0, 0.5, 12.345, 1800, 12000, 3.4e9, 2e-5, -0.25]
    assert [format_number(n) for n in numbers] == [
        "0", "0.5", "12.35", "1800", "12k", "3.4G", "2e-5", "-0.25"
    ]  # fmt: skip


def test_p_values():
    assert [format_p_value(p) for p in (1e-5, 0.0123, 0.5, float("nan"))] == [
        "< 0.001", "0.012", "0.50", "–"
    ]  # fmt: skip
    assert format_p_value(0.5, equals=True) == "= 0.50"
    assert format_p_value(1e-5, equals=True) == "< 0.001"


def test_durations_and_counts():
    assert [format_duration(s) for s in (12.4, 185, 7620)] == [
        "12 s", "3 min 05 s", "2 h 07 min"
    ]  # fmt: skip
    assert [count_noun(n, "seed") for n in (0, 1, 2)] == [
        "0 seeds",
        "1 seed",
        "2 seeds",
    ]


def test_phrases_are_quoted_and_words_are_not():
    assert quote_phrase("CLIP") == "CLIP" and quote_phrase("no head") == "“no head”"

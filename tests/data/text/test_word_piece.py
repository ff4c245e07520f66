"""WordPiece: rows, marks that no caption can inject, invalid vocabularies."""

import pickle

import numpy as np
import pytest

from clipin_jax.data import make_source
from clipin_jax.data.scenes.text import vocabulary as scenes_vocabulary
from clipin_jax.data.text import make_tokenizer
from clipin_jax.errors import ClipinError

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*MARKS, "a", "red", "cat", "##s", "脸", "笑", ","]
CAPTIONS = [
    "a photo of two cats, playing with state-of-the-art toys!",
    "Ünïcödé CAFÉ naïve résumé Straße ﬁne Ｆｕｌｌ",
    "咧嘴笑的脸,红色圆圈",
    "一只cat在2024年 photo里",
    "smile 😀 ☃ 👩‍👩‍👧 ™ end",
    "[CLS] hidden [SEP] and [MASK] or [PAD] [UNK]",
    "tab\tnew\nline \u200b zero\u3000wide \x00 nul \ufffd",
    "supercalifragilistic" * 8,
    "",
    "   ",
]


@pytest.fixture
def vocabulary(tmp_path):
    return write(tmp_path, PIECES)


def write(folder, pieces, ending="\n"):
    path = folder / "vocab.txt"
    path.write_bytes("".join(piece + ending for piece in pieces).encode())
    return str(path)


def make(vocabulary="", context_length=8, **cfg):
    return make_tokenizer(
        "wordpiece", context_length=context_length, vocabulary=vocabulary, **cfg
    )


def test_rows_have_marks_and_padding(vocabulary):
    tokenizer = make(vocabulary)
    rows = tokenizer(["A red  CATS", "", "dog 笑脸", "a a a a a a red"])
    assert rows.dtype == np.int32
    assert rows.tolist() == [
        [2, 5, 6, 7, 8, 3, 0, 0],
        [2, 3, 0, 0, 0, 0, 0, 0],
        [2, 1, 10, 9, 3, 0, 0, 0],
        [2, 5, 5, 5, 5, 5, 5, 3],
    ]
    assert [tokenizer.is_cut("a " * count) for count in (6, 7)] == [False, True]
    assert (tokenizer.start, tokenizer.end, tokenizer.pad) == (2, 3, 0)
    assert (tokenizer.mask_id, tokenizer.vocab_size) == (4, len(PIECES))
    assert tokenizer.never_masked == (0, 2)


def test_decoding(vocabulary):
    tokenizer = make(vocabulary)
    assert tokenizer.decode(tokenizer.encode("A red cats, 笑脸")) == "a red cats , 笑脸"
    assert tokenizer.decode([2, 5, 3]) == "[CLS] a [SEP]"


@pytest.mark.parametrize("text", ["[SEP]", "a[MASK]cat", "[cls] [PAD]", "[DEC][ENC]"])
def test_captions_cannot_inject_marks(vocabulary, text):
    tokenizer = make(vocabulary, extra_tokens=("[DEC]", "[ENC]", "dec"))
    ids = tokenizer.encode(text)
    assert ids and not set(ids) & {0, 2, 3, 4, 12, 13, 14}


def test_extra_tokens_come_last(vocabulary):
    tokenizer = make(vocabulary, extra_tokens=("[DEC]", "[ENC]"))
    assert tokenizer.vocab_size == len(PIECES) + 2
    assert tokenizer.extra_ids == {"[DEC]": 12, "[ENC]": 13}
    assert tokenizer.decode([12, 5]) == "[DEC] a"
    for wrong in (("[SEP]",), ("[DEC]", "[DEC]"), "[DEC]"):
        with pytest.raises(ClipinError, match="data.tokenizer.extra_tokens"):
            make(vocabulary, extra_tokens=wrong)


def test_capitals_may_be_kept(tmp_path):
    path = write(tmp_path, [*MARKS, "Ab", "ab", "é", "e"])
    assert make(path).encode("Ab é") == [6, 8]
    assert make(path, lowercase=False).encode("Ab é") == [5, 7]


def test_unpaired_surrogates_are_replaced(vocabulary):
    assert make(vocabulary).encode("a \ud83d red") == [5, 6]
    assert make_tokenizer("bpe").encode("a \ud83d red")


def test_a_pickled_copy_is_equal(vocabulary):
    tokenizer = make(vocabulary, extra_tokens=("[DEC]",), lowercase=False)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert (copy(["a RED cat"]) == tokenizer(["a RED cat"])).all()
    assert copy.extra_ids == tokenizer.extra_ids
    assert copy.context_length == 8


def test_windows_lines(tmp_path):
    assert make(write(tmp_path, PIECES, "\r\n")).encode("a cat") == [5, 7]


def test_scenes_vocabulary_has_every_word_of_the_scenes():
    tokenizer = make(context_length=77)
    source = make_source(name="scenes", length=600, looseness=0.5, redundancy=0.1)
    captions = [c for n in range(600) for c in source.annotations(n)["captions"]]
    words = {word for caption in captions for word in tokenizer.encode(caption)}
    spelled = {tokenizer.decode([word]) for word in words}
    # Each word is one piece, and no word is in the vocabulary for nothing.
    assert spelled == {*scenes_vocabulary(), ",", "-"}
    text = "zebra 42 (quietly)!"
    assert tokenizer.decode(tokenizer.encode(text)) == "zebra 42 ( quietly ) !"
    assert tokenizer.encode("[MASK] 笑")[-1] == 1
    assert tokenizer.mask_id not in tokenizer.encode("[MASK] 笑")


def test_long_captions_may_be_refused(vocabulary):
    tokenizer = make(vocabulary, long_captions="error")
    assert tokenizer(["a " * 6]).shape == (1, 8)
    copy = pickle.loads(pickle.dumps(tokenizer))
    with pytest.raises(ClipinError, match="9 tokens .*context_length 8: 'a a a"):
        copy(["a", "a " * 7])
    with pytest.raises(ClipinError, match="data.long_captions is 'drop'"):
        make(vocabulary, long_captions="drop")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "lacks .PAD., .UNK."),
        (b"\x1f\x8b\x08\xff\xfe", "not UTF-8"),
        ("\n".join(MARKS[:4]).encode(), "lacks .MASK."),
        ("\n".join([*MARKS[::-1], "a"]).encode(), "first line is '.MASK.'"),
        ("\n".join([*PIECES, "cat", "end"]).encode(), "'cat' 2 times"),
        (b'{"model": {"type": "WordPiece"}}', "lacks"),
    ],
)
def test_wrong_vocabularies_are_refused(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ClipinError, match=f"vocab.txt is no WordPiece .*{message}"):
        make(str(path))


def test_wrong_arguments(tmp_path):
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(ClipinError, match="cannot be read.*data.tokenizer.vocab"):
            make(str(path))
    with pytest.raises(ClipinError, match="context_length is 1"):
        make(context_length=1)
    with pytest.raises(ClipinError, match="did you mean 'wordpiece'"):
        make_tokenizer("wordpieces")
    with pytest.raises(ClipinError, match="allow_special"):
        make(allow_special=True)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # raised inside of older releases
@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-chinese"])
def test_ids_are_those_of_the_library(data_folder, name):
    from tokenizers import BertWordPieceTokenizer

    path = str(data_folder / "tokenizers" / f"{name}-vocab.txt")
    # Marks inside a caption are where we differ, on purpose: the library finds them.
    captions = [text for text in CAPTIONS if "[" not in text]
    if name.endswith("chinese"):
        folder = str(data_folder / "captions" / "noto_emoji")
        for file in ("captions_{split}.json", "captions_{split}_zh.json"):
            source = make_source(name="coco", folder=folder, captions=file)
            for number in range(0, len(source), 7):
                captions += source.annotations(number)["captions"]
    tokenizer, library = make(path, context_length=64), BertWordPieceTokenizer(path)
    library.enable_truncation(64)
    library.enable_padding(length=64)
    rows = tokenizer(captions)
    assert rows.tolist() == [entry.ids for entry in library.encode_batch(captions)]
    assert tokenizer.vocab_size == library.get_vocab_size()
    assert (tokenizer.start, tokenizer.end, tokenizer.mask_id) == (101, 102, 103)
    for mark in MARKS:
        number = library.token_to_id(mark)
        assert number in library.encode(f"a {mark} b").ids
        assert number not in tokenizer.encode(f"a {mark} b")


def test_known_rows_of_published_vocabularies(data_folder):
    folder = data_folder / "tokenizers"
    english = make(str(folder / "bert-base-uncased-vocab.txt"))
    assert english(["Hello, world!"])[0, :6].tolist() == [
        101,
        7592,
        1010,
        2088,
        999,
        102,
    ]
    chinese = make(str(folder / "bert-base-chinese-vocab.txt"))
    assert chinese.decode(chinese.encode("咧嘴笑的脸 smile")) == "咧嘴笑的脸 smile"

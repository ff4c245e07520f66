"""Which part of how many: given, or from the variables of a scheduler."""

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.parts.part import Part, part_of, read_part


@pytest.mark.parametrize("text, part", [("1/1", (1, 1)), ("3/16", (3, 16))])
def test_parts_are_counted_from_1(text, part):
    assert read_part(text, {}) == part
    assert str(Part(*part)) == text


@pytest.mark.parametrize(
    "text, message",
    [
        ("5/4", "5/4: the parts of 4 are counted from 1 to 4"),
        ("0/4", "counted from 1 to 4"),
        ("0/0", "there must be at least 1 part"),
        ("1/0", "there must be at least 1 part"),
        ("3", "give I/N, as in 3/16, or auto"),
        ("-1/4", "give I/N"),
        ("1/4/2", "give I/N"),
        ("a/b", "give I/N"),
        ("१/४", "give I/N"),
        ("", "give I/N"),
        ("auto", "SLURM_ARRAY_TASK_ID .* JOB_COMPLETION_INDEX .* neither"),
    ],
)
def test_what_is_no_part(text, message):
    with pytest.raises(ClipinError, match=message):
        read_part(text, {})


@pytest.mark.parametrize("total", [0, 1, 5, 16, 100])
@pytest.mark.parametrize("count", [1, 3, 16, 40])
def test_shares_are_even_and_have_everything_once(total, count):
    shares = [Part(index, count).numbers(total) for index in range(1, count + 1)]
    assert [number for share in shares for number in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for index, share in enumerate(shares, 1):
        assert all(part_of(number, total, count) == (index, count) for number in share)


def slurm(task, least, most, count, step=1):
    values = dict(ID=task, MIN=least, MAX=most, COUNT=count, STEP=step)
    return {f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in values.items()}


@pytest.mark.parametrize(
    "environ, part",
    [
        (slurm(0, 0, 15, 16), (1, 16)),
        (slurm(15, 0, 15, 16), (16, 16)),
        (slurm(3, 1, 4, 4), (3, 4)),
        (slurm(14, 10, 18, 3, step=4), (2, 3)),
        (slurm(7, 7, 7, 1), (1, 1)),
        ({"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "4"}, (4, 4)),
        (
            {
                "JOB_COMPLETION_INDEX": "1",
                "JOB_COMPLETIONS": "2",
                "JOB_INDEX": "2",
                "REPLICATED_JOB_REPLICAS": "4",
            },
            (6, 8),
        ),
    ],
)
def test_the_part_of_a_scheduler(environ, part):
    assert read_part("auto", environ) == part


@pytest.mark.parametrize(
    "environ, message",
    [
        (slurm(7, 1, 7, 3), "that is a range, .*: this one has 3 tasks from 1 to 7"),
        (slurm(9, 1, 4, 4), "is a range"),
        (slurm("x", 1, 4, 4), "SLURM_ARRAY_TASK_ID is 'x': it must be a number"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "needs the variable SLURM_ARRAY_TASK_MIN"),
        ({"JOB_COMPLETION_INDEX": "3"}, "needs the variable JOB_COMPLETIONS: set it"),
        (
            {"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "3"},
            "pod 3 of JOB_COMPLETIONS 3 .* cannot be",
        ),
    ],
)
def test_a_scheduler_whose_parts_cannot_be_told(environ, message):
    with pytest.raises(ClipinError, match=message):
        read_part("auto", environ)

"""Any number of processes makes the same global batches, before and after a resume."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from clipin_jax.data.pipeline import TrainBatches
from clipin_jax.errors import ClipinError
from tests.data.test_pipeline import config

LENGTH, BATCH, SEED = 50, 24, 5


def share_of(process, count, start, steps, changes):
    """Returns the rows of one process: per step, the bytes of each sample."""
    data = config(source=dict(name="scenes", length=LENGTH, size=32), **changes)
    batches = TrainBatches(
        data,
        seed=SEED,
        batch_size=BATCH,
        process_index=process,
        process_count=count,
    )
    if start is not None:
        batches.set_state(start)
    rows = []
    for _ in range(steps):
        batch = next(batches)
        rows.append(
            [
                (int(index), *(batch[v][k][row].tobytes() for v, k in KEYS))
                for row, index in enumerate(batch["index"])
            ]
        )
    state = batches.get_state()
    batches.close()
    return rows, state


KEYS = [(view, key) for view in ("view1", "view2") for key in ("image", "text")]


def global_batches(count, start=None, steps=3, run=map, **changes):
    """Returns each step's samples of all processes, sorted, and the state after."""
    arguments = [(process, count, start, steps, changes) for process in range(count)]
    shares = list(run(share_of, *zip(*arguments, strict=True)))
    states = [state for _, state in shares]
    assert all(state == states[0] for state in states)
    steps = zip(*(rows for rows, _ in shares), strict=True)
    return [sorted(sum(step, [])) for step in steps], states[0]


@pytest.fixture(scope="module")
def whole():
    return global_batches(1, steps=6)[0]


def test_a_run_continues_with_any_number_of_processes(whole):
    runs = [global_batches(before) for before in (1, 2, 4, 8)]
    assert all(first == whole[:3] for first, _ in runs)
    # One state behind all of them, so that it is enough to continue from one.
    [(_, state), *others] = runs
    assert all(other == state for _, other in others)
    for after in (1, 2, 4, 8):
        assert global_batches(after, start=state)[0] == whole[3:]


def test_real_processes(whole):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        first, state = global_batches(4, run=pool.map)
        assert first == whole[:3]
        assert global_batches(2, start=state, run=pool.map)[0] == whole[3:]


def test_shuffling_in_blocks_with_any_number_of_processes():
    changes = dict(shuffle_block=5, threads=0)
    whole, _ = global_batches(1, steps=6, **changes)
    first, state = global_batches(4, **changes)
    assert first == whole[:3]
    assert global_batches(8, start=state, **changes)[0] == whole[3:]


def test_changed_data_is_refused_unless_allowed():
    _, state = global_batches(1, steps=1)
    changed = dict(state, fingerprint="another")
    with pytest.raises(ClipinError, match=r"another fingerprint.*data\.allow_change=T"):
        global_batches(1, start=changed, steps=1)
    allowed, _ = global_batches(1, start=changed, steps=1, allow_change=True)
    assert allowed == global_batches(1, start=state, steps=1)[0]
    with pytest.raises(ClipinError, match="another seed"):
        global_batches(1, start=dict(state, seed=6), steps=1, allow_change=True)


def test_resuming_in_ten_million_records_is_fast():
    data = config(source=dict(name="scenes", length=10_000_000, size=32))
    batches = TrainBatches(data, seed=SEED, batch_size=BATCH)
    batches.set_state(dict(batches.get_state(), position=5_000_000))
    seen = next(batches)["index"]
    assert len(set(seen.tolist())) == BATCH and seen.max() > 1_000_000
    batches.close()

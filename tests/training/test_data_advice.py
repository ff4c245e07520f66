from ml_collections import ConfigDict

from clipin_jax.training.data_advice import AGAIN_SECONDS, DataAdvice
from clipin_jax.training.measures.step_timing import Window

DATA = ConfigDict(
    dict(processes=0, threads=2, prefetch_batches=2, augment_on="host"),
)
SLOW = Window(steps=30, seconds=10.0, waited=5.0, idle=4.0, starved=4.0)


def advice(data: ConfigDict = DATA, now: list[float] | None = None) -> DataAdvice:
    times = now if now is not None else [0.0]
    return DataAdvice(data, "runs/x", clock=lambda: times[0])


def test_a_run_that_waits_for_data_is_told_the_keys():
    text = advice().judge(SLOW)
    assert text.startswith("the devices waited for data 40% of the last 30 steps: ")
    for part in (
        "data.processes (now 0)",
        "data.threads (now 2)",
        "data.prefetch_batches (now 2)",
        "data.augment_on=device",
        "`clipin data bench runs/x`",
    ):
        assert part in text
    assert "\n" not in text
    on_device = ConfigDict({**DATA, "augment_on": "device"})
    assert "augment_on" not in advice(on_device).judge(SLOW)


def test_idle_devices_that_do_not_wait_for_data_are_no_reason():
    assert advice().judge(SLOW._replace(starved=0.9)) == ""


def test_a_few_steps_are_not_judged_alone():
    each = Window(steps=1, seconds=1.0, waited=1.0, idle=1.0, starved=1.0)
    judge = advice().judge
    assert [bool(judge(each)) for _ in range(20)] == [False] * 19 + [True]


def test_it_is_said_once_and_rarely_again():
    now = [0.0]
    judge = advice(now=now).judge
    assert judge(SLOW)
    assert not judge(SLOW)
    now[0] = AGAIN_SECONDS
    assert judge(SLOW)

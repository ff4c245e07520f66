import os
import re
import signal
import sys
import threading

import pytest

from clipin_jax.commands.main import main
from clipin_jax.errors import ClipinError
from clipin_jax.processes import local

SHOW = (
    "import os; print(os.environ['CLIPIN_PROCESS_ID'], 'of', "
    "os.environ['CLIPIN_NUM_PROCESSES'], os.environ.get('CUDA_VISIBLE_DEVICES'), "
    "os.environ.get('XLA_FLAGS'), len(os.sched_getaffinity(0)))"
)
CODES = (
    "import os, sys, time; i = int(os.environ['CLIPIN_PROCESS_ID']); "
    "time.sleep(0.2 * i); sys.exit((%s)[i])"
)
WAITS = (
    "import signal, sys, time; "
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); "
    "print('ready', flush=True); time.sleep(60)"
)


def run(code, count=2):
    return local.run_local(count, (sys.executable, "-c", code))


@pytest.fixture
def lines(capfd):
    return lambda: sorted(capfd.readouterr().err.splitlines())


def test_each_gets_its_share(lines, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    flag = "--xla_force_host_platform_device_count"
    monkeypatch.setenv("XLA_FLAGS", f"--xla_a=1 {flag}=8")
    assert run(SHOW) == 0
    cpus = max(1, len(os.sched_getaffinity(0)) // 2)
    for index, (line, gpus) in enumerate(zip(lines(), ("4,5", "6,7"), strict=True)):
        expected = f"[process {index}] {index} of 2 {gpus} --xla_a=1 {flag}=4 {cpus}"
        assert line.startswith(expected[:-1])


@pytest.mark.parametrize(
    ("codes", "expected"),
    [("0, 0", 0), ("75, 75", 75), ("0, 75", 75), ("78, 1", 78), ("0, 3", 3)],
)
def test_the_code_of_all(codes, expected):
    assert run(CODES % codes) == expected


def test_one_fails_and_the_other_hangs(lines, monkeypatch):
    monkeypatch.setattr(local, "_GRACE_SECONDS", 0.3)
    code = (
        "import os, time; time.sleep(60) if os.environ['CLIPIN_PROCESS_ID'] == '0' "
        "else os.kill(os.getpid(), 9)"
    )
    assert run(code) == 128 + signal.SIGKILL
    assert lines() == [
        "clipin: error: process 1 was ended by SIGKILL, as for lack of memory; the "
        "others end"
    ]


def test_signals_are_passed_on(lines):
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert run(WAITS) == 75
    assert lines() == ["[process 0] ready", "[process 1] ready"]


def test_gpus_that_cannot_be_shared(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with pytest.raises(ClipinError, match="is 3, among which 4 GPUs cannot be shared"):
        run(SHOW, count=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--local-processes 0", "is '0': give a whole number, from 1"),
        ("--local-processes x", "is 'x': give a whole number, from 1"),
        ("--local-processes 3", "3, among which batch_size = 32 cannot be shared equ"),
        ("--local-processes 2 --coordinator a:1", "all processes itself: leave --coo"),
        ("--coordinator a --processes 2 --process 1", "is 'a': give the host of proc"),
        ("--processes 2", r"--processes \(.*\) without --coordinator .* and --process"),
        ("--processes 0", "is 0: give at least 1"),
        ("--coordinator a:1 --processes 2 --process 5", "is 5 of .* 2: they are coun"),
    ],
)
def test_wrong_commands(arguments, message, capsys):
    assert main(["train", "quickstart:runlocal", *arguments.split()]) == 78
    assert re.fullmatch(f"clipin: error: .*{message}.*\n", capsys.readouterr().err)

import signal
import time

import pytest

from clipin_jax.data.cpus import available_cpus
from clipin_jax.runs.interrupt import Interrupt
from clipin_jax.sweep.processes.pool import ProcessPool


def test_a_task_that_trains_nothing_ends_at_an_interrupt():
    interrupt = Interrupt()
    with ProcessPool() as processes:
        process = processes.open(available_cpus())
        process.send(divmod, 7, 2)
        assert process.wait(interrupt)
        assert process.receive() == ((3, 1), "")
        process.send(time.sleep, 3600)
        interrupt.set(signal.SIGINT)
        assert not process.wait(interrupt)
        process.stop_task()
        with pytest.raises(EOFError):
            process.receive()

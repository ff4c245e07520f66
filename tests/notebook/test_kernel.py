"""A notebook in a real kernel: trains, is interrupted, goes on."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.conftest import REPOSITORY
from tests.support import tiny_runs

SECONDS = 300.0  # that a cell may take
START = """
import tests.conftest
import clipin_jax
from tests.support import tiny_runs
config = tiny_runs.tiny_run("data.processes=2")
"""
TRAIN = "run = clipin_jax.train(config, FOLDER)\nprint(run)"


class Kernel:
    """A kernel with a client."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient):
        self._manager, self._client = manager, client

    def run(
        self, code: str, interrupt_when: Callable[[str], bool] = lambda text: False
    ) -> tuple[str, list[dict[str, Any]]]:
        """Runs a cell; returns its text and the content of its other messages."""
        texts, others = [], []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                texts.append(content["text"])
                if interrupt_when(content["text"]):
                    self._manager.interrupt_kernel()
            else:
                others.append(content)

        self._client.execute_interactive(code, output_hook=take, timeout=SECONDS)
        return "".join(texts), others


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    manager.start_kernel(env=environment, cwd=str(REPOSITORY))
    client = manager.client()
    client.start_channels()
    with contextlib.ExitStack() as stack:
        stack.callback(manager.shutdown_kernel, now=True)
        stack.callback(client.stop_channels)
        client.wait_for_ready(timeout=SECONDS)
        yield Kernel(manager, client)


@pytest.mark.slow
def test_a_cell_that_is_interrupted_goes_on_when_it_is_run_again(kernel, tmp_path):
    kernel.run(f"FOLDER = {str(tmp_path / 'run')!r}\n{START}")
    text, _ = kernel.run(TRAIN, lambda text: "evaluation at step 4" in text)
    assert "data.processes 0 instead of 2" in text
    assert "saved at step 4" in text and "to go on, run the cell again" in text
    assert "run: 4 of 6 steps, not finished>" in text
    assert max(row["step"] for row in tiny_runs.metric_rows(tmp_path / "run")) == 4

    text, others = kernel.run(TRAIN)
    assert "resumed at step 4" in text and "run: 6 of 6 steps, finished>" in text
    drawings = [content["data"] for content in others if "transient" in content]
    assert len({content["transient"]["display_id"] for content in others[2:-1]}) == 1
    assert "step 6 of 6, done" in drawings[-1]["text/plain"]
    assert "<svg" in drawings[-1]["text/html"]

    text, others = kernel.run(f"{TRAIN}\nrun")
    assert "is already done" in text and "compiling" not in text
    [shown] = [content["data"] for content in others if "data" in content]
    assert "6 of 6" in shown["text/html"]

    _, others = kernel.run("config")
    [shown] = [content["data"] for content in others if "data" in content]
    assert "keys of clip changed" in shown["text/html"]

    _, others = kernel.run("clipin_jax.train(config, FOLDER, ['seed=1'])")
    [error] = [content["traceback"] for content in others if "ename" in content]
    assert len(error) == 1 and "holds a run of another config" in error[0]

"""The processes of a run as one of them sees the others: they exchange texts."""

import collections
import json
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any

from clipin_jax.errors import RetryableError
from clipin_jax.processes.store import Store

WAIT_SECONDS = 600.0  # for the slowest process to come to the same point
_NOTICE_SECONDS = 30.0  # between two lines that say whom the others wait for
_POLL_SECONDS = 0.05


class Group:
    """A process among the others of its run.

    Every process makes the same calls in the same order.

    Attributes:
      index: of this process, from 0.
      count: number of processes.
      store: texts that all of them see.
      hosts: name of each process's host.
    """

    def __init__(self, index: int, count: int, store: Store):
        """Takes the place of this process; waits for no other."""
        self.index, self.count, self.store = index, count, store
        self.hosts: list[str] = [""] * count
        self._calls: collections.Counter[str] = collections.Counter()

    def meet(self) -> None:
        """Learns the hosts of all processes."""
        self.hosts = self.gather("host", socket.gethostname(), "start")

    def name(self, index: int) -> str:
        """Returns a process for a message, as "process 3 (host n1)"."""
        host = self.hosts[index] if index < len(self.hosts) else ""
        return f"process {index} (host {host})" if host else f"process {index}"

    def names(self, indices: Iterable[int]) -> str:
        """Returns a few processes for a message."""
        indices = list(indices)
        more = f" and {len(indices) - 3} more" if len(indices) > 3 else ""
        return ", ".join(map(self.name, indices[:3])) + more

    def folder(self, topic: str) -> str:
        """Returns a folder of the store that no earlier call used."""
        self._calls[topic] += 1
        return f"{topic}/{self._calls[topic]}"

    def gather(
        self, topic: str, value: Any, doing: str, seconds: float = WAIT_SECONDS
    ) -> list[Any]:
        """Returns the values that all processes give, by their index.

        Waits for the others, and says for whom.

        Args:
          topic: names the exchange.
          value: of this process, which JSON can write.
          doing: what a process does before it comes here, as "open its data".
          seconds: after which it gives up.

        Raises:
          RetryableError: a process did not come in time.
        """
        folder = self.folder(topic)
        self.store.put(folder, str(self.index), json.dumps(value))
        start = time.monotonic()
        notice = start + _NOTICE_SECONDS
        while len(texts := self.store.all(folder)) < self.count:
            now = time.monotonic()
            absent = [i for i in range(self.count) if str(i) not in texts]
            if now - start > seconds:
                raise RetryableError(
                    f"{self.names(absent)} did not {doing} within {seconds:g} s, in "
                    "which others did: look at its output and its host"
                )
            if now > notice and self.index == min(map(int, texts)):
                notice = now + _NOTICE_SECONDS
                print(
                    f"clipin: waiting for {self.names(absent)} to {doing}",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            time.sleep(min(1.0, _POLL_SECONDS * (1 + (now - start))))
        return [json.loads(texts[str(i)]) for i in range(self.count)]

    def of_first(self, topic: str, value: Any) -> Any:
        """Returns the value that process 0 gives."""
        return self.gather(topic, value, "come to the same point")[0]

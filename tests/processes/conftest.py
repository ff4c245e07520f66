"""Processes of one run as threads of this one, with a store in memory."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from clipin_jax.processes.group import Group


class MemoryStore:
    """As the store of jax's coordinator."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], str] = {}

    def put(self, folder: str, name: str, text: str) -> None:
        self._texts[folder, name] = text

    def all(self, folder: str) -> dict[str, str]:
        return {n: text for (f, n), text in list(self._texts.items()) if f == folder}


def run_together(count: int, call: Callable[[Group], Any]) -> list[Any]:
    """Calls a function in each process of a group; returns results or exceptions."""
    store, results = MemoryStore(), [None] * count

    def one(index: int) -> None:
        group = Group(index, count, store)
        group.hosts = [f"n{i // 2}" for i in range(count)]
        try:
            results[index] = call(group)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


@pytest.fixture
def together():
    return run_together


@pytest.fixture
def store():
    return MemoryStore()

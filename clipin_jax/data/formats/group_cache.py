"""What was read last, kept while there is room, for all threads of a process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class GroupCache:
    """Values by key; where several threads want one at once, it is read once.

    Sent to another process it arrives empty.

    Args:
      most: bytes, by `nbytes` of the values. The last one read is kept in any case.
    """

    def __init__(self, most: int):
        self._most = most
        self.__setstate__(most)

    def get(self, key: Hashable, read: Callable[[], Any]) -> Any:
        """The value of that key, read if need be. What `read` raises is not kept."""
        with self._lock:
            future = self._found.get(key)
            mine = future is None
            if future is None:
                future = self._found[key] = Future()
            self._found.move_to_end(key)
        if mine:
            try:
                future.set_result(read())
            except BaseException as error:
                with self._lock:
                    del self._found[key]
                future.set_exception(error)
            else:
                self._make_room()
        return future.result()

    def _make_room(self) -> None:
        with self._lock:
            done = [key for key, each in self._found.items() if each.done()]
            total = sum(self._found[key].result().nbytes for key in done)
            for key in done[:-1]:
                if total <= self._most:
                    break
                total -= self._found.pop(key).result().nbytes

    def __getstate__(self) -> int:
        return self._most

    def __setstate__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[Hashable, Future] = OrderedDict()
        self._lock = threading.Lock()

"""The key-value store of jax's coordinator, which needs no collective of the devices.

A call takes some microseconds in process 0, and a round trip elsewhere.
"""

from typing import Any, Protocol

_ROOT = "clipin_jax"


class Store(Protocol):
    """Texts by folder and name, which all processes of a run see."""

    def put(self, folder: str, name: str, text: str) -> None:
        """Writes a text, over one that is there."""

    def all(self, folder: str) -> dict[str, str]:
        """Returns the texts of a folder by name; {} if there is none."""
        ...


class CoordinatorStore:
    """The store of jax's coordinator; a call raises a RuntimeError if it is gone."""

    def __init__(self, client: Any):
        """Takes the client of `jax.distributed`."""
        self._client = client

    def put(self, folder: str, name: str, text: str) -> None:
        """Writes a text, over one that is there."""
        self._client.key_value_set(f"{_ROOT}/{folder}/{name}", text, True)

    def all(self, folder: str) -> dict[str, str]:
        """Returns the texts of a folder by name; {} if there is none."""
        start = f"{_ROOT}/{folder}/"
        pairs = self._client.key_value_dir_get(start)
        return {key.removeprefix(start): text for key, text in pairs}

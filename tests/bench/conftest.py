import importlib

import pytest


@pytest.fixture
def bench(monkeypatch, repository):
    """Imports a file of the folder bench/ by its name."""
    monkeypatch.syspath_prepend(str(repository / "bench"))
    return importlib.import_module

"""What an import of the package sets up in IPython, and leaves alone elsewhere."""

import logging
import warnings

import pytest

from clipin_jax.notebook import ipython_setup

FORK = "os.fork() was called. os.fork() is incompatible with multithreaded code"


@pytest.fixture
def logger(request):
    """A logger of one test, without a handler."""
    return logging.getLogger(request.node.name)


def test_warnings_read_as_on_the_command_line_once(logger, capsys, caplog):
    for _ in range(2):  # the kernel may import the package anew
        ipython_setup.show_warnings(logger)
    logger.getChild("runs").warning("no %s", "checkpoint")
    logger.getChild("runs").info("a detail")
    assert capsys.readouterr().err == "clipin: WARNING: no checkpoint\n"
    assert caplog.text == ""  # nor do handlers of the root print it


def test_a_logger_that_its_user_has_set_up_stays_so(logger):
    logger.addHandler(own := logging.NullHandler())
    ipython_setup.show_warnings(logger)
    assert logger.handlers == [own] and logger.propagate


def test_of_all_warnings_that_of_forks_alone_is_silenced():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ipython_setup.ignore_forks()
        warnings.warn(FORK, RuntimeWarning, stacklevel=1)
        warnings.warn("of numbers", RuntimeWarning, stacklevel=1)
    assert [str(each.message) for each in seen] == ["of numbers"]


def test_a_program_is_left_alone(monkeypatch):
    def set_up(*_):
        raise AssertionError

    for name in ("show_warnings", "ignore_forks"):
        monkeypatch.setattr(ipython_setup, name, set_up)
    monkeypatch.setattr(ipython_setup.formatters, "register", set_up)
    ipython_setup.set_up()

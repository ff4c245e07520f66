"""Where the processes of a run meet before jax starts them together.

jax ends a process, with pages of C++, if another one does not come. Here process 0
listens first at the coordinator's port, and each other process says which one it is. It
gets the answer when all have come, or the reason why they will not start. Then jax's
coordinator takes over the port.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from clipin_jax.errors import ClipinError, RetryableError
from clipin_jax.processes.place import Place

_NOTICE_SECONDS = 15.0  # between two lines that say who is missing
_RETRY_SECONDS = 0.2  # between two calls of a process that nobody answers
_HELLO_SECONDS = 5.0  # in which a caller says who it is
_WORD = "clipin_jax"  # so that process 0 knows its callers, and they know it
_LONGEST = 4096  # bytes of a message


class _Caller(NamedTuple):
    """A process that has come, which waits for the answer."""

    host: str
    line: socket.socket


def meet(place: Place, seconds: float) -> None:
    """Returns when all processes of the run have come.

    Args:
      place: of this process.
      seconds: after which the ones that came give up.

    Raises:
      ClipinError: a process did not come, is there twice, or expects another number of
        processes; nobody answers at the coordinator's address, or it is in use.
    """
    (_receive if place.index == 0 else _call)(place, seconds)


def _receive(place: Place, seconds: float) -> None:
    callers: dict[int, _Caller] = {}
    notice = _Notices()
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(place.address[1]))
        while len(callers) < place.count - 1:
            if time.monotonic() > end:
                problem = _missing(place, callers, seconds)
                raise RetryableError(_refuse(callers, problem))
            notice(lambda: f"{_missing(place, callers)}; this one waits at "
                   f"{place.coordinator}")  # fmt: skip
            with contextlib.suppress(TimeoutError):
                line, _ = server.accept()
                stack.enter_context(line)
                if problem := _greet(place, line, callers):
                    callers[-1] = _Caller("", line)
                    raise ClipinError(_refuse(callers, problem))
        for caller in callers.values():
            _send(caller.line, {"go": True})
        for caller in callers.values():  # who closes first keeps the port busy
            with contextlib.suppress(OSError):
                caller.line.recv(1)


def _listen(port: int) -> socket.socket:
    host = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", "").rpartition(":")[0]
    try:
        server = _server(host.strip("[]"), port)
    except OSError as error:
        raise RetryableError(
            f"process 0 cannot listen at port {port} of {socket.gethostname()} "
            f"({error.strerror or error}): give another port in --coordinator"
        ) from error
    server.settimeout(_RETRY_SECONDS)
    return server


def _server(host: str, port: int) -> socket.socket:
    if host and host != "::":
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # a container without IPv6
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
            )
    return socket.create_server(("", port), backlog=1024)


def _greet(place: Place, line: socket.socket, callers: dict[int, _Caller]) -> str:
    """Adds a caller. Returns what is wrong with it, or ""; strangers are ignored."""
    line.settimeout(_HELLO_SECONDS)
    hello = _read(line)
    if hello is None:
        return ""
    index, count, host = hello["index"], hello["count"], hello["host"]
    if count != place.count:
        return (
            f"process {index} (host {host}) expects {count} processes, but process 0 "
            f"(host {socket.gethostname()}) {place.count}: start all with the same "
            "--processes"
        )
    if index in callers and not _has_left(callers[index].line):
        return (
            f"process {index} came twice, from the hosts {callers[index].host} and "
            f"{host}: give each process its own --process"
        )
    callers[index] = _Caller(host, line)
    return ""


def _has_left(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        line.settimeout(_HELLO_SECONDS)


def _refuse(callers: dict[int, _Caller], problem: str) -> str:
    """Tells the callers why the run will not start; returns it."""
    for caller in callers.values():
        _send(caller.line, {"problem": problem})
    return problem


def _missing(place: Place, callers: dict[int, _Caller], seconds: float = 0) -> str:
    absent = [str(i) for i in range(1, place.count) if i not in callers]
    named = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
    text = f"{len(absent)} of {place.count} processes have not come: {named}"
    if not seconds:
        return text
    return (
        f"{text}; after {seconds:g} s the others give up. Look at their output, and "
        f"whether their hosts reach {place.coordinator}"
    )


def _call(place: Place, seconds: float) -> None:
    notice, end = _Notices(), time.monotonic() + seconds
    hello = {"index": place.index, "count": place.count, "host": socket.gethostname()}
    while True:
        reason = ""
        try:
            with socket.create_connection(place.address, _HELLO_SECONDS) as line:
                _send(line, hello)
                line.settimeout(max(1.0, end + _HELLO_SECONDS - time.monotonic()))
                answer = _read(line)
            if answer is not None and "problem" in answer:
                raise ClipinError(answer["problem"])
            if answer is not None:
                return
        except OSError as error:
            reason = f" ({error.strerror or error})"
        text = f"process {place.index} waits for process 0 at {place.coordinator}"
        if time.monotonic() > end:
            raise RetryableError(
                f"{text}, but nobody answers there for {seconds:g} s{reason}: start "
                "process 0 on that host, or correct --coordinator"
            )
        notice(lambda text=text, reason=reason: f"{text}{reason}")
        time.sleep(_RETRY_SECONDS)


def _send(line: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it has gone, which the other side will tell
        line.sendall(json.dumps({"program": _WORD, **message}).encode() + b"\n")


def _read(line: socket.socket) -> dict[str, Any] | None:
    """Returns a message; None if the other side is no process of a run."""
    try:
        with line.makefile("rb") as file:
            message = json.loads(file.readline(_LONGEST))
        return message if message["program"] == _WORD else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


class _Notices:
    """Prints a line now and then, so that no wait is silent."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _NOTICE_SECONDS

    def __call__(self, text: Callable[[], str]) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _NOTICE_SECONDS
            print(f"clipin: {text()}", file=sys.stderr, flush=True)

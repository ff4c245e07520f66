import re
import socket
import threading

import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.processes.meeting import meet
from clipin_jax.processes.place import Place


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def together(*places, seconds=20.0):
    """Lets processes meet as threads; returns how it ended for each, "" for well."""
    results = [""] * len(places)

    def one(number):
        try:
            meet(places[number], seconds)
        except ClipinError as error:
            results[number] = str(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(places))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def test_all_come(port):
    places = [Place(f"127.0.0.1:{port}", 3, index) for index in range(3)]
    assert together(*places) == ["", "", ""]
    assert together(*places[::-1]) == ["", "", ""]  # the port is free again


def test_one_is_absent(port):
    places = [Place(f"127.0.0.1:{port}", 3, index) for index in (0, 1)]
    first, second = together(*places, seconds=1.0)
    assert re.match("1 of 3 processes have not come: 2; after 1 s the others", first)
    assert second == first


def test_nobody_answers(port):
    [message] = together(Place(f"127.0.0.1:{port}", 2, 1), seconds=0.5)
    assert f"waits for process 0 at 127.0.0.1:{port}, but nobody answers" in message
    assert "Connection refused" in message


def test_another_number_of_processes(port):
    address = f"127.0.0.1:{port}"
    first, second = together(Place(address, 2, 0), Place(address, 4, 1))
    assert re.match(r"process 1 \(host .*\) expects 4 processes, but .* 2: st", first)
    assert second == first


def test_one_comes_twice(port):
    address = f"127.0.0.1:{port}"
    results = together(*(Place(address, 3, index) for index in (0, 1, 1)))
    assert all("process 1 came twice, from the hosts" in text for text in results)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        server.listen()
        [message] = together(Place(address, 2, 0), seconds=1.0)
    assert "cannot listen at port" in message or "have not come" in message


def test_strangers_are_ignored(port):
    address = f"127.0.0.1:{port}"

    def disturb():
        for _ in range(100):
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as line:
                    line.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    return
            except OSError:
                threading.Event().wait(0.02)

    stranger = threading.Thread(target=disturb)
    stranger.start()
    assert together(Place(address, 2, 0), Place(address, 2, 1)) == ["", ""]
    stranger.join()

"""The demo's page among many clients, slow ones and such that hang up: the short form of `benchmarks.load`."""

import contextlib
import socket
import threading
import time

import pytest

from tests import harness

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


def test_ten_clients_beside_a_slow_one_and_such_that_hang_up_get_their_answers():
    from benchmarks import load

    seen = load.run(clients=10, seconds=3.0)
    assert not seen.errors, seen.errors[:3]
    assert len(seen.latencies) >= 10
    assert seen.peak_bytes - seen.first_bytes < 400 * 2**20


def test_an_upload_that_never_ends_is_cut_off():
    from trainers.demo import make_app

    app = make_app(harness.tiny_model(), "tiny", 10_000, 10_000, ["127.0.0.1"], upload_seconds=0.3)
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        with socket.create_connection(listening.getsockname(), timeout=30) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nstart")
            assert client.recv(100).startswith(b"HTTP/1.1 408 ")
        server.should_exit = True
        thread.join()

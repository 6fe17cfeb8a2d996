"""Many clients at once on the demo's page, over real sockets: errors, latencies and memory.

    python -m benchmarks.load --clients 50 --seconds 60

Each client sends images one after the other. Beside them one client sends five bytes a second, and others hang up in
the middle of an upload; the answers to everybody else must be right all the same. The exit status is 1 if one was not.
The network is a tiny one (`tiny_run.make_networks_tiny`): latencies are those of the server, not of a real network.
"""

import contextlib
import dataclasses
import http.client
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO

import numpy as np
import psutil
from absl import flags

from benchmarks import tiny_run
from mtl_keras.viz import encode_png
from trainers import cli

SIDES = ((64, 96), (120, 200))

_SERVE = """
import socket, sys
from benchmarks import tiny_run
tiny_run.make_networks_tiny()
import zoo
from trainers.demo import make_app, make_server
model = zoo.build("joint", encoder="resnet18", aspp=False, skip=False)
app = make_app(model, "load", 2**20, 10**6, ["127.0.0.1"])
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(256)
print(listening.getsockname()[1], flush=True)
make_server(app).run(sockets=[listening])
"""


@dataclasses.dataclass
class Load:
    """What the clients saw.

    Args:
        latencies: seconds of each answer.
        errors: what went wrong, a line each.
        first_bytes: memory of the server before, and `last_bytes` after; `peak_bytes` in between.
    """

    latencies: list[float] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)
    first_bytes: int = 0
    peak_bytes: int = 0
    last_bytes: int = 0

    def __str__(self) -> str:
        if not self.latencies:
            return f"no answers; {len(self.errors)} errors: {self.errors[:3]}"
        p50, p95, p99 = (np.percentile(self.latencies, share) for share in (50, 95, 99))
        first, peak, last = (size / 2**20 for size in (self.first_bytes, self.peak_bytes, self.last_bytes))
        return (
            f"{len(self.latencies)} answers, {len(self.errors)} errors; latency {p50:.3f} s median, {p95:.3f} s 95 %, "
            f"{p99:.3f} s 99 %, {max(self.latencies):.3f} s at most; server's memory {first:.0f} MiB before, "
            f"{peak:.0f} at most, {last:.0f} after"
        )


@contextlib.contextmanager
def served(log: IO[str]) -> Iterator[tuple[int, subprocess.Popen]]:
    """The page on loopback, in a process of its own that writes its log to a file: its port and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        cwd=tiny_run.ROOT,
        env=tiny_run.environment(),
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def ask(port: int, content: bytes) -> dict:
    """Sends an image; raises `RuntimeError` unless the answer is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request("POST", "/predict", content)
        with connection.getresponse() as response:
            body = response.read()
            if response.status != 200:
                raise RuntimeError(f"status {response.status}: {body[:200]!r}")
            return json.loads(body)


def load(port: int, process: subprocess.Popen, clients: int, seconds: float) -> Load:
    """Lets clients ask for a while.

    Args:
        port: the page's.
        process: the server, whose memory is watched.
        clients: how many ask at once.
        seconds: how long.
    """
    rng = np.random.default_rng(0)
    uploads = [encode_png(rng.integers(0, 256, (*side, 3), np.uint8)) for side in SIDES]
    # What each size takes is compiled and allocated.
    expected = [_essence(ask(port, content)) for content in uploads for _ in range(2)][::2]
    seen, server = Load(), psutil.Process(process.pid)
    seen.first_bytes = seen.peak_bytes = server.memory_info().rss
    deadline = time.monotonic() + seconds

    def client(number: int) -> None:
        for index in itertools.count(number):
            if time.monotonic() >= deadline:
                return
            kind, started = index % len(uploads), time.monotonic()
            try:
                if _essence(ask(port, uploads[kind])) != expected[kind]:
                    seen.errors.append("another image's answer")
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                seen.errors.append(f"{type(error).__name__}: {error}")
            seen.latencies.append(time.monotonic() - started)

    others = [(_drip, (port, deadline)), *[(_hang_up, (port, uploads[1], deadline))] * 2]
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    threads += [threading.Thread(target=function, args=arguments) for function, arguments in others]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.peak_bytes = max(seen.peak_bytes, server.memory_info().rss)
        time.sleep(0.1)
    seen.last_bytes = server.memory_info().rss
    return seen


def _essence(answer: dict) -> tuple:
    return answer["height"], answer["width"], answer["semseg"], answer["depth"]


def _drip(port: int, deadline: float) -> None:
    """Sends an upload a byte at a time."""
    with socket.create_connection(("127.0.0.1", port)) as connection, contextlib.suppress(OSError):
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n")
        while time.monotonic() < deadline:
            connection.sendall(b"x")
            time.sleep(0.2)


def _hang_up(port: int, content: bytes, deadline: float) -> None:
    """Drops the connection in the middle of an upload, and before an answer, again and again."""
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    for part in itertools.cycle((content[: len(content) // 2], content)):
        if time.monotonic() >= deadline:
            return
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head + part)
            time.sleep(0.05)


def run(clients: int, seconds: float) -> Load:
    """Starts the page, lets clients ask, and ends it."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        with served(log) as (port, process):
            seen = load(port, process, clients, seconds)
        log.seek(0)
        noise = [line.strip() for line in log if "Traceback" in line or "ERROR" in line]
    seen.errors += [f"the server said: {line}" for line in noise]
    return seen


def main(argv: list[str]) -> int:
    del argv
    seen = run(flags.FLAGS.clients, flags.FLAGS.seconds)
    print(f"{flags.FLAGS.clients} clients, {flags.FLAGS.seconds:g} s, a tiny network: {seen}")
    for error in seen.errors[:10]:
        print(f"  {error}")
    return 1 if seen.errors or not seen.latencies else 0


if __name__ == "__main__":
    flags.DEFINE_integer("clients", 50, "clients at once", lower_bound=1)
    flags.DEFINE_float("seconds", 60.0, "how long they ask", lower_bound=0.1)
    cli.launch(main)

"""The demo's answers, over a real socket."""

import base64
import contextlib
import http.client
import io
import json
import signal
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from mtl_keras.errors import UserError
from mtl_keras.viz import encode_png
from tests import harness
from trainers import demo

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


SILENT_SECONDS = 1.0


def _has_ipv6() -> bool:
    try:
        demo.listen("::1", 0).close()
    except UserError:
        return False
    return True


@pytest.fixture(scope="module")
def model():
    model = harness.tiny_model()
    harness.randomize(model)
    return model


@pytest.fixture(scope="module")
def ask(model):
    """Sends a request to the demo: `ask(method, path, body, **headers)` gives status and body."""
    with serving(model, "127.0.0.1") as request:
        yield request


@contextlib.contextmanager
def serving(model, host):
    """A demo that listens at a host, and a way to ask it."""
    app = demo.make_app(model, "a tiny model", most_bytes=100_000, most_pixels=10_000, hosts=demo.names_of(host))
    with demo.listen(host, 0) as listening:
        address, port = listening.getsockname()[:2]
        server = demo.make_server(app, silent_seconds=SILENT_SECONDS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)

        def request(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(address, port, timeout=60)
            with contextlib.closing(connection):
                connection.request(method, path, body, headers)
                with connection.getresponse() as response:
                    return response.status, response.read()

        request.address = address, port
        yield request
        server.should_exit = True
        thread.join()


def test_connections_that_say_nothing_are_closed_and_keep_nobody_out(ask):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(ask.address)) for _ in range(demo.MOST_CONNECTIONS)]
        silent[0].sendall(b"GET / HTTP/1.1\r\nHost:")
        for connection in silent:
            connection.settimeout(20)
            while connection.recv(1000):
                pass
        assert ask("GET", "/about")[0] == 200


def test_an_image_comes_back_as_classes_and_metres(model, ask):
    image = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8)
    status, body = ask("POST", "/predict", encode_png(image))
    answer = json.loads(body)
    assert status == 200 and (answer["height"], answer["width"]) == (31, 45)
    prediction = model.predict_images(image)
    ids = np.frombuffer(base64.b64decode(answer["maps"]["ids"]), np.uint8).reshape(31, 45)
    metres = np.frombuffer(base64.b64decode(answer["maps"]["metres"]), "<f4").reshape(31, 45)
    np.testing.assert_array_equal(ids, prediction.semseg)
    np.testing.assert_allclose(metres, prediction.depth, rtol=1e-6)
    with Image.open(io.BytesIO(base64.b64decode(answer["depth"]))) as depth:
        assert depth.size == (45, 31)
    assert {name for name, _ in answer["legend"]} == {model.spec.classes[index] for index in np.unique(ids)}


def test_the_page_is_there(ask):
    status, body = ask("GET", "/")
    assert status == 200 and b'type="file"' in body
    assert json.loads(ask("GET", "/about")[1]) == {"text": "a tiny model"}


@pytest.mark.parametrize(
    "content, status, reason",
    [
        (b"no image", 400, "not a PNG or JPEG"),
        (b"", 400, "empty"),
        (encode_png(np.zeros((200, 100, 3), np.uint8)), 400, "megapixels"),
        (b"x" * 200_000, 413, "larger than"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(ask, content, status, reason):
    answered, body = ask("POST", "/predict", content)
    assert answered == status and reason in json.loads(body)["error"]


def test_another_site_cannot_reach_it(ask):
    assert ask("GET", "/", Host="elsewhere.example")[0] == 400


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_it_listens_at_an_ipv6_address(model):
    with serving(model, "::1") as request:
        assert request("GET", "/about", Host="[::1]:7860")[0] == 200


def test_who_listens_everywhere_is_reached_by_any_name(model):
    with serving(model, "0.0.0.0") as request:
        assert request("GET", "/about", Host="machine.example")[0] == 200


def test_where_it_cannot_listen_is_one_line_before_the_model_is_loaded(command):
    """Each with status 2 and no address on stdout, and the commands run side by side."""
    with demo.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        cases = {
            f"--port={port}": f"cannot listen at 127.0.0.1:{port} (Address already in use); give another --port",
            "--host=no.such.invalid": "'no.such.invalid' is no known address",
            "--host=192.0.2.1": "(Cannot assign requested address)",
            "--most_megapixels=nan": "most_megapixels=nan: give a number",
            "--most_megapixels=inf": "most_megapixels=inf: give a number",
        }
        started = {flag: command("demo", "no such run", flag) for flag in cases}
        for flag, message in cases.items():
            output, errors = started[flag].communicate(timeout=120)
            assert started[flag].returncode == 2 and output == "", (flag, errors)
            assert len(errors.splitlines()) == 1 and errors.startswith("error: ") and message in errors, errors


def test_the_command_serves_and_ends_by_ctrl_c_without_a_word(model, tmp_path, command):
    model.save(tmp_path / "tiny.keras")
    with demo.listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    process = command("demo", str(tmp_path / "tiny.keras"), f"--port={port}")
    assert process.stdout.readline().startswith(f"http://127.0.0.1:{port} shows ")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/about")
        assert connection.getresponse().status == 200
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")

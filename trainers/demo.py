"""A page where a person drops an image and sees classes and depth: `python -m trainers.demo RUN`.

Needs `pip install -r requirements-extras.txt`. It listens on this machine alone unless --host says otherwise; uploads
are limited and never written to disk.
"""

import asyncio
import base64
import contextlib
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import zoo
from mtl_keras import viz
from mtl_keras.data.images import BadFile
from mtl_keras.errors import UserError, on_one_line
from mtl_keras.inference import Options, decode_image, predict_batch
from mtl_keras.model import MultiTaskModel
from mtl_keras.viz.panels import classes_present, log_ticks
from trainers import cli

FLAGS = flags.FLAGS
PAGE = Path(__file__).with_name("demo_page.html")
# What the pointer reads need not be finer than the screen.
MAP_WIDTH = 640
# Who sends slower than this is cut off, and so many may be connected at once; others are told to come back.
UPLOAD_SECONDS = 30.0
MOST_CONNECTIONS = 128


def make_app(
    model: MultiTaskModel,
    about: str,
    most_bytes: int,
    most_pixels: int,
    hosts: list[str],
    upload_seconds: float = UPLOAD_SECONDS,
) -> Any:
    """The page and its two answers, `about` and `predict`, as an ASGI application.

    Args:
        model: the model.
        about: one line about it.
        most_bytes: what an upload may have.
        most_pixels: what an image may have.
        hosts: names that the page is asked for by; others are refused, so that no other site can reach it.
        upload_seconds: how long an upload may take.

    Raises:
        UserError: the packages are not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import ClientDisconnect
        from starlette.responses import HTMLResponse, JSONResponse, Response
        from starlette.routing import Route
    except ImportError:
        raise UserError("demo: Starlette is not installed; run: pip install -r requirements-extras.txt") from None
    one_at_a_time = asyncio.Lock()

    def refusal(status: int, reason: str) -> JSONResponse:
        return JSONResponse({"error": reason}, status_code=status)

    async def page(request: Any) -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    async def tell(request: Any) -> JSONResponse:
        return JSONResponse({"text": about})

    async def predict(request: Any) -> Response:
        content = bytearray()
        try:
            async with asyncio.timeout(upload_seconds):
                async for part in request.stream():
                    content += part
                    if len(content) > most_bytes:
                        return refusal(413, f"larger than {most_bytes / 2**20:g} MiB")
        except TimeoutError:
            return refusal(408, f"not sent within {upload_seconds:g} s")
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            # Decoding waits its turn too, or many small files of many pixels would fill the memory together.
            async with one_at_a_time:
                if await request.is_disconnected():
                    return Response(status_code=400)
                return JSONResponse(await run_in_threadpool(answer, bytes(content)))
        except BadFile as error:
            return refusal(400, error.reason)

    def answer(content: bytes) -> dict[str, Any]:
        image = decode_image(content, "upload")
        height, width, _ = image.shape
        if height * width > most_pixels:
            raise BadFile("upload", f"{height}×{width} px, more than {most_pixels / 1e6:g} megapixels")
        return describe(model, image)

    routes = [Route("/", page), Route("/about", tell), Route("/predict", predict, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)])


def describe(model: MultiTaskModel, image: np.ndarray) -> dict[str, Any]:
    """What the page shows of an image, (height, width, 3) uint8."""
    started = time.monotonic()
    (prediction,) = predict_batch(model, image[None], Options())
    seconds = time.monotonic() - started
    spec, (near, far) = model.spec, model.spec.depth_range
    scale = np.geomspace(near, far, 512)[None]
    step = -(-image.shape[1] // MAP_WIDTH)
    ids, metres = prediction.semseg[::step, ::step], prediction.depth[::step, ::step]
    return {
        "height": image.shape[0],
        "width": image.shape[1],
        "seconds": seconds,
        "semseg": _png(viz.overlay(image, prediction.semseg, spec, alpha=0.65)),
        "depth": _png(viz.colorize_depth(prediction.depth, spec.depth_range)),
        "bar": _png(viz.colorize_depth(scale, spec.depth_range)),
        "ticks": [[float(np.log(tick / near) / np.log(far / near)), f"{tick:g} m"] for tick in log_ticks(near, far)],
        "legend": [
            [spec.classes[index], ",".join(map(str, spec.palette[index]))]
            for index in classes_present(prediction.semseg, spec)
        ],
        "maps": {
            "height": ids.shape[0],
            "width": ids.shape[1],
            "classes": list(spec.classes),
            "ids": base64.b64encode(ids.astype("uint8").tobytes()).decode(),
            "metres": base64.b64encode(metres.astype("<f4").tobytes()).decode(),
        },
    }


def _png(picture: np.ndarray) -> str:
    return base64.b64encode(viz.encode_png(picture)).decode()


def names_of(host: str) -> list[str]:
    """What a page that listens on an address may be asked for by; on all of them ("0.0.0.0", "::") by any name."""
    return ["*"] if host in ("0.0.0.0", "::") else ["localhost", "127.0.0.1", _in_url(host)]


def _in_url(host: str) -> str:
    """An address as URLs and the Host header have it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a host's address, of several at the IPv4 one.

    Raises:
        UserError: there is no such host, or nothing can listen there.
    """
    try:
        family, *_, address = min(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
    except (OSError, UnicodeError):
        raise UserError(f"host: '{on_one_line(host)}' is no known address; give one, such as 127.0.0.1") from None
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # without the address, which the host's stands for
        raise UserError(
            f"port: cannot listen at {_in_url(host)}:{port} ({reason}); give another --port or --host"
        ) from None


def make_server(app: Any, silent_seconds: float = UPLOAD_SECONDS) -> Any:
    """The server of an application.

    Args:
        app: as `make_app` gives it.
        silent_seconds: after so long a connection that has not sent the head of a request is closed.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ImportError:
        raise UserError("demo: uvicorn is not installed; run: pip install -r requirements-extras.txt") from None

    class Impatient(H11Protocol):
        """Keeps nobody who says nothing: they count among those that may be connected."""

        def connection_made(self, transport):
            super().connection_made(transport)
            self.loop.call_later(silent_seconds, self._close_if_silent)

        def _close_if_silent(self):
            if self.cycle is None:
                self.transport.close()

    config = uvicorn.Config(app, http=Impatient, log_level="warning", limit_concurrency=MOST_CONNECTIONS)
    return uvicorn.Server(config)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise UserError("give one run, such as `python -m trainers.demo runs/NAME`")
    with listen(FLAGS.host, FLAGS.port) as listening:
        model = zoo.load(arguments[0])
        about = f"{Path(arguments[0]).resolve().name}: {model.name} topology, trained on {model.spec.name}"
        hosts = names_of(FLAGS.host)
        app = make_app(model, about, FLAGS.most_megabytes * 2**20, int(FLAGS.most_megapixels * 1e6), hosts)
        server = make_server(app)
        print(f"http://{_in_url(FLAGS.host)}:{FLAGS.port} shows {about}; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


if __name__ == "__main__":
    flags.DEFINE_string("host", "127.0.0.1", "address to listen on, 0.0.0.0 for all; this machine alone by default")
    flags.DEFINE_integer("port", 7860, "port to listen on", lower_bound=1, upper_bound=65535)
    flags.DEFINE_integer("most_megabytes", 20, "largest upload, MiB", lower_bound=1)
    flags.DEFINE_float("most_megapixels", 16.0, "largest image, millions of pixels", lower_bound=0.01)
    flags.register_validator("most_megapixels", lambda value: math.isfinite(value * 1e6), "give a number, such as 16")
    cli.launch(main, takes_arguments=True)

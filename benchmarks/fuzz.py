"""Feeds every parser of our own with bytes that no writer made.

    python -m benchmarks.fuzz --seconds 30

Each parser may refuse its input by the exception that says what is wrong, on one line; anything else is a find, and is
printed with the bytes that led to it. Where atheris is installed (`pip install atheris`), libFuzzer chooses the inputs
by the code that they reach; without it, known good inputs are mutated at random. The exit status is 1 after a find.
"""

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

from absl import flags


def _instrumented():
    return atheris.instrument_imports(include=["mtl_keras", "zoo", "trainers"]) if atheris else contextlib.nullcontext()


with _instrumented():
    import numpy as np

    from mtl_keras.callbacks import read_metrics
    from mtl_keras.checkpoints import read_tensors
    from mtl_keras.data.archives import SourceFile
    from mtl_keras.data.cityscapes import Frame, _read_camera
    from mtl_keras.data.depth_encoding import ENCODINGS, decode_depth, encode_inverse_depth
    from mtl_keras.data.folder import Description
    from mtl_keras.data.images import BadFile, open_image
    from mtl_keras.data.spec import DataSpec
    from mtl_keras.errors import UserError
    from mtl_keras.event_writer import EventWriter
    from mtl_keras.inference import decode_image
    from trainers import cli
    from trainers.config import read_config
    from trainers.submission import read_json
    from zoo.study import read_study

Target = Callable[[bytes], None]

_SCRATCH = tempfile.TemporaryDirectory(prefix="fuzz-")
_LONGEST = 4096


def _file(data: bytes, name: str) -> Path:
    path = Path(_SCRATCH.name) / name
    path.write_bytes(data)
    return path


def _camera(data: bytes) -> None:
    file = SourceFile(_file(data, "a_camera.json"))
    assert _read_camera(Frame("a", file, None, None, file, file)) > 0  # noqa: S101


def _folder(data: bytes, name: str) -> None:
    facts = Description.read(_file(data, name))
    DataSpec.from_dict(json.loads(json.dumps(facts.spec().to_dict())))


def _study(data: bytes) -> None:
    study = read_study(_file(data, "study.toml"))
    for variant in study.variants:
        study.settings(variant)


def _depth(data: bytes) -> None:
    codes = np.frombuffer(data[: len(data) // 2 * 2], np.uint8)
    for encoding in ENCODINGS:
        metres = decode_depth(codes if encoding == "inverse" else codes.view(np.uint16), encoding, 0.5, (4.0, 300.0))
        inside = (metres == 0) | ((metres >= 4) & (metres <= 300))
        assert inside.all()  # noqa: S101
    with np.errstate(all="ignore"):
        encode_inverse_depth(np.frombuffer(data[: len(data) // 8 * 8]))


def _event_name(data: bytes) -> None:
    """A folder of event files may hold any file."""
    with tempfile.TemporaryDirectory(dir=_SCRATCH.name) as folder:
        name = "events.out.tfevents." + data[:100].decode("utf-8", "replace").replace("/", "_").replace("\0", "_")
        with contextlib.suppress(OSError):
            (Path(folder) / name).touch()
        EventWriter(folder, purge_step=1).close()


TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "config": (
        lambda data: read_config(_file(data, "config.json")),
        [b'{"arch": "joint", "crop": [64, 64], "dilation": [false, true, true], "learning_rate": 1e-3}'],
    ),
    "folder_toml": (
        lambda data: _folder(data, "dataset.toml"),
        [
            b'classes = ["a", "b"]\npalette = [[1, 2, 3], [4, 5, 6]]\n'
            b'depth_range = [0.5, 80.0]\nimages = "{split}/{id}.*"'
        ],
    ),
    "folder_json": (
        lambda data: _folder(data, "dataset.json"),
        [b'{"classes": ["a"], "depth_scale": 0.001, "labels": "x/{id}.png", "depth_encoding": "inverse"}'],
    ),
    "study": (
        _study,
        [
            b'title = "t"\nquestion = "q"\n[base]\narch = "joint"\n[[runs]]\nname = "a"\nsettings = {crop = [64, 64]}\n'
            b'[runs.printed]\ngrader = "1.5 (x)"\nsemseg = "2"\ndepth = "3"\nrun = "r"\n'
            b'[[expected]]\nbetter = "a"\nworse = []'
        ],
    ),
    "camera": (_camera, [b'{"extrinsic": {"baseline": 0.2}, "intrinsic": {"fx": 2262.5}}']),
    "metrics": (
        lambda data: read_metrics(_file(data, "metrics.csv")),
        [b"epoch,step,val_grader\n1,4,50.5\n2,8,nan\n"],
    ),
    "archive": (lambda data: read_json(_file(data, "a.zip"), "config.json"), []),
    "checkpoint": (lambda data: read_tensors(_file(data, "a.safetensors")), []),
    "image": (lambda data: decode_image(data, "a"), []),
    "stored_image": (lambda data: np.asarray(open_image(data, "a")), []),
    "depth": (_depth, [bytes(range(256))]),
    "event_name": (_event_name, [b"0001700000000.host.12", b"99999999999999999999.x"]),
}


def _seeds_from_libraries() -> None:
    """Good inputs that take a library to write."""
    import io
    import zipfile

    import safetensors.numpy
    from PIL import Image

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", '{"arch": "joint"}')
    TARGETS["archive"][1].append(archive.getvalue())
    tensors = {"a": np.arange(6, dtype="float32").reshape(2, 3)}
    TARGETS["checkpoint"][1].append(safetensors.numpy.save(tensors, metadata={"step": "3"}))
    for kind, mode in (("PNG", "P"), ("PNG", "I;16"), ("PNG", "RGB"), ("JPEG", "RGB"), ("JPEG", "CMYK")):
        picture = io.BytesIO()
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert(mode).save(picture, kind)
        for name in ("image", "stored_image"):
            TARGETS[name][1].append(picture.getvalue())


_seeds_from_libraries()


def check(name: str, data: bytes) -> None:
    """Feeds a parser; raises unless it takes the input, or refuses it on one line."""
    try:
        TARGETS[name][0](data)
    except (UserError, BadFile) as error:
        if "\n" in str(error):
            raise AssertionError(f"{name}: more than a line: {error!r}") from error


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A good input after a few random edits: bits, bytes, stretches copied, cut or doubled."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(changed) + 1), rng.randint(1, 8)
        edit = rng.randrange(5)
        if edit == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif edit == 1:
            changed[place : place + length] = rng.randbytes(length)
        elif edit == 2:
            del changed[place : place + length]
        elif edit == 3:
            changed[place:place] = changed[place : place + length] * rng.choice((1, 2, 50))
        else:
            changed[place:place] = rng.choice(
                (b"[" * 3000, b"9" * 400, b"\0", b'"', b"{", b"1e999", b"-1", b"\xff", b"null")
            )
    return bytes(changed[:_LONGEST])


def fuzz(name: str, seconds: float, seed: int = 0) -> int:
    """Mutates the good inputs of a parser for a while; returns how many inputs it was given."""
    rng, deadline, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        data = mutated(rng.choice(TARGETS[name][1]), rng)
        try:
            check(name, data)
        except Exception:
            print(f"{name}: found by {data!r}", file=sys.stderr)
            raise
        count += 1
    return count


def _fuzz_by_coverage(name: str, seconds: float) -> int:
    """Hands a parser to libFuzzer, which takes its process with it."""
    corpus = Path(_SCRATCH.name) / "corpus"
    corpus.mkdir()
    for index, seed in enumerate(TARGETS[name][1]):
        (corpus / str(index)).write_bytes(seed)
    options = [f"-max_total_time={int(seconds)}", f"-max_len={_LONGEST}", "-rss_limit_mb=4096", "-timeout=20"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={_SCRATCH.name}/", str(corpus)], lambda d: check(name, d))
    atheris.Fuzz()
    return 0


def main(argv: list[str]) -> int:
    del argv
    names, seconds = flags.FLAGS.target or list(TARGETS), flags.FLAGS.seconds
    if len(names) == 1 and atheris:
        return _fuzz_by_coverage(names[0], seconds)
    found = []
    for name in names:
        command = [sys.executable, "-m", "benchmarks.fuzz", f"--target={name}", f"--seconds={seconds:g}"]
        if not atheris:
            print(f"{name:<14}{fuzz(name, seconds)} inputs, mutated at random", flush=True)
            continue
        done = subprocess.run(command, capture_output=True, text=True)
        last = [line for line in done.stderr.splitlines() if "cov:" in line or "Done" in line]
        print(f"{name:<14}{'finds' if done.returncode else 'clean'}  {' '.join(last[-1:])}", flush=True)
        if done.returncode:
            found.append(name)
            print(done.stderr[-3000:])
    return 1 if found else 0


if __name__ == "__main__":
    flags.DEFINE_multi_enum("target", None, list(TARGETS), "a parser; all by default")
    flags.DEFINE_float("seconds", 20.0, "time for each", lower_bound=0.1)
    cli.launch(main)

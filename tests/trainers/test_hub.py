"""Pushing and pulling runs against a folder that stands for the hub."""

import dataclasses
import fnmatch
import io
from pathlib import Path

import numpy as np
import pytest

import zoo
from mtl_keras import UserError
from mtl_keras.checkpoints import weights_of
from tests.runs import decisive_model, write_run
from trainers import card
from trainers.config import RunConfig, read_config
from trainers.hub import pull, push
from trainers.portable import without_places


class Hub:
    """The calls that are made of the hub, over a local folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def create_repo(self, repository, *, private, exist_ok):
        assert exist_ok
        (self.folder / repository).mkdir(parents=True, exist_ok=True)

    def create_commit(self, repository, operations, *, commit_message):
        for operation in operations:
            path = self.folder / repository / operation.path_in_repo
            path.parent.mkdir(parents=True, exist_ok=True)
            source = operation.path_or_fileobj
            path.write_bytes(source.read() if isinstance(source, io.BytesIO) else Path(source).read_bytes())
        return f"https://hub/{repository}"

    def download(self, repository, *, revision, local_dir, allow_patterns):
        for path in (self.folder / repository).rglob("*"):
            name = path.relative_to(self.folder / repository).as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                (Path(local_dir) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(local_dir) / name).write_bytes(path.read_bytes())


@pytest.fixture(scope="module")
def run(module_path):
    """A run whose configuration and card name places on this machine."""
    model, places = decisive_model("joint"), {name: str(module_path / name) for name in ("data_dir", "cache_dir")}
    run = write_run(module_path, model, arch="joint", **places)
    metrics = dict.fromkeys(("grader", "miou", "silog", "loss", "semseg_loss", "depth_loss"), 1.0)
    history = [{"epoch": 1, "seconds": 60.0, **metrics}]
    card.write(run, read_config(run.config), model, history, {"epoch": 1, "metrics": metrics}, None)
    return run


def test_a_run_comes_back_with_the_same_weights(run, tmp_path):
    (run.checkpoints / "step-0000000001-0123456789abcdef.safetensors").write_bytes(b"a state of training")
    hub = Hub(tmp_path / "hub")
    assert push(str(run.path), "someone/streets", api=hub) == "https://hub/someone/streets"
    pushed = {path.relative_to(hub.folder / "someone/streets").as_posix() for path in hub.folder.rglob("*.*")}
    assert {"README.md", "config.json", "checkpoints/best.safetensors"} == pushed
    (hub.folder / "someone/streets" / "evil.py").write_text("raise SystemExit")

    pulled = pull("someone/streets", str(tmp_path / "runs"), download=hub.download)
    assert pulled.path == tmp_path / "runs" / "streets" and not (pulled.path / "evil.py").exists()
    assert pulled.path.stat().st_mode == run.path.stat().st_mode
    expected_config = dataclasses.replace(read_config(run.config), runs_dir="runs", data_dir=None, cache_dir=None)
    assert read_config(pulled.config) == expected_config
    expected = weights_of(zoo.load(run.path))
    actual = weights_of(zoo.load(pulled.path))
    assert all(np.array_equal(actual[name], expected[name]) for name in expected)
    push(str(pulled.path), "another/streets", api=hub)
    assert (hub.folder / "another/streets/README.md").read_text().count("library_name: keras") == 1
    with pytest.raises(UserError, match="exists already"):
        pull("someone/streets", str(tmp_path / "runs"), download=hub.download)


def test_the_card_tells_the_hub_what_it_is_and_nothing_of_this_machine(run, tmp_path, monkeypatch):
    assert run.card.read_text().count(str(run.path.parent)) == 4
    # Under another path than the one that the card names.
    monkeypatch.chdir(run.path)
    push(".", "someone/streets", api=Hub(tmp_path))
    pushed = (tmp_path / "someone/streets/README.md").read_text()
    assert pushed.startswith("---\nlibrary_name: keras\n") and pushed.count("\n---\n") == 1
    assert str(run.path.parent) not in pushed
    assert f'zoo.load("runs/{run.path.name}")' in pushed and '"encoder": "resnet18"' in pushed


def test_the_card_says_what_the_ids_mean_and_how_far_depth_reaches(run):
    said = run.card.read_text()
    assert "Classes by id: 0 road, 1 sidewalk, 2 building," in said and ", 18 bicycle. Depth: 4–300 m." in said


def test_what_is_no_run_leaves_nothing(tmp_path):
    hub = Hub(tmp_path / "hub")
    hub.create_repo("someone/else", private=False, exist_ok=True)
    with pytest.raises(UserError, match="holds no run"):
        pull("someone/else", str(tmp_path / "runs"), download=hub.download)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_hub_that_refuses_is_one_line(run):
    class Refusing(Hub):
        def create_repo(self, *arguments, **options):
            raise PermissionError("401 Client Error\nRequest ID: 1")

    with pytest.raises(UserError, match="someone/streets: cannot be pushed to .401 Client Error") as refused:
        push(str(run.path), "someone/streets", api=Refusing(Path()))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["imagenet", "timm/resnet18.a1_in1k", "timm/resnet34.tv_in1k", "keras_hub/resnet_18_imagenet"]
)
def test_published_weights_keep_their_names_and_files_do_not(name):
    assert without_places(RunConfig(pretrained=name)).pretrained == name
    others = ("imagenet-weights/mine.pth", "keras_hub//etc/weights", "keras_hub/hf://someone/model", "timm/../secret")
    for path in (f"./{name}", *others):
        assert without_places(RunConfig(pretrained=path)).pretrained is None

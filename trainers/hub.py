"""Runs to the Hugging Face hub and back.

`python -m trainers.hub push RUN OWNER/NAME` uploads a run's card, configuration, metrics, pictures and best checkpoint;
`python -m trainers.hub pull OWNER/NAME` makes a run folder of them, which every command takes. Log in with `hf auth
login`, or set HF_TOKEN.
"""

import io
import re
import shutil
from pathlib import Path
from typing import Any

from absl import flags

from mtl_keras.errors import UserError, first_line
from mtl_keras.files import new_folder, write_text
from trainers import cli, portable
from trainers.run_folder import RunFolder, open_run

FLAGS = flags.FLAGS

# What of a run is of use elsewhere; never states of training, and nothing that could hold code.
PATTERNS = (
    "README.md",
    "config.json",
    "metrics.csv",
    "checkpoints/best.safetensors",
    "pictures/*.png",
    "evaluations/*/*.json",
    "evaluations/*/*.md",
    "evaluations/*/*.png",
)
_NEEDED = ("config.json", "checkpoints/best.safetensors")


def push(path: str, repository: str, *, private: bool = False, api: Any = None) -> str:
    """Uploads a run in one commit, made anew or on top of what is there.

    Args:
        path: the run's folder.
        repository: OWNER/NAME.
        private: whether a new repository can be seen by its owner alone.
        api: stands for `huggingface_hub.HfApi()`.

    Returns:
        Where it is now.

    Raises:
        UserError: no run, no checkpoint yet, no log-in, or a hub that cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    run, config = open_run(path)
    if not run.best.is_file():
        raise UserError(f"{path}: no checkpoint in it yet; let an epoch finish")
    files = sorted({file for pattern in PATTERNS for file in run.path.glob(pattern) if file.is_file()})
    contents: dict[str, Any] = {file.relative_to(run.path).as_posix(): str(file) for file in files}
    for name, text in portable.texts(run, config).items():
        if name == run.card.name:
            # A run that was pulled has some already.
            text = front_matter(config) + re.sub(r"\A---\n.*?\n---\n\n?", "", text, flags=re.DOTALL)
        contents[name] = io.BytesIO(text.encode())
    operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
    api = api or HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.create_commit(repository, operations, commit_message=f"Add {run.path.resolve().name}"))
    except Exception as error:
        raise UserError(
            f"{repository}: cannot be pushed to ({first_line(error)}); log in with `hf auth login`"
        ) from error


def pull(repository: str, runs_dir: str, *, revision: str | None = None, download: Any = None) -> RunFolder:
    """Downloads a run that was pushed, as a new run folder.

    Args:
        repository: OWNER/NAME.
        runs_dir: where the folder is made, by the repository's name.
        revision: a branch, tag or commit.
        download: stands for `huggingface_hub.snapshot_download`.

    Raises:
        UserError: it is here already, is no run, or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    target = Path(runs_dir) / repository.rpartition("/")[2]
    if target.exists():
        raise UserError(f"{target}: exists already; remove it, or give another --runs_dir")
    with new_folder(target) as folder:
        try:
            (download or snapshot_download)(
                repository, revision=revision, local_dir=folder, allow_patterns=list(PATTERNS)
            )
        except Exception as error:
            raise UserError(f"{repository}: cannot be pulled ({first_line(error)}); check its name") from error
        if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
            raise UserError(f"{repository}: holds no run ('{missing[0]}' is missing); give one that was pushed")
        if links := [path.name for path in folder.rglob("*") if path.is_symlink()]:
            raise UserError(f"{repository}: holds a link ('{links[0]}'), which a run that was pushed never does")
        pulled, config = open_run(str(folder))
        write_text(pulled.config, portable.without_places(config).to_json())
        # What the download keeps for itself stays behind.
        shutil.rmtree(folder / ".cache", ignore_errors=True)
    return RunFolder(target)


def front_matter(config: Any) -> str:
    """What the hub reads of a card: library, task, licence and tags."""
    tags = ("semantic-segmentation", "depth-estimation", "multi-task-learning", config.arch, config.encoder)
    lines = ["---", "library_name: keras", "pipeline_tag: image-segmentation", "license: apache-2.0", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---", "", ""])


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["push"] and len(arguments) == 3:
        print(push(arguments[1], arguments[2], private=FLAGS.private))
    elif arguments[:1] == ["pull"] and len(arguments) == 2:
        print(pull(arguments[1], FLAGS.runs_dir, revision=FLAGS.revision).path)
    else:
        raise UserError("give `push RUN OWNER/NAME` or `pull OWNER/NAME`")


if __name__ == "__main__":
    flags.DEFINE_bool("private", False, "push: a new repository can be seen by its owner alone")
    flags.DEFINE_string("revision", None, "pull: a branch, tag or commit")
    flags.DEFINE_string("runs_dir", "runs", "pull: where the run's folder is made")
    cli.launch(main, takes_arguments=True)

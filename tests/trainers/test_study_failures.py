"""Why a study's runs died, and studies that would write over one another."""

import pytest

from mtl_keras.errors import UserError
from trainers.scheduling import failures
from trainers.scheduling.engines import SITTING
from trainers.scheduling.ledger import Ledger, refuse_namesake
from zoo.study import read_study


@pytest.mark.parametrize(
    "status, log, reason",
    [
        (-9, "step 3", "killed, most likely for want of memory"),
        (-6, "", "ended by signal 6 (Aborted)"),
        (
            2,
            "loading\nerror: crop: 65,65 is not a multiple; give 80,80",
            "crop: 65,65 is not a multiple; give 80,80",
        ),
        (1, "Traceback\n  File\nKeyError: 'x'", "KeyError: 'x'"),
        (
            1,
            "Traceback\njaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes",
            "out of memory",
        ),
        (1, "Traceback\nMemoryError: Unable to allocate 3 GiB", "out of memory"),
        (1, "", "exit status 1"),
    ],
)
def test_the_reason_is_one_line(tmp_path, status, log, reason):
    path = tmp_path / "run.log"
    path.write_text(f"{SITTING}-m trainers.fit\nerror: of the sitting before\n{SITTING}-m trainers.fit\n{log}\n")
    found = failures.reason(status, path)
    assert found.startswith(reason) and "\n" not in found


def test_memory_is_to_be_saved_by_smaller_batches_that_are_accumulated(tmp_path):
    reason = failures.reason(-9, tmp_path / "none")
    assert reason.endswith("; lower --batch_size, and raise --accumulate by the same factor")


def test_two_files_of_one_name_do_not_share_a_ledger(tmp_path):
    studies = []
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        path = tmp_path / place / "mine.toml"
        path.write_text('title = "Mine"\nquestion = "?"\n[[runs]]\nname = "a"\n')
        studies.append(read_study(path))
    one, other = studies
    folder = tmp_path / "ledger"
    refuse_namesake(other, folder)
    Ledger.of(one, "report", []).write(folder)
    refuse_namesake(one, folder)
    with pytest.raises(UserError, match=f"{folder} is that of {one.path}; rename the file"):
        refuse_namesake(other, folder)
    (tmp_path / "one" / "mine.toml").unlink()
    refuse_namesake(other, folder)


def test_a_file_does_not_take_the_name_of_a_study_of_the_library(tmp_path):
    path = tmp_path / "branched.toml"
    path.write_text('title = "Mine"\nquestion = "?"\n[[runs]]\nname = "a"\n')
    with pytest.raises(UserError, match="the library has a study of this name"):
        read_study(path)

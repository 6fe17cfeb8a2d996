"""What a run's lines say."""

import io

import pytest
from rich.console import Console

from mtl_keras import progress


@pytest.fixture
def clock(monkeypatch):
    """Time that goes as the test says."""

    class Time:
        now = 1000.0

        def monotonic(self):
            return self.now

    time = Time()
    monkeypatch.setattr(progress, "time", time)
    return time


@pytest.mark.parametrize(("before", "share"), [(0.0, "25 %"), (50.0, "25 %")])
def test_an_epochs_line_tells_which_share_of_its_training_waited_for_data(clock, before, share):
    """20 s of training, 5 of which waited, and 10 s of validation, whose waiting does not count."""
    written = io.StringIO()
    waited = [before]
    bar = progress.ProgressBar(3, 10, console=Console(file=written, width=150), waited=lambda: waited[0])
    logs = {"loss": 1.5, "miou": 20.0, "silog": 45.0, "grader": 5.0}
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    clock.now, waited[0] = clock.now + 20, before + 5
    bar.on_test_begin()
    clock.now, waited[0] = clock.now + 10, before + 9
    bar.on_epoch_end(0, {**logs, **{f"val_{name}": value for name, value in logs.items()}})
    bar.on_train_end()
    header, line = (text for text in written.getvalue().splitlines() if text.strip())
    assert line.split()[-4:] == ["30", "s", *share.split()]
    assert header.index("wait") + len("wait") == line.index("25") + len("25 %")


def test_the_watch_sees_the_logs_when_they_are_read_and_only_then(clock):
    seen = []
    bar = progress.ProgressBar(1, 10, console=Console(file=io.StringIO()), watch=seen.append)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for step in range(10):
        clock.now += 0.3
        bar.on_train_batch_end(step, {"loss": float(step)})
    bar.close()
    assert [values["loss"] for values in seen] == [0.0, 4.0, 8.0]

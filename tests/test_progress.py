"""What a run's lines say."""

import io
import re

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
    _, header, line = (text for text in written.getvalue().splitlines() if text.strip())
    assert line.split()[-4:] == ["30", "s", *share.split()]
    assert header.index("wait") + len("wait") == line.index("25") + len("25 %")


class Device:
    """Takes steps that the host does not wait for, and runs them one by one; reading a step's logs waits for it."""

    def __init__(self, clock, seconds: float, monkeypatch):
        self.clock = clock
        self.seconds = seconds
        self.free_at = clock.now
        self.handed, self.read = 0, []
        monkeypatch.setattr(progress, "numbers", self.numbers)

    def hand_over(self) -> dict:
        """Takes the host 50 ms."""
        self.clock.now += 0.05
        self.free_at = max(self.free_at, self.clock.now) + self.seconds
        self.handed += 1
        return {"step": self.handed, "done_at": self.free_at}

    def numbers(self, logs) -> dict[str, float]:
        self.read.append((logs["step"], self.handed))
        self.clock.now = max(self.clock.now, logs["done_at"])
        return {"loss": float(logs["step"])}


def test_a_slow_devices_bar_moves_with_every_step_and_never_has_it_wait(clock, monkeypatch):
    """The host hands steps over twenty times as fast as the device takes them."""
    device, seen = Device(clock, seconds=1.2, monkeypatch=monkeypatch), []
    bar = progress.ProgressBar(1, 30, console=Console(file=io.StringIO()), watch=seen.append)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for step in range(30):
        bar.on_train_batch_end(step, device.hand_over())
    bar.close()
    assert [values["loss"] for values in seen] == [*range(1, 30)]
    assert all(handed == step + 1 for step, handed in device.read)


def test_a_fast_devices_logs_are_read_about_once_a_second(clock, monkeypatch):
    device = Device(clock, seconds=0.001, monkeypatch=monkeypatch)
    bar = progress.ProgressBar(1, 2000, console=Console(file=io.StringIO()))
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for step in range(2000):  # 100 seconds
        bar.on_train_batch_end(step, device.hand_over())
    bar.close()
    assert 90 <= len(device.read) <= 110


def test_the_time_left_is_known_after_two_steps_however_slow(clock, monkeypatch):
    device = Device(clock, seconds=40, monkeypatch=monkeypatch)
    console = Console(file=io.StringIO(), force_terminal=True, get_time=clock.monotonic)
    bar = progress.ProgressBar(1, 10, console=console)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for step in range(5):
        bar.on_train_batch_end(step, device.hand_over())
    remaining = bar._bar.tasks[0].time_remaining
    bar.close()
    assert remaining == pytest.approx(6 * 40, rel=0.05)


@pytest.mark.parametrize(
    ("width", "shown"), [(80, "loss miou"), (100, "loss miou silog"), (140, "loss miou silog grader")]
)
def test_nothing_is_wider_than_the_terminal(clock, monkeypatch, width, shown):
    """Names, figures of the greatest usual length, and no line that breaks."""
    logs = {"loss": 12.34, "miou": 100.0, "silog": 100.0, "grader": 100.0}
    monkeypatch.setattr(progress, "numbers", lambda values: values)
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None, get_time=clock.monotonic)
    bar = progress.ProgressBar(16, 50, step=750, console=console)
    bar.on_train_begin()
    bar.on_epoch_begin(15)
    for step in range(50):
        clock.now += 2
        bar.on_train_batch_end(step, logs)
    bar._bar.refresh()
    bar.on_test_begin()
    bar.on_epoch_end(15, {**logs, **{f"val_{name}": value for name, value in logs.items()}})
    bar.close()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", written.getvalue())]
    assert max(map(len, lines)) <= width
    running = [line for line in lines if "epoch 16/16" in line][-1]
    assert [word for word in running.split() if word in logs] == shown.split() and "left 0:00:0" in running

"""`python -m trainers.study`: what it plans, what it skips and resumes, and how it takes failure."""

import dataclasses
import fcntl
import io
import json
import signal

import pytest
from rich.console import Console

from mtl_keras.errors import UserError
from tests.trainers import fake_runs
from tests.trainers.waiting import wait_until
from trainers.cli import EXIT_SOME_FAILED, EXIT_STOPPED
from trainers.config import RunConfig
from trainers.scheduling import listing, queue
from trainers.scheduling.ledger import Ledger, RunFolders, State
from trainers.scheduling.plan import identity, plan
from trainers.scheduling.queue import Queue, Stage
from trainers.scheduling.view import View
from zoo.study import read_study, studies

MINIATURE = """
title = "Miniature"
question = "Does the skip connection help?"
columns = { "Skip connection" = "skip" }
[base]
arch = "joint"
aspp = false
[[runs]]
name = "off"
settings = { skip = false }
[[runs]]
name = "on"
settings = { skip = true }
[[expected]]
better = "on"
worse = ["off"]
"""


@pytest.fixture
def miniature(tmp_path):
    path = tmp_path / "miniature.toml"
    path.write_text(MINIATURE, encoding="utf-8")
    return path


class TestPlan:
    def test_task_weights_are_the_reports_five_under_its_other_settings(self):
        runs = plan(read_study("task_weights"), "report", {}, seeds=1)
        weights = [(run.config.loss_weight_semseg, run.config.loss_weight_depth) for run in runs]
        assert weights == [(0.3, 0.7), (0.4, 0.6), (0.5, 0.5), (0.6, 0.4), (0.7, 0.3)]
        for run in runs:
            c = run.config
            assert (c.arch, c.aspp, c.skip, c.dilation, c.pretrained) == ("joint", False, False, (False,) * 3, None)
            assert (c.optimizer, c.learning_rate, c.batch_size, c.epochs) == ("adam", 1e-4, 4, 16)

    def test_the_larger_batch_runs_for_the_reports_32_epochs_and_all_make_the_same_number_of_steps(self):
        runs = plan(read_study("batch_size"), "report", {}, seeds=1)
        assert {run.config.batch_size: run.config.epochs for run in runs}[8] == 32
        assert len({run.config.epochs / run.config.batch_size for run in runs}) == 1

    @pytest.mark.parametrize(
        "one, other",
        [
            ("optimizer/adam_0.0001", "task_weights/s0.5_d0.5"),
            ("optimizer/adam_0.0001", "batch_size/batch_4"),
            ("optimizer/adam_0.0001", "hardcoded/neither"),
            ("hardcoded/both", "decoder/neither"),
            ("decoder/both", "branched/joint"),
            ("branched/branched", "distillation/branched"),
            ("distillation/distillation", "final/final"),
        ],
    )
    def test_runs_that_the_report_carries_over_are_one_run(self, one, other):
        assert identity(self.config(one)) == identity(self.config(other))

    def config(self, path: str) -> RunConfig:
        name, variant = path.split("/")
        (run,) = (run for run in plan(read_study(name), "report", {}, 1) if run.variant == variant)
        return run.config

    def test_each_study_of_the_heads_and_topologies_builds_on_what_the_ones_before_found(self):
        for name in ("decoder", "branched", "distillation", "final"):
            for run in plan(read_study(name), "report", {}, 1):
                assert (run.config.pretrained, run.config.dilation) == ("imagenet", (False, False, True))

    def test_flags_stand_over_the_study_and_seeds_follow_each_other(self):
        given = {"epochs": 2, "dataset": "miniscapes", "seed": 5}
        runs = plan(read_study("batch_size"), "report", given, seeds=2)
        assert [run.seed for run in runs] == [5, 5, 5, 6, 6, 6]
        assert [run.config.epochs for run in runs] == [1, 2, 4] * 2
        assert {run.config.dataset for run in runs} == {"miniscapes"}
        assert [run.label for run in runs][3:] == ["batch_2.seed6", "batch_4.seed6", "batch_8.seed6"]

    def test_pretrained_weights_of_ones_own_go_where_the_study_pretrains(self):
        runs = plan(read_study("hardcoded"), "report", {"pretrained": "runs/encoder"}, seeds=1)
        assert [run.config.pretrained for run in runs] == [None, "runs/encoder", None, "runs/encoder"]

    def test_identity_is_what_decides_the_result(self):
        config = RunConfig()
        same = dataclasses.replace(
            config, name="other", runs_dir="elsewhere", prepared_dir="there", workers=2, profile=5
        )
        assert identity(same) == identity(config) == identity(dataclasses.replace(config, weight_decay=1e-4))
        assert identity(dataclasses.replace(config, seed=1)) != identity(config)

    def test_whole_numbers_are_the_same_setting_with_and_without_a_point(self):
        for name, whole, point in (("clip_norm", 1, 1.0), ("depth_range", (4, 300), (4.0, 300.0))):
            one, other = (dataclasses.replace(RunConfig(), **{name: value}) for value in (whole, point))
            assert identity(one) == identity(other) != identity(RunConfig())

    @pytest.mark.parametrize(
        "given, old, new, message",
        [
            ({"skip": True}, "", "", "'off' and 'on' have the same settings"),
            ({}, "skip = true", "skips = true", "'skips' of run 'off' is no setting of a run|'skips' of run 'on'"),
            ({}, "skip = true", 'skip = true, arch = "foo"', "run 'on': arch: 'foo' is unknown; use one of branched"),
            ({}, "skip = true", 'skip = true, runs_dir = "x"', "'runs_dir' of run 'on' is not a study's to set"),
            ({}, "skip = true", "skip = true, seed = 7", "'seed' of run 'on' is not a study's to set"),
            ({}, "skip = true", 'skip = "yes"', "run 'on': skip: 'yes' is not of type bool"),
            ({}, "skip = true }", "skip = true }\nscale = { arch = 2 }", "'arch' is no number that could be scaled"),
        ],
    )
    def test_what_cannot_be_planned_is_told_in_one_line(self, miniature, given, old, new, message):
        miniature.write_text(MINIATURE.replace(old, new) if old else MINIATURE, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            plan(read_study(miniature), "report", given, seeds=1)

    def test_every_study_can_be_planned_with_every_recipe(self):
        for recipe in ("report", "study"):
            configs = [run.config for name in studies() for run in plan(read_study(name), recipe, {}, 1)]
            assert len({identity(config) for config in configs}) < len(configs)


class TestQueue:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr(queue, "POLL_SECONDS", 0.0)

    @pytest.fixture
    def run_study(self, miniature, tmp_path):
        """Runs the miniature study on an engine; gives its exit status, its queue and what it printed."""

        def run(engine, seeds: int = 1):
            study, runs_dir = read_study(miniature), tmp_path / "runs"
            runs = plan(study, "report", {"runs_dir": str(runs_dir), "epochs": 2}, seeds)
            printed = io.StringIO()
            view = View("miniature", Console(file=printed, width=200), tmp_path)
            ledger = Ledger.of(study, "report", runs)
            self.queue = Queue(ledger, tmp_path / "ledger", runs, RunFolders(runs_dir), engine, view)
            return self.queue.run(), printed.getvalue()

        return run

    def ledger(self, tmp_path) -> Ledger:
        return Ledger.read(tmp_path / "ledger")

    def test_runs_each_once_and_skips_them_afterwards(self, run_study):
        first, second = fake_runs.FakeEngine(), fake_runs.FakeEngine()
        status, printed = run_study(first)
        assert status == 0 and first.started == [("off", "--config"), ("on", "--config")]
        assert "[1/2] off: finished · grader 30.00, mIoU 60.00 %, SI-logRMSE 30.00 · 2m0s" in printed
        assert "2 finished, 0 running, 0 left" in printed.splitlines()[-1]
        assert run_study(second)[0] == 0 and second.started == []

    def test_one_more_seed_runs_the_new_ones_alone(self, run_study):
        run_study(fake_runs.FakeEngine())
        engine = fake_runs.FakeEngine()
        run_study(engine, seeds=2)
        assert [label for label, _ in engine.started] == ["off.seed1", "on.seed1"]

    def test_a_run_that_fails_is_recorded_and_the_study_goes_on(self, run_study, tmp_path):
        status, printed = run_study(
            fake_runs.FakeEngine({"off": 2}, log="error: dataset: 'mars' is unknown; use streets")
        )
        assert status == EXIT_SOME_FAILED
        assert self.ledger(tmp_path).failures == {"off": "dataset: 'mars' is unknown; use streets"}
        assert "1 finished, 0 running, 0 left, 1 failed" in printed.splitlines()[-1]
        assert run_study(fake_runs.FakeEngine())[0] == 0
        assert self.ledger(tmp_path).failures == {}

    def test_runs_that_are_refused_in_the_same_words_end_the_study(self, run_study, tmp_path):
        engine = fake_runs.FakeEngine({"off": 2, "on": 2}, log="error: pretrained: no such file")
        status, printed = run_study(engine, seeds=2)
        assert status == EXIT_SOME_FAILED and [label for label, _ in engine.started] == ["off", "on"]
        assert "0 finished, 0 running, 2 left, 2 failed" in printed.splitlines()[-1]
        assert run_study(fake_runs.FakeEngine(), seeds=2)[0] == 0

    def test_why_a_run_failed_is_known_until_it_starts_again(self, run_study, tmp_path, monkeypatch):
        run_study(fake_runs.FakeEngine({"off": 2}, log="error: out of luck"))
        with monkeypatch.context() as at_once_stopped:
            at_once_stopped.setattr(Queue, "_goes_on", lambda self: False)
            run_study(fake_runs.FakeEngine())
        assert self.ledger(tmp_path).failures == {"off": "out of luck"}

    def test_runs_that_crash_alike_do_not(self, run_study, tmp_path):
        engine = fake_runs.FakeEngine({"off": 1, "on": 1}, log="RuntimeError: out of luck")
        assert run_study(engine, seeds=2)[0] == EXIT_SOME_FAILED
        assert [label for label, _ in engine.started] == ["off", "on", "off.seed1", "on.seed1"]

    def test_a_run_whose_loss_is_no_number_has_failed_though_it_ended_well(self, run_study, tmp_path):
        engine = fake_runs.FakeEngine(loss=float("nan"))
        assert run_study(engine)[0] == EXIT_SOME_FAILED
        assert self.ledger(tmp_path).failures["on"].startswith("the loss is nan from epoch 2 on")
        again = fake_runs.FakeEngine()
        run_study(again)
        assert again.started == [], "the same settings would come to the same end"

    def test_a_job_that_ran_something_else_has_failed(self, run_study, tmp_path):
        class Elsewhere(fake_runs.FakeEngine):
            def start(self, job):
                self._over.append((job, 0))
                job.log.write_text("")

        status, _ = run_study(Elsewhere())
        assert status == EXIT_SOME_FAILED and set(self.ledger(tmp_path).failures) == {"off", "on"}

    def test_runs_of_other_settings_have_files_of_their_own(self, run_study, tmp_path):
        run_study(fake_runs.FakeEngine())
        names = {path.name for path in (tmp_path / "ledger").glob("off*.json")}
        (run,) = (entry.run for entry in self.queue.entries if entry.label == "off")
        assert names == {f"off.{identity(run.config)}.json"}

    def test_a_run_that_was_cut_off_is_resumed(self, run_study):
        status, _ = run_study(fake_runs.FakeEngine({"off": 75}))
        assert status == EXIT_STOPPED
        engine = fake_runs.FakeEngine()
        assert run_study(engine)[0] == 0
        assert engine.started == [("off", "--resume")]

    def test_a_run_that_died_before_its_first_state_is_started_anew(self, run_study, tmp_path):
        (run,) = [run for run in plan_of(tmp_path) if run.variant == "off"]
        fake_runs.create(run.config)
        engine = fake_runs.FakeEngine()
        assert run_study(engine)[0] == 0
        assert engine.started == [("off", "--config"), ("on", "--config")]

    def test_a_half_written_folder_is_passed_over_and_told_of(self, run_study, tmp_path):
        (tmp_path / "runs" / "torn").mkdir(parents=True)
        (tmp_path / "runs" / "torn" / "config.json").write_text('{"arch": "jo', encoding="utf-8")
        assert run_study(fake_runs.FakeEngine())[0] == 0
        ((path, why),) = self.queue.folders.unreadable.items()
        assert path.name == "torn" and "cannot be read as a configuration" in why

    def test_a_run_that_another_process_trains_is_waited_for(self, run_study, tmp_path, monkeypatch):
        monkeypatch.setattr(queue, "ELSEWHERE_SECONDS", 0.0)
        (off, _) = plan_of(tmp_path)
        run = fake_runs.stopped(off.config)

        class OtherFinishesMeanwhile(fake_runs.FakeEngine):
            def start(self, job):
                super().start(job)
                run.model.write_bytes(b"a model")

        engine = OtherFinishesMeanwhile()
        with open(run.lock, "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            status, printed = run_study(engine)
        assert status == 0 and engine.started == [("on", "--config")]
        assert "[1/2] off: in another process" in printed

    def test_its_runs_are_stopped_where_it_cannot_go_on(self, run_study):
        class OnAFullDisk(fake_runs.FakeEngine):
            called: list[str] = []

            def ended(self):
                raise OSError(28, "No space left on device")

            def stop(self):
                self.called.append("stop")

            def close(self):
                self.called.append("close")

        engine = OnAFullDisk()
        with pytest.raises(OSError, match="No space left"):
            run_study(engine)
        assert engine.called == ["stop", "close"]

    def test_time_left_follows_from_the_epochs_so_far(self, run_study):
        run_study(fake_runs.FakeEngine())
        first, second = self.queue.entries
        second.stage, second.rows = Stage.RUNNING, fake_runs.rows(1, 60, 30, seconds=100.0)
        assert self.queue.seconds_left() == 100.0
        second.stage, second.rows = Stage.WAITING, []
        assert self.queue.seconds_left() == 2 * first.seconds / len(first.rows)


def plan_of(tmp_path):
    study = read_study(tmp_path / "miniature.toml")
    return plan(study, "report", {"runs_dir": str(tmp_path / "runs"), "epochs": 2}, 1)


def test_the_list_of_a_dry_run_shows_what_is_varied_what_is_printed_and_what_would_be_done(tmp_path):
    study = read_study("task_weights")
    runs = plan(study, "report", {"runs_dir": str(tmp_path)}, 1)
    fake_runs.finished(runs[0].config)
    fake_runs.stopped(runs[1].config)
    lines = listing.table(study, runs, RunFolders(tmp_path)).splitlines()
    assert lines[1].split() == ["s0.3_d0.7", "0.3", "0.7", "42.52", "skip:", "finished"]
    assert lines[2].split() == ["s0.4_d0.6", "0.4", "0.6", "42.73", "resume"]
    assert lines[3].split() == ["s0.5_d0.5", "0.5", "0.5", "43.686", "†", "run"]
    assert len(lines[1:6]) == 5 and "learning_rate 0.0001" in lines[-1]
    assert list(tmp_path.glob("studies")) == [], "a dry run writes nothing"


def test_a_study_that_is_killed_in_the_middle_completes_with_no_run_done_twice(command, scenes, miniature, tmp_path):
    runs = tmp_path / "runs"
    flags = [*scenes, f"--runs_dir={runs}", "--epochs=1", "--save_steps=1", str(miniature)]

    study = command("study", *flags)
    wait_until(lambda: list(runs.glob("*.on_*/checkpoints/step-*.safetensors")) or study.poll() is not None)
    study.send_signal(signal.SIGTERM)
    output, errors = study.communicate(timeout=240)
    assert study.returncode == 75, errors[-2000:]
    assert "[1/2] off: finished" in output and "[2/2] on: cut off" in output
    (first,) = runs.glob("*.off_*")
    finished_at = (first / "model.keras").stat().st_mtime_ns

    output, errors = (again := command("study", *flags)).communicate(timeout=240)
    assert again.returncode == 0, errors[-2000:]
    assert "[2/2] on: resumed" in output
    assert len(list(runs.glob("*/config.json"))) == 2
    assert all((path.parent / "model.keras").is_file() for path in runs.glob("*/config.json"))
    assert (first / "model.keras").stat().st_mtime_ns == finished_at
    assert json.loads((runs / "studies" / "miniature" / "report" / "study.json").read_text())["failures"] == {}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("optimiser",), "study: 'optimiser' is unknown; use one of optimizer"),
        (("decoder", "--gpus_per_run=1"), "gpus_per_run: is for Ray; add --on=ray, or leave it out"),
    ],
)
def test_the_command_tells_what_is_wrong_in_one_line(command, arguments, message):
    _, errors = (process := command("study", *arguments)).communicate(timeout=240)
    assert process.returncode == 2
    assert errors.strip().splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in errors


def test_crops_that_fit_no_scene_are_refused_before_any_run(command, tmp_path):
    _, errors = (process := command("study", "decoder", f"--runs_dir={tmp_path / 'runs'}")).communicate(timeout=240)
    assert process.returncode == 2
    assert errors.strip().splitlines() == [
        "error: crop: 256,256 is larger than the scenes of streets, 128,256; "
        "give --recipe=study, or --dataset=streets/full"
    ]
    assert not (tmp_path / "runs").exists()


def test_a_place_that_cannot_be_written_to_is_told_in_one_line(command, tmp_path):
    (tmp_path / "file").write_text("")
    _, errors = (
        process := command("study", "decoder", "--recipe=study", f"--runs_dir={tmp_path / 'file' / 'runs'}")
    ).communicate(timeout=240)
    assert process.returncode == 2
    assert errors.strip().splitlines()[-1].startswith(f"error: {tmp_path / 'file'}")
    assert "Traceback" not in errors


def test_a_state_is_finished_before_it_is_anything_else(tmp_path):
    config = RunConfig(runs_dir=str(tmp_path))
    folders = RunFolders(tmp_path)
    assert folders.find(config).state is State.MISSING
    fake_runs.stopped(config)
    assert folders.find(config).state is State.STOPPED
    done = fake_runs.finished(fake_runs.named(config, "done"))
    fake_runs.stopped(config)
    assert folders.find(config).folder.path == done.path

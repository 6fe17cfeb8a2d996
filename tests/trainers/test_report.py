"""`python -m trainers.report`: tables from run folders, made again from copies, and what they say of the noise."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mtl_keras import backend
from mtl_keras.errors import UserError
from tests.harness import tiny_model
from tests.trainers import fake_runs
from trainers import card
from trainers.config import RunConfig, read_config
from trainers.reporting import figures, study_page, tables
from trainers.reporting.results import METRICS, collect, default_out, machine_of
from trainers.reporting.statistics import judge, pooled_noise, spread
from trainers.run_folder import RunFolder
from trainers.scheduling.ledger import LEDGER, Ledger, ledger_folder, rows_of
from trainers.scheduling.plan import plan
from zoo.study import Expected, read_ladders, read_study, studies


def run_study(name: str | Path, runs_dir: Path, metrics: dict[str, list[tuple[float, float]]], failures=None, **given):
    """A study whose variants reached these mIoUs and SI-logRMSEs, one of each a seed."""
    study = read_study(name)
    seeds = max(1, *(len(values) for values in metrics.values()))
    runs = plan(study, "report", {"runs_dir": str(runs_dir), "epochs": 4, **given}, seeds)
    ledger = Ledger.of(study, "report", runs)
    ledger.failures.update(failures or {})
    for run in runs:
        if run.seed < len(metrics.get(run.variant, [])):
            fake_runs.finished(run.config, *metrics[run.variant][run.seed], seconds=3661)
    ledger.write(ledger_folder(runs_dir, study.name, "report"))
    return study


def cells(table: tables.Table) -> list[dict[str, str]]:
    return [dict(zip(table.headings, row, strict=True)) for row in table.rows]


@pytest.fixture
def places(tmp_path):
    return tmp_path / "runs", tmp_path / "out"


def test_the_table_has_the_reports_columns_and_its_numbers_beside_ours(places):
    runs_dir, out = places
    study = run_study("task_weights", runs_dir, {"s0.5_d0.5": [(70.0, 26.0)], "s0.6_d0.4": [(69.0, 27.0)]})
    table = tables.study_table(collect(study, runs_dir, out, None))
    row = cells(table)[2]
    assert (row["Semseg weight"], row["Depth weight"]) == ("0.5", "0.5")
    assert (row["Grader"], row["Semseg"], row["Depth"]) == ("44.000", "70.000", "26.000")
    assert (row["Grader, report"], row["Semseg, report"], row["Depth, report"]) == ("43.686 †", "69.919", "26.333")
    assert (row["Model Size"], row["Duration"]) == (str(fake_runs.PARAMETERS), "4h4m4s")
    assert row["Run"].partition("_")[2].startswith("task-weights.s0.5-d0.5_")
    assert "**44.000**" in table.markdown() and "<b>44.000</b>" in table.html()
    assert cells(table)[0]["Grader"] == "–" and cells(table)[0]["Run"] == "not run yet"
    assert "Semseg − Depth" not in table.headings


def test_only_what_the_report_prints_has_a_column_of_the_reports(places):
    study = run_study("branched", places[0], {"joint": [(60.0, 30.0)]})
    headings = tables.study_table(collect(study, *places, None)).headings
    assert list(headings)[-5:] == ["Run", "Model Size", "Model Size, report", "Duration", "Duration, report"]
    study = run_study("hardcoded", places[0], {"both": [(60.0, 30.0)]})
    assert list(tables.study_table(collect(study, *places, None)).headings)[-2:] == ["Model Size", "Duration"]


def test_sizes_are_products_and_other_numbers_a_list():
    assert tables.shown_value("crop", (96, 128)) == "96×128"
    assert tables.shown_value("aspp_rates", (3, 6, 9)) == "3, 6, 9"
    assert tables.shown_value("dilation", (False, False, True)) == "On"


def test_where_the_grader_is_clamped_the_difference_stands_beside_it(places):
    study = run_study("branched", places[0], {"joint": [(40.0, 45.0)], "branched": [(42.0, 44.0)]})
    joint, branched = cells(tables.study_table(collect(study, *places, None)))
    assert (joint["Grader"], joint["Semseg − Depth"]) == ("5.000", "−5.000")
    assert (branched["Grader"], branched["Semseg − Depth"]) == ("6.000", "−2.000")


def test_the_figures_are_those_of_the_best_grader_whose_weights_the_run_keeps(places):
    study = run_study("branched", places[0], {"joint": [(40.0, 42.0)]})
    (run,) = (RunFolder(path.parent) for path in places[0].glob("*/config.json"))
    table = rows_of(run)
    # mIoU − SI-logRMSE is better in the last epoch, but the grader is not.
    table[1].update(val_miou=30.0, val_silog=41.0, val_grader=9.0)
    fake_runs.write_rows(run, table)
    results = collect(study, *places, None)
    joint = cells(tables.study_table(results))[0]
    assert (joint["Grader"], joint["Semseg"], joint["Depth"]) == ("9.000", "30.000", "41.000")
    assert cells(tables.runs_table(results))[0]["Best epoch"] == "2 of 4"


def test_a_run_of_another_study_with_the_same_settings_is_the_run(places):
    run_study("branched", places[0], {"branched": [(60.0, 30.0)]})
    study = run_study("distillation", places[0], {"distillation": [(61.0, 30.0)]})
    shared, own = cells(tables.study_table(collect(study, *places, None)))
    assert "branched.branched" in shared["Run"] and "distillation.distillation" in own["Run"]


def test_a_failed_run_stands_in_the_table_with_its_reason(places):
    failures = {"joint": "out of memory | at step 3"}
    study = run_study("branched", places[0], {"branched": [(60.0, 30.0)]}, failures)
    table = tables.study_table(collect(study, *places, None))
    assert cells(table)[0]["Run"] == "failed: out of memory | at step 3"
    assert len(table.markdown().splitlines()[2].replace(r"\|", "").split("|")) == len(table.headings) + 2


def test_a_run_that_failed_and_was_mended_counts(places):
    runs = {"joint": [(60.0, 30.0)], "branched": [(62.0, 30.0)]}
    study = run_study("branched", places[0], runs, failures={"joint": "killed"})
    assert [result.counts for result in collect(study, *places, None).results] == [True, True]


def test_copies_outlive_their_runs(places):
    runs_dir, out = places
    study = run_study("branched", runs_dir, {"joint": [(60.0, 30.0)]})
    first = collect(study, runs_dir, out, None)
    for path in runs_dir.glob("*/config.json"):
        shutil.rmtree(path.parent)
    assert collect(study, runs_dir, out, None) == first and len(first.of("joint")) == 1


class TestCopiesOfFinishedRuns:
    @pytest.fixture
    def study(self, places):
        study = run_study("branched", places[0], {"joint": [(60.0, 30.0)], "branched": [(61.0, 30.0)]})
        collect(study, *places, None)
        shutil.rmtree(places[0])
        return study

    def copies(self, out: Path) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def test_stay_where_the_same_runs_have_failed_since(self, places, study):
        runs_dir, out = places
        before = self.copies(out)
        run_study("branched", runs_dir, {"joint": []}, {"joint": "no data", "branched": "no data"})
        assert len(collect(study, runs_dir, out, None).of("joint")) == 1
        assert self.copies(out) == before

    def test_stay_where_the_same_run_was_cut_off(self, places, study):
        runs_dir, out = places
        before = self.copies(out)
        run_study("branched", runs_dir, {"joint": []})
        fake_runs.stopped(Ledger.read(ledger_folder(runs_dir, "branched", "report")).runs["joint"].config)
        assert len(collect(study, runs_dir, out, None).of("joint")) == 1
        assert self.copies(out) == before

    def test_do_not_give_way_to_other_settings_that_have_failed(self, places, study):
        runs_dir, out = places
        before = self.copies(out)
        run_study("branched", runs_dir, {"joint": []}, {"joint": "no data"}, crop=(64, 64))
        with pytest.raises(UserError, match="holds a finished run of other settings, and this one is no data"):
            collect(study, runs_dir, out, None)
        assert self.copies(out) == before

    def test_give_way_to_finished_runs_of_other_settings(self, places, study):
        runs_dir, out = places
        both = {"joint": [(62.0, 30.0)], "branched": [(63.0, 30.0)]}
        run_study("branched", runs_dir, both, crop=(64, 64))
        results = collect(study, runs_dir, out, None)
        assert [result.config.crop for result in results.results] == [(64, 64), (64, 64)]


def test_pages_made_again_of_the_copies_are_identical(places):
    runs_dir, out = places
    seeds = [(60.0, 30.0), (61.0, 29.5)]
    study = run_study("hardcoded", runs_dir, {"neither": seeds, "dilated": seeds[::-1]}, pretrained="/home/me/encoder")
    write_pages(collect(study, runs_dir, out, None), out)
    first = contents(out)
    shutil.rmtree(runs_dir)
    write_pages(collect(study, runs_dir, out, None), out)
    assert contents(out) == first
    assert {"hardcoded/README.md", "hardcoded/index.html", "hardcoded/curves.png", "hardcoded/curves.pdf"} <= set(first)
    assert "hardcoded/runs/neither.seed1/metrics.csv" in first and "ladder_dilated_convolutions.png" in first
    copies = b"".join(content for name, content in first.items() if name.endswith(".json"))
    assert str(runs_dir).encode() not in copies and b"/home/me" not in copies


def write_pages(results, out: Path) -> None:
    noise = {metric: pooled_noise([results], metric) for metric in METRICS}
    study_page.write_study(results, noise, out)
    study_page.write_overview([results], read_ladders(), {results.recipe: noise}, out)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_page_gives_the_command_that_made_it(places):
    seeds = [(60.0, 30.0), (61.0, 29.5)]
    study = run_study("branched", places[0], {"joint": seeds}, dataset="streets/medium", crop=(96, 128))
    command = study_page.command(collect(study, *places, None))
    assert command == (
        "python -m trainers.study branched --recipe=report --seeds=2 --dataset=streets/medium --crop=96,128 --epochs=4"
    )


class TestStatistics:
    def test_noise_is_the_pooled_deviation_of_seeds(self, places):
        seeds = {"joint": [(60.0, 30.0), (63.0, 30.0), (66.0, 30.0)], "branched": [(70.0, 30.0), (72.0, 30.0)]}
        results = collect(run_study("branched", places[0], seeds), *places, None)
        noise = pooled_noise([results], "miou")
        # Sums of squares 18 and 2, over 2 + 1 degrees of freedom.
        assert noise.degrees == 3 and noise.std == pytest.approx(np.sqrt(20 / 3))
        # The same runs in another study tell nothing new.
        assert pooled_noise([results, results], "miou") == noise
        assert spread(results.values("joint", "miou")) == spread([60.0, 63.0, 66.0])
        assert spread([60.0, 63.0, 66.0]).std == pytest.approx(3.0)

    @pytest.mark.parametrize(
        "joint, branched, verdict",
        [
            ([(60.0, 30.0), (60.2, 30.0)], [(64.0, 30.0), (64.2, 30.0)], "holds"),
            ([(64.0, 30.0), (64.2, 30.0)], [(60.0, 30.0), (60.2, 30.0)], "fails"),
            ([(60.0, 30.0), (62.0, 30.0)], [(61.0, 30.0), (63.0, 30.0)], "within seed noise"),
            ([(60.0, 30.0)], [(61.0, 30.0)], "holds, one seed"),
            ([(60.0, 30.0)], [(59.0, 30.0)], "fails, one seed"),
            ([(60.0, 30.0)], [], "no result"),
        ],
    )
    def test_an_ordering_holds_beyond_the_noise_alone(self, places, joint, branched, verdict):
        study = run_study("branched", places[0], {"joint": joint, "branched": branched})
        results = collect(study, *places, None)
        assert judge(study.expected[0], results, pooled_noise([results], "difference")).text == verdict

    def test_the_standard_error_is_that_of_a_difference_of_means(self, places):
        study = run_study("branched", places[0], {"joint": [(60, 30), (62, 30)], "branched": [(61, 30), (63, 30)]})
        results = collect(study, *places, None)
        found = judge(study.expected[0], results, pooled_noise([results], "difference"))
        assert found.difference == pytest.approx(1.0) and found.error == pytest.approx(np.sqrt(2) * np.sqrt(2 / 2))

    def test_less_is_better_in_depth_and_a_clamped_grader_still_tells(self, places):
        study = run_study("branched", places[0], {"joint": [(20.0, 60.0)], "branched": [(30.0, 55.0)]})
        results = collect(study, *places, None)
        in_depth = judge(Expected("branched", "joint", "silog"), results, None)
        assert (in_depth.text, in_depth.difference) == ("holds, one seed", pytest.approx(5.0))
        assert results.values("joint", "grader") == results.values("branched", "grader") == [0.0]
        assert judge(study.expected[0], results, None).difference == pytest.approx(15.0)


class TestBadInput:
    def test_a_study_that_was_not_run(self, places):
        with pytest.raises(UserError, match="branched: not run yet, in .*; run `python -m trainers.study branched`"):
            collect(read_study("branched"), *places, None)

    def test_several_recipes_need_a_choice(self, places):
        runs_dir, out = places
        study = run_study("branched", runs_dir, {"joint": [(60.0, 30.0)]})
        shutil.copytree(ledger_folder(runs_dir, "branched", "report"), ledger_folder(runs_dir, "branched", "demo"))
        with pytest.raises(UserError, match="was run with demo and report; choose one of them with --recipe"):
            collect(study, runs_dir, out, None)
        assert collect(study, runs_dir, out, "report").recipe == "report"

    @pytest.mark.parametrize(
        "damage, message",
        [
            (lambda copy: (copy / "metrics.csv").unlink(), "half-written, it has no metrics.csv"),
            (lambda copy: (copy / "run.json").write_text("{"), "run.json: cannot be read"),
            (lambda copy: (copy / "metrics.csv").write_text("epoch,loss\n1,"), "not a whole table of epochs"),
            (lambda copy: edit(copy / "run.json", recipe="demo"), "of the recipe 'report', others of 'demo'"),
            (lambda copy: edit(copy / "run.json", variant="other"), "no run 'other' in this study"),
            (lambda copy: edit(copy / "config.json", epochs=9), "runs with epochs (9|4) and (4|9) in one study"),
            (lambda copy: edit(copy / "config.json", epoch=9), "'epoch' is no setting of a run"),
        ],
    )
    def test_a_copy_that_is_damaged_or_of_another_recipe(self, places, damage, message):
        runs_dir, out = places
        study = run_study("branched", runs_dir, {"joint": [(60.0, 30.0)], "branched": [(61.0, 30.0)]})
        collect(study, runs_dir, out, None)
        damage(out / "branched" / "runs" / "joint")
        shutil.rmtree(runs_dir)
        with pytest.raises(UserError, match=message) as error:
            collect(study, runs_dir, out, None)
        assert "\n" not in str(error.value)

    def test_a_damaged_run(self, places):
        study = run_study("branched", places[0], {"joint": [(60.0, 30.0)]})
        (run,) = places[0].glob("*joint*")
        (run / "metrics.csv").write_text("epoch,step\n1,nothing\n", encoding="utf-8")
        with pytest.raises(UserError, match=f"{run.name}.*not a whole table of epochs"):
            collect(study, *places, None)


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}), encoding="utf-8")


@pytest.mark.parametrize("base", ["", '[base]\ndataset = "folder"\n'])
def test_a_users_study_is_named_by_its_file_and_its_data_asked_for(places, tmp_path, base):
    path = tmp_path / "mine.toml"
    path.write_text(
        f'title = "Mine"\nquestion = "?"\n{base}'
        '[[runs]]\nname = "a"\n[[runs]]\nname = "b"\nsettings = { skip = false }\n'
        '[[expected]]\nbetter = "a"\nworse = ["b"]\n'
    )
    study = run_study(path, places[0], {"a": [(60.0, 30.0)]}, dataset="folder", data_dir="/home/me/town")
    command = study_page.command(collect(study, *places, None))
    assert command.startswith(f"python -m trainers.study {path} ") and command.endswith(" --data_dir=DIR")
    assert [expected.source for expected in study.expected] == ["the study"]


def test_the_page_gives_what_the_study_gives_to_some_runs_alone(places):
    study = run_study("hardcoded", places[0], {"both": [(60.0, 30.0)]}, pretrained="runs/encoder")
    assert "--pretrained=runs/encoder" in study_page.command(collect(study, *places, None))


def test_the_pages_give_the_command_that_makes_the_projects_own_encoder_first():
    home = Path(__file__).parents[2]
    for page in home.glob("docs/studies/*/README.md"):
        again = page.read_text(encoding="utf-8").partition("## Run it again")[2]
        assert "--pretrained=runs/RUN" in again or "--pretrained" not in again
        for config in re.findall(r"trainers.fit --config=(\S+)", again):
            assert read_config(home / config).dataset == "streets/pretraining"


def test_curves_of_epochs_of_other_lengths_are_drawn_over_steps(places):
    runs = {"batch_2": [(60.0, 30.0)], "batch_8": [(61.0, 30.0)]}
    results = collect(run_study("batch_size", places[0], runs), *places, None)
    for run, steps in zip(results.results[::2], (200, 50), strict=True):
        for row in run.rows:
            row["step"] = row["epoch"] * steps
    axes = figures.curves(results).axes[0]
    assert axes.get_xlabel() == "step"
    assert [list(line.get_xdata())[:2] for line in axes.get_lines()] == [[200, 400], [50, 100]]


def test_the_machine_is_read_from_the_card_that_a_run_writes(tmp_path):
    config = RunConfig(runs_dir=str(tmp_path))
    run = fake_runs.create(config)
    metrics = dict.fromkeys(("grader", "miou", "silog", "loss", "semseg_loss", "depth_loss"), 1.0)
    card.write(run, config, tiny_model(), [{"epoch": 1, "seconds": 60.0}], {"epoch": 1, "metrics": metrics}, None)
    assert machine_of(run) == backend.describe()


def test_the_command_writes_the_pages_of_all_that_was_run(command, places):
    runs_dir, out = places
    run_study("branched", runs_dir, {"joint": [(60.0, 30.0)]})
    process = command("report", f"--runs_dir={runs_dir}", f"--out={out}")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    written = [Path(line) for line in output.splitlines()]
    assert out / "README.md" in written and out / "branched" / "index.html" in written
    assert all(path.stat().st_size > 0 for path in written)


def test_a_study_of_ones_own_is_reported_without_its_name_and_a_torn_copy_of_another_is_left_out(
    command, places, tmp_path
):
    runs_dir, out = places
    path = tmp_path / "mine.toml"
    path.write_text('title = "Mine"\nquestion = "?"\n[[runs]]\nname = "a"\n', encoding="utf-8")
    run_study(path, runs_dir, {"a": [(60.0, 30.0)]})
    (out / "decoder" / "runs" / "both").mkdir(parents=True)
    (out / "decoder" / "runs" / "both" / "config.json").write_text("{", encoding="utf-8")
    process = command("report", f"--runs_dir={runs_dir}", f"--out={out}")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    assert (out / "mine" / "README.md").is_file() and "decoder is left out: " in output
    path.unlink()
    process = command("report", f"--runs_dir={runs_dir}", f"--out={out}")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 2 and f"{path}: is gone" in output, errors


def test_the_committed_pages_are_what_the_command_makes_of_the_committed_runs(command, tmp_path):
    committed = Path(__file__).parents[2] / "docs" / "studies"
    shutil.copytree(committed, tmp_path / "studies")
    for page in [*tmp_path.rglob("*.md"), *tmp_path.rglob("*.html")]:
        page.unlink()
    process = command("report", f"--runs_dir={tmp_path / 'no runs'}", f"--out={tmp_path / 'studies'}")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    assert output.startswith(f"of copies in {tmp_path / 'studies'}, for there are no runs in {tmp_path / 'no runs'}: ")
    pages = [path.relative_to(committed) for path in committed.rglob("*") if path.suffix in (".md", ".html")]
    assert len(pages) > 2 * len(studies())
    assert [str(page) for page in pages if read(tmp_path / "studies" / page) != read(committed / page)] == []


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def test_own_studies_get_pages_of_their_own(tmp_path):
    assert default_out(tmp_path / "runs") == Path("docs/studies")
    ledger = tmp_path / "runs" / "studies" / "decoder" / "study" / LEDGER
    ledger.parent.mkdir(parents=True)
    ledger.touch()
    assert default_out(tmp_path / "runs") == tmp_path / "runs" / "report"

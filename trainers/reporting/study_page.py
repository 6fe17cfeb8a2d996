"""The page of one study, and the page that stands above all of them."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtl_keras.errors import UserError
from trainers.config import RunConfig, flag_text
from trainers.reporting import figures, pages, tables
from trainers.reporting.results import METRICS, PROJECTS_OWN, Result, StudyResults
from trainers.reporting.statistics import Noise, Verdict, compared_metric, judge, spread
from trainers.scheduling.listing import MARK
from trainers.scheduling.plan import INCIDENTAL, configuration
from trainers.scheduling.view import duration
from zoo.recipes import RECIPES
from zoo.study import Rung, Study

# What makes the project's own pages.
REPORT = "python -m trainers.report"
_HOME = Path(__file__).parents[2]
# Which settings tell a reader how large a study was, and how they are called.
_SCALE = {
    "dataset": "dataset {}",
    "arch": "{} topology",
    "encoder": "encoder {}",
    "pretrained": "pretrained: {}",
    "crop": "crops of {}",
    "batch_size": "batches of {}",
    "epochs": "epochs: {}",
    "optimizer": "{}",
    "learning_rate": "learning rate {}",
}


def write_study(
    results: StudyResults, noise: Mapping[str, Noise | None], out: Path, runs_dir: str = RunConfig.runs_dir
) -> list[Path]:
    """Writes a study's page and figures into `<out>/<study>/`, and returns the paths; the runs lie in `runs_dir`."""
    study = results.study
    folder = out / study.name
    parts: list[pages.Part] = [pages.paragraph(study.question + (f" ({study.report})" if study.report else ""))]
    parts.append(pages.table(tables.study_table(results)))
    if marked := tables.marked_numbers(results):
        parts.append(pages.paragraph(f"{MARK} {'; '.join(marked)}."))
    parts.append(pages.paragraph(_legend(results)))
    if study.notes:
        parts.append(pages.bullets(study.notes))
    written = []
    if any(result.counts for result in results.results):
        figures.save(figures.curves(results), folder / "curves.png")
        written += [folder / "curves.png", folder / "curves.pdf"]
        parts.append(pages.picture("curves.png", f"{study.title}: validation metrics over {figures.unit(results)}s"))
        if _has_seeds(results):
            parts.append(pages.paragraph("A line is the mean over seeds; its band is their range."))
    if verdicts := judge_all(results, noise):
        parts += [pages.heading("Does the ordering hold?"), pages.table(tables.verdict_table(results, verdicts))]
        parts.append(pages.paragraph(tables.noise_text(noise["difference"], results.recipe)))
    parts += [pages.heading("Runs"), pages.paragraph(_scale(results)), pages.table(tables.runs_table(results))]
    parts += [pages.heading("Run it again"), pages.command(command(results, runs_dir))]
    return [*pages.write_pages(folder, study.title, parts), *written]


def write_overview(
    shown: Sequence[StudyResults],
    ladders: Mapping[str, Sequence[Rung]],
    noises: Mapping[str, Mapping[str, Noise | None]],
    out: Path,
    again: str = REPORT,
) -> list[Path]:
    """Writes the page above all studies, with the ladders across them, and returns the paths.

    Args:
        shown: the studies.
        ladders: rungs by the ladder's title; those run with another recipe than its first are left out.
        noises: each recipe's noise of seeds, by metric.
        out: the folder.
        again: the command that makes the pages again.
    """
    parts: list[pages.Part] = []
    written: list[Path] = []
    by_name = {results.study.name: results for results in shown}
    for title, rungs in ladders.items():
        climbed = [(rung, by_name[rung.study]) for rung in rungs if rung.study in by_name]
        climbed = [(rung, results) for rung, results in climbed if results.of(rung.variant)]
        climbed = [(rung, results) for rung, results in climbed if results.recipe == climbed[0][1].recipe]
        if len(climbed) < 2:
            continue
        name = f"ladder_{title.lower().replace(' ', '_')}"
        parts += [pages.heading(title), pages.table(_ladder_table(climbed))]
        parts.append(pages.picture(f"{name}.png", f"{title}: what each step brings"))
        values = [(rung.title, _values(results, rung.variant)) for rung, results in climbed]
        figures.save(figures.ladder(title, values, figures.panels_of(shown)), out / f"{name}.png")
        written += [out / f"{name}.png", out / f"{name}.pdf"]
    if parts:
        parts.append(pages.paragraph("A dot is a seed's run, a diamond the mean over seeds."))
        parts.append(pages.paragraph(f"{MARK} as printed; it is not semseg − depth there."))
        parts += [pages.paragraph(tables.noise_text(noise["difference"], recipe)) for recipe, noise in noises.items()]
    links = [(results.study.title, results.study.name, _outcome(results, noises[results.recipe])) for results in shown]
    parts += [pages.heading("Studies"), pages.links(links)]
    parts += [pages.heading("Make these pages again"), pages.command(again)]
    return [*pages.write_pages(out, "Studies", parts), *written]


def judge_all(results: StudyResults, noise: Mapping[str, Noise | None]) -> list[Verdict]:
    """The verdicts on all orderings that a study expects."""
    return [judge(expected, results, noise[compared_metric(expected.metric)]) for expected in results.study.expected]


def command(results: StudyResults, runs_dir: str = RunConfig.runs_dir) -> str:
    """The command that runs a study again, behind the one that makes the project's own pretrained encoder.

    Flags stand for what the study's recipe would make otherwise, and for where its runs lie.
    """
    seeds = {result.facts.seed for result in results.results}
    parts = ["python -m trainers.study", shlex.quote(results.study.path), f"--recipe={results.recipe}"]
    if len(seeds) > 1:
        parts.append(f"--seeds={len(seeds)}")
    flags = _flags(results.study, results)
    pretraining = f"{PROJECTS_OWN}/pretraining/{Path(str(flags.get('pretrained'))).name}/config.json"
    before = ""
    if (_HOME / pretraining).is_file():
        before = f"python -m trainers.fit --config={pretraining}  # names its folder, the RUN below\n"
        flags["pretrained"] = "runs/RUN"
    parts += [f"--{name}={flag_text(value)}" for name, value in flags.items()]
    if runs_dir != RunConfig.runs_dir:
        parts.append(shlex.quote(f"--runs_dir={runs_dir}"))
    if any(_lacks_data(results.study, result) for result in results.results):
        parts.append("--data_dir=DIR")
    return before + " ".join(parts)


def _lacks_data(study: Study, result: Result) -> bool:
    """Whether a run reads files that its study does not name."""
    settings = study.settings(study.variant(result.facts.variant))
    return result.config.dataset.partition("/")[0] != "streets" and not settings.get("data_dir")


def _flags(study: Study, results: StudyResults) -> dict[str, object]:
    """Settings of the first seed's runs that override the study's and the recipe's."""
    seed = min(result.facts.seed for result in results.results)
    names = [field.name for field in dataclasses.fields(RunConfig) if field.name not in INCIDENTAL]
    found: dict[str, object] = {}
    for result in results.results:
        variant = study.variant(result.facts.variant)
        if result.facts.seed != seed:
            continue
        try:
            usual = configuration(study, variant, results.recipe, {})
        except UserError:
            return {}
        actual = {name: getattr(result.config, name) for name in names if name not in variant.scale}
        found.update({name: value for name, value in actual.items() if value != getattr(usual, name)})
    return found


def _legend(results: StudyResults) -> str:
    sentences = [
        "Validation metrics of the epoch with the best grader; Semseg is mIoU in percent, Depth is SI-logRMSE."
    ]
    if tables.is_clamped(results):
        sentences.append(
            "The grader, max(mIoU − 50, 0) + max(50 − SI-logRMSE, 0), is cut off at these figures; Semseg − Depth is "
            "the grader without the cut."
        )
    if _has_seeds(results):
        sentences.append("± is the standard deviation over seeds.")
    return " ".join(sentences)


def _has_seeds(results: StudyResults) -> bool:
    """Whether any variant was run with several seeds."""
    return any(len(results.of(variant.name)) > 1 for variant in results.study.variants)


def _scale(results: StudyResults) -> str:
    """How large the study was, where it ran and how long."""
    study = results.study
    varied = {name for variant in study.variants for name in (*variant.settings, *variant.scale)}
    config = results.results[0].config
    facts = [form.format(tables.shown_value(n, getattr(config, n))) for n, form in _SCALE.items() if n not in varied]
    recipe = RECIPES[results.recipe].about if results.recipe in RECIPES else ""
    machines = sorted({result.facts.machine for result in results.results if result.facts.machine})
    seconds = sum(result.seconds for result in results.results if result.rows)
    about = f"Recipe {results.recipe}" + (f" ({recipe})" if recipe else "")
    where = f" Trained with {' and '.join(machines)}," if machines else " Trained"
    return f"{about}: {', '.join(facts)}.{where} {duration(seconds)} in all."


def _ladder_table(climbed: Sequence[tuple[Rung, StudyResults]]) -> tables.Table:
    columns = tables.metric_columns([results for _, results in climbed])
    rows = []
    for rung, results in climbed:
        variant = results.study.variant(rung.variant)
        cells = [tables.spread_text(spread(results.values(rung.variant, metric))) for _, metric in columns]
        rows.append([rung.title, *cells, tables.printed_text(variant.printed, "grader"), results.study.name])
    return tables.Table(
        ["", *(h for h, _ in columns), "Grader, report", "Study"], rows, words=frozenset({0, len(columns) + 2})
    )


def _values(results: StudyResults, variant: str) -> dict[str, list[float]]:
    return {metric: results.values(variant, metric) for metric in METRICS}


def _outcome(results: StudyResults, noise: Mapping[str, Noise | None]) -> str:
    """How the expected orderings of a study came out, in a few words."""
    found: dict[str, int] = {}
    for verdict in judge_all(results, noise):
        found[verdict.text] = found.get(verdict.text, 0) + 1
    done = sum(result.counts for result in results.results)
    orderings = ", ".join(f"{verdict} {count}×" for verdict, count in found.items())
    return f"{done} of {len(results.results)} runs" + (f"; expected orderings: {orderings}" if orderings else "")

"""Tables, once made and written as Markdown, HTML or plain text, and the tables of a study."""

import dataclasses
import html
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from trainers.config import number
from trainers.reporting.results import Result, StudyResults
from trainers.reporting.statistics import STANDARD_ERRORS, Noise, Spread, Verdict, spread
from trainers.scheduling.listing import as_printed
from trainers.scheduling.view import duration
from zoo.study import Printed, Study, Variant

NOTHING = "–"
REPORT = "report"

_SIZES = ("crop", "image_size")
_OPTIMIZERS = {"adam": "Adam", "sgd": "SGD", "adamw": "AdamW"}


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Args:
        headings: one a column.
        rows: cells, one a column.
        bold: (row, column) of what stands out.
        words: the columns that are set to the left; numbers are set to the right.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = frozenset()
    words: frozenset[int] = frozenset({0})

    def markdown(self) -> str:
        rules = [":---" if column in self.words else "---:" for column in range(len(self.headings))]
        rows = [
            [f"**{cell}**" if (row, column) in self.bold else cell for column, cell in enumerate(cells)]
            for row, cells in enumerate(self.rows)
        ]
        lines = [[cell.replace("|", r"\|") for cell in cells] for cells in (self.headings, rules, *rows)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def html(self) -> str:
        head = "".join(f"<th{self._side(column)}>{_escape(cell)}</th>" for column, cell in enumerate(self.headings))
        body = "\n".join(
            f"<tr>{''.join(self._cell(row, column, cell) for column, cell in enumerate(cells))}</tr>"
            for row, cells in enumerate(self.rows)
        )
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"

    def _cell(self, row: int, column: int, cell: str) -> str:
        text = _escape(cell)
        return f"<td{self._side(column)}>{f'<b>{text}</b>' if (row, column) in self.bold else text}</td>"

    def _side(self, column: int) -> str:
        return ' class="word"' if column in self.words else ""


def study_table(results: StudyResults) -> Table:
    """A study's variants with the report's own columns, and beside each of our figures what the report prints."""
    study = results.study
    first = list(study.columns)
    columns = metric_columns([results])
    printed = {name for name in _PRINTED for variant in study.variants if getattr(variant.printed, name, None)}
    headings = [*first]
    for heading, name in (*columns, ("Run", ""), ("Model Size", "model_size"), ("Duration", "duration")):
        headings += [heading, *([f"{heading}, {REPORT}"] if _FIELDS.get(name, name) in printed else [])]
    rows, bold = [], set()
    best = {metric: _best_variant(results, metric) for _, metric in columns}
    for row, variant in enumerate(study.variants):
        cells = [_shown(results, variant, name) for name in study.columns.values()]
        for _, metric in columns:
            if variant.name == best[metric]:
                bold.add((row, len(cells)))
            cells.append(spread_text(spread(results.values(variant.name, metric))))
            if (name := _FIELDS.get(metric, "")) in printed:
                cells.append(printed_text(variant.printed, name))
        cells.append(_run_text(results, variant))
        for ours, name in ((_size_text, "model_size"), (_duration_text, "duration")):
            cells.append(ours(results.of(variant.name)))
            if name in printed:
                cells.append(printed_text(variant.printed, name))
        rows.append(cells)
    words = frozenset({*range(len(first)), headings.index("Run")})
    return Table(headings, rows, frozenset(bold), words)


def marked_numbers(results: StudyResults) -> list[str]:
    """A line for each printed number of the study that does not add up."""
    lines = []
    for variant in results.study.variants:
        printed = variant.printed
        if printed and not printed.adds_up:
            lines.append(f"{printed.grader} as printed; semseg − depth is {printed.difference}")
    return list(dict.fromkeys(lines))


def variant_label(results: StudyResults, variant: Variant) -> str:
    """A variant in a few words: what the table's first columns show of it, but for the names of weights."""
    words = {name: _shown(results, variant, name) for name in results.study.columns.values()}
    if len({result.config.pretrained for result in results.results} - {None}) == 1 and "pretrained" in words:
        words["pretrained"] = words["pretrained"].partition(" (")[0]
    return " · ".join(words.values())


def columns_label(study: Study) -> str:
    """What a `variant_label` is made of."""
    return " · ".join(heading for heading in study.columns if heading)


def verdict_table(results: StudyResults, verdicts: Sequence[Verdict]) -> Table:
    """Which expected orderings hold."""
    titles = {variant.name: variant.title for variant in results.study.variants}
    names = {metric: heading for heading, metric in _METRIC_COLUMNS}
    if is_clamped(results):
        names["grader"], _ = _UNCLAMPED
    rows = [
        [
            titles[verdict.expected.better],
            titles[verdict.expected.worse],
            names[verdict.expected.metric],
            NOTHING if verdict.difference is None else minus(f"{verdict.difference:+.3f}"),
            NOTHING if verdict.error is None else f"{STANDARD_ERRORS * verdict.error:.3f}",
            verdict.text,
            verdict.expected.source,
        ]
        for verdict in verdicts
    ]
    headings = ["Better", "than", "in", "by", "two standard errors", "The ordering", "Expected by"]
    return Table(headings, rows, words=frozenset({0, 1, 2, 5, 6}))


def runs_table(results: StudyResults) -> Table:
    """Every run on its own."""
    headings = ["", "Seed", "Run", "Best epoch", "Grader", "Semseg", "Depth", "Duration", "State"]
    rows = []
    for result in results.results:
        facts = result.facts
        cells = [NOTHING] * 4
        if result.rows:
            metrics = result.metrics
            epoch = f"{result.epoch} of {result.config.epochs}"
            cells = [epoch, *(f"{metrics[name]:.3f}" for name in ("grader", "miou", "silog"))]
        time = duration(result.seconds) if result.rows else NOTHING
        state = f"failed: {facts.failure}" if facts.failure else facts.state
        rows.append([facts.variant, str(facts.seed), facts.run or NOTHING, *cells, time, state])
    return Table(headings, rows, words=frozenset({0, 2, 8}))


def noise_text(noise: Noise | None, recipe: str) -> str:
    """The noise of seeds in a sentence."""
    if noise is None:
        return f"No variant has a second seed with the recipe {recipe}, so the noise of seeds is not known."
    degree = "degree" if noise.degrees == 1 else "degrees"
    return (
        f"The standard deviation of Semseg − Depth over seeds is {noise.std:.3f}, pooled over all studies with the "
        f"recipe {recipe} ({noise.degrees} {degree} of freedom). A difference counts beyond two standard errors."
    )


_PRINTED = ("grader", "semseg", "depth", "model_size", "duration")
# The field of `Printed` that stands beside a metric of ours.
_FIELDS = {"miou": "semseg", "silog": "depth", "grader": "grader"}
_METRIC_COLUMNS = (("Grader", "grader"), ("Semseg", "miou"), ("Depth", "silog"))
_UNCLAMPED = ("Semseg − Depth", "difference")


def metric_columns(results: Iterable[StudyResults]) -> list[tuple[str, str]]:
    """Headings and metrics: where a grader is clamped, what it was before stands beside it."""
    grader, *others = _METRIC_COLUMNS
    return [grader, *([_UNCLAMPED] if any(is_clamped(one) for one in results) else []), *others]


def is_clamped(results: StudyResults) -> bool:
    """Whether some grader is cut off, so that it no longer tells runs apart: mIoU under 50, or SI-logRMSE above."""
    metrics = [result.metrics for result in results.results if result.counts]
    return any(not (m["miou"] >= 50 and m["silog"] <= 50) for m in metrics)


def _best_variant(results: StudyResults, metric: str) -> str | None:
    means = {}
    for variant in results.study.variants:
        found = spread(results.values(variant.name, metric))
        if found:
            means[variant.name] = -found.mean if metric == "silog" else found.mean
    return max(means, key=means.__getitem__) if len(set(means.values())) > 1 else None


def _shown(results: StudyResults, variant: Variant, name: str) -> str:
    """A setting as the report's tables show it."""
    if name == "title":
        return variant.title
    config = next((result.config for result in results.results if result.facts.variant == variant.name), None)
    if config is None or (name == "aspp_rates" and not config.aspp):
        return NOTHING
    return shown_value(name, getattr(config, name))


def shown_value(name: str, value: Any) -> str:
    """A setting's value as the report's tables show it."""
    if name == "pretrained":
        return "Off" if value is None else f"On ({PurePath(value).name})"
    if isinstance(value, tuple) and all(isinstance(item, bool) for item in value):
        return "On" if any(value) else "Off"
    if isinstance(value, tuple):
        return ("×" if name in _SIZES else ", ").join(str(item) for item in value)
    if isinstance(value, bool):
        return "On" if value else "Off"
    if isinstance(value, float):
        return number(value)
    return _OPTIMIZERS.get(value, NOTHING if value is None else str(value))


def spread_text(value: Spread | None) -> str:
    if value is None:
        return NOTHING
    return minus(f"{value.mean:.3f}" if value.std is None else f"{value.mean:.3f} ± {value.std:.3f}")


def minus(number: str) -> str:
    """A number with a minus sign in the place of its hyphen."""
    return number.replace("-", "−")


def printed_text(printed: Printed | None, name: str) -> str:
    return as_printed(printed) if name == "grader" else getattr(printed, name, None) or NOTHING


def _run_text(results: StudyResults, variant: Variant) -> str:
    """The variant's run; of several, the first seed's; of none that may be compared, what became of it."""
    runs = results.of(variant.name)
    if runs:
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        return f"{runs[0].facts.run}{more}"
    states = [result.facts for result in results.results if result.facts.variant == variant.name]
    if not states:
        return "not run yet"
    return f"failed: {states[0].failure}" if states[0].failure else states[0].state


def _size_text(runs: list[Result]) -> str:
    return str(runs[0].facts.parameters) if runs and runs[0].facts.parameters else NOTHING


def _duration_text(runs: list[Result]) -> str:
    return duration(sum(run.seconds for run in runs) / len(runs)) if runs else NOTHING


def _escape(text: str) -> str:
    return html.escape(text, quote=False)

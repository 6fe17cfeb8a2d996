"""What a dataset holds, as tables for the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mtl_keras import viz
from mtl_keras.data import Dataset, DataSpec, Statistics
from mtl_keras.data.folder import DEPTH_UNIT
from mtl_keras.errors import on_one_line
from mtl_keras.viz.colors import depth_color_table

_BAR = 30
_DEPTH_ROWS = 16
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def describe(datasets: Mapping[str, Dataset], statistics: Mapping[str, Statistics]) -> RenderableType:
    """All that is known of a dataset's splits.

    Args:
        datasets: splits by name; the bars are those of the first.
        statistics: of the same splits.
    """
    first = next(iter(datasets.values()))
    parts: list[RenderableType] = [
        _headline(first),
        _splits(statistics),
        _classes(first.spec, statistics),
        _depths(statistics),
        *_warnings(first, statistics),
    ]
    return Group(*(Group(part, "") for part in parts))


def draw(dataset: Dataset, count: int) -> Any:
    """A figure of some samples, evenly spread over the split."""
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    samples = [dataset[int(index)] for index in indices]
    return viz.plot_samples(
        images=[sample["image"] for sample in samples],
        semseg=[sample["semseg"] for sample in samples],
        depth=[dataset.metres(sample) for sample in samples],
        spec=dataset.spec,
        captions=[sample["id"] for sample in samples],
        title=f"{_title(dataset)} · {dataset.split}",
    )


def _title(dataset: Dataset) -> str:
    """What a person calls the dataset, who may have named it."""
    own = dataset.spec.name != dataset.name
    return f"{dataset.spec.name} ({dataset.full_name})" if own else dataset.full_name


def _headline(dataset: Dataset) -> Text:
    spec, measured = dataset.spec, dataset.measured_depth
    text = Text.assemble(
        (_title(dataset), "bold"),
        " · {} classes · depth {:g}–{:g} m · {}\n".format(spec.num_classes, *spec.depth_range, dataset.path),
        f"models normalise depth by mean {spec.depth_mean:.4f} m, deviation {spec.depth_std:.4f} m",
    )
    if measured is None:
        return text.append(" (nothing measured: no valid depth in train)")
    published = not np.isclose(measured["depth_mean"], spec.depth_mean, rtol=1e-9)
    return text.append(
        " (published; measured on train: mean {depth_mean:.4f} m, deviation {depth_std:.4f} m)".format(**measured)
        if published
        else " (measured on train)"
    )


def _splits(statistics: Mapping[str, Statistics]) -> Table:
    table = _table("", *statistics)
    rows = {
        "samples": lambda s: f"{s.samples:,}",
        "without semseg": lambda s: f"{s.missing_semseg:,}",
        "without depth": lambda s: f"{s.missing_depth:,}",
        "height×width": _sizes,
        "ignored, % of labelled images": lambda s: _percent(s.ignored_pixels, s.ignored_pixels + sum(s.class_pixels)),
        "valid depth, % of all pixels": lambda s: _percent(s.depth_pixels, _pixels(s)),
        "depth mean, m": lambda s: f"{s.depth_mean:.2f}" if s.depth_pixels else "–",
        "depth deviation, m": lambda s: f"{s.depth_std:.2f}" if s.depth_pixels else "–",
    }
    for name, value in rows.items():
        table.add_row(name, *map(value, statistics.values()))
    return table


def _classes(spec: DataSpec, statistics: Mapping[str, Statistics]) -> Table:
    """Frequencies, in percent of the labelled pixels; the first split's as bars too."""
    shares = [_shares(split.class_pixels) for split in statistics.values()]
    table = _table("classes, % of labelled pixels", *statistics)
    most, width = max(shares[0]), max(16, *map(len, spec.classes))
    for index, name in enumerate(spec.classes):
        color = "rgb({},{},{})".format(*spec.palette[index])
        label = Text.assemble(("■ ", color), f"{name:<{width}} ", (_bar(shares[0][index], most), color))
        table.add_row(label, *(_share(split[index]) for split in shares))
    return table


def _depths(statistics: Mapping[str, Statistics]) -> Table:
    """The histogram over even steps of the logarithm, in percent of the valid pixels."""
    table = _table("depth, % of valid pixels", *statistics)
    shares = [_shares(np.reshape(split.depth_histogram, (_DEPTH_ROWS, -1)).sum(1)) for split in statistics.values()]
    first = next(iter(statistics.values()))
    edges = first.depth_edges[:: len(first.depth_histogram) // _DEPTH_ROWS]
    palette = depth_color_table()
    found = np.flatnonzero(np.sum(shares, axis=0))
    # Ends of the range that no depth comes near are not worth a row each.
    for row in range(found[0], found[-1] + 1) if found.size else ():
        color = "rgb({},{},{})".format(*palette[int((row + 0.5) / _DEPTH_ROWS * len(palette))])
        span = f"{_metres(edges[row])}–{_metres(edges[row + 1])} m"
        label = Text.assemble(f"{span:<18} ", (_bar(shares[0][row], max(shares[0])), color))
        table.add_row(label, *(_share(split[row]) for split in shares))
    return table


def _warnings(dataset: Dataset, statistics: Mapping[str, Statistics]) -> Iterable[Text]:
    """What a person would want to mend before training."""
    for split, found in statistics.items():
        absent = [name for name, count in zip(dataset.spec.classes, found.class_pixels, strict=True) if not count]
        if len(absent) == dataset.spec.num_classes:
            yield Text(f"no pixel of {split} has a class", "yellow")
        elif absent:
            yield Text(f"no pixel of {split} is {', '.join(absent)}", "yellow")
        if found.invalid_depth:
            yield Text(_invalid_depth(dataset, split, found), "yellow")
    if dataset.bad_files:
        files = [f"  {on_one_line(path)}: {reason}" for path, reason in dataset.bad_files]
        count = "1 bad file was" if len(files) == 1 else f"{len(files)} bad files were"
        yield Text("\n".join([f"{count} left out:", *files]), "yellow")
    else:
        yield Text("no bad files")


def _invalid_depth(dataset: Dataset, split: str, found: Statistics) -> str:
    """How many samples have depth of which nothing is valid; where that is all there is, how a unit is told."""
    count = "1 depth file" if found.invalid_depth == 1 else f"{found.invalid_depth:,} depth files"
    verb = "has" if found.invalid_depth == 1 else "have"
    line = "{} of {} {} no pixel within {:g} to {:g} m".format(count, split, verb, *dataset.spec.depth_range)
    if dataset.name == "folder" and not found.depth_pixels:
        line += f"; {DEPTH_UNIT}"
    return line


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(title, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _sizes(statistics: Statistics) -> str:
    sizes = [size for size, _ in sorted(statistics.sizes.items(), key=lambda item: -item[1])]
    return ", ".join(sizes) if len(sizes) < 3 else f"{sizes[0]} and {len(sizes) - 1} others"


def _pixels(statistics: Statistics) -> int:
    return sum(count * np.prod([int(side) for side in size.split("×")]) for size, count in statistics.sizes.items())


def _shares(counts: Any) -> list[float]:
    """Percentages of the whole; zeros where there is nothing."""
    counts = np.asarray(counts, np.float64)
    return (100 * counts / max(counts.sum(), 1)).tolist()


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"


def _share(percent: float) -> str:
    """Two digits, so that a rare class is told from an absent one."""
    return "–" if not percent else f"{percent:.2f}" if percent >= 0.01 else "<0.01"


def _metres(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _bar(value: float, most: float) -> str:
    """A bar of `_BAR` cells for the greatest value, to an eighth of a cell."""
    eighths = round(8 * _BAR * value / most) if most else 0
    eighths = max(eighths, 1) if value else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR)

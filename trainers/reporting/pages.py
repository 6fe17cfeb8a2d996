"""The pages of a report, Markdown and HTML of the same parts."""

import dataclasses
import html
from collections.abc import Sequence
from pathlib import Path

from mtl_keras.files import write_text
from trainers.reporting.tables import Table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #20242c; max-width: 92rem; margin: 3rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: 0.35rem 0.6rem; text-align: right; border-bottom: 1px solid #e5e7eb; white-space: nowrap; }
th { color: #6b7280; font-weight: 600; border-bottom-color: #9ca3af; }
.word { text-align: left; }
img { max-width: 100%; }
pre { background: #f6f6fa; padding: 0.7rem 1rem; overflow-x: auto; }
"""


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Command:
    text: str


@dataclasses.dataclass(frozen=True)
class Picture:
    path: str
    alt: str


@dataclasses.dataclass(frozen=True)
class Links:
    """A list of pages: title, folder, and a word on each."""

    items: Sequence[tuple[str, str, str]]


Part = Heading | Paragraph | Bullets | Command | Picture | Links | Table


def write_pages(folder: Path, title: str, parts: Sequence[Part]) -> list[Path]:
    """Writes `README.md` and `index.html` into a folder, and returns their paths."""
    written = [folder / "README.md", folder / "index.html"]
    write_text(written[0], "\n\n".join(_markdown(part) for part in (Heading(title, 1), *parts)) + "\n")
    body = "\n".join(_html(part) for part in (Heading(title, 1), *parts))
    head = f'<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>'
    write_text(
        written[1], f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'
    )
    return written


def _markdown(part: Part) -> str:
    match part:
        case Table():
            return part.markdown()
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Command(text):
            return f"```bash\n{text}\n```"
        case Picture(path, alt):
            return f"![{alt}]({path})"
        case Links(items):
            return "\n".join(f"- [{title}]({folder}/README.md): {word}" for title, folder, word in items)


def _html(part: Part) -> str:
    match part:
        case Table():
            return f'<div class="scroll">{part.html()}</div>'
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text, quote=False)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{html.escape(item, quote=False)}</li>" for item in items) + "</ul>"
        case Command(text):
            return f"<pre>{html.escape(text, quote=False)}</pre>"
        case Picture(path, alt):
            return f'<img src="{html.escape(path)}" alt="{html.escape(alt)}">'
        case Links(items):
            links = "".join(
                f'<li><a href="{html.escape(folder)}/index.html">{html.escape(title)}</a>: {html.escape(word)}</li>'
                for title, folder, word in items
            )
            return f"<ul>{links}</ul>"

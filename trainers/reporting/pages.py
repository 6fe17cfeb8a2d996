"""The pages of a report, Markdown and HTML of the same parts."""

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


# A part of a page, in Markdown and in HTML.
Part = tuple[str, str]


def heading(text: str, level: int = 2) -> Part:
    return f"{'#' * level} {text}", f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> Part:
    return text, f"<p>{_escape(text)}</p>"


def bullets(items: Sequence[str]) -> Part:
    lines = "".join(f"<li>{_escape(item)}</li>" for item in items)
    return "\n".join(f"- {item}" for item in items), f"<ul>{lines}</ul>"


def command(text: str) -> Part:
    return f"```bash\n{text}\n```", f"<pre>{_escape(text)}</pre>"


def picture(path: str, alt: str) -> Part:
    return f"![{alt}]({path})", f'<img src="{html.escape(path)}" alt="{html.escape(alt)}">'


def links(items: Sequence[tuple[str, str, str]]) -> Part:
    """A list of pages: title, folder, and a word on each."""
    lines = "".join(
        f'<li><a href="{html.escape(folder)}/index.html">{html.escape(title)}</a>: {html.escape(word)}</li>'
        for title, folder, word in items
    )
    return "\n".join(f"- [{title}]({folder}/README.md): {word}" for title, folder, word in items), f"<ul>{lines}</ul>"


def table(made: Table) -> Part:
    return made.markdown(), f'<div class="scroll">{made.html()}</div>'


def write_pages(folder: Path, title: str, parts: Sequence[Part]) -> list[Path]:
    """Writes `README.md` and `index.html` into a folder, and returns their paths."""
    written = [folder / "README.md", folder / "index.html"]
    markdown, body = zip(heading(title, 1), *parts, strict=True)
    write_text(written[0], "\n\n".join(markdown) + "\n")
    lines = "\n".join(body)
    head = f'<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>'
    write_text(
        written[1], f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{lines}\n</body>\n</html>\n'
    )
    return written


def _escape(text: str) -> str:
    return html.escape(text, quote=False)

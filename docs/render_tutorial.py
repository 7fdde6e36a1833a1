"""Render the tutorial: run the cells of ``examples/real_map_percent.py`` and write what they print and draw.

    python docs/render_tutorial.py --map map.hspy
    python docs/render_tutorial.py --out somewhere        (without a map: a simulated one)

The page is ``tutorial.md`` in the folder of `--out` (default: this folder), its pictures ``pictures/tutorial_*.png``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jupytext
from nbformat import NotebookNode
from PIL import Image

import bayesunmix

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "examples" / "real_map_percent.py"
# Figures are few colours: a palette takes two thirds off a file. What is still larger is made smaller.
MOST_BYTES, COLOURS, SMALLER = 150_000, 128, 0.85


def read_cells(script: str) -> list[NotebookNode]:
    """Return the cells of a percent script, each with ``cell_type``, ``source`` and ``metadata``."""
    return jupytext.reads(script, fmt="py:percent").cells


def is_shown(cell: NotebookNode) -> bool:
    """Return whether the page shows a cell."""
    return "remove-cell" not in cell.metadata.get("tags", [])


def run_code(code: str, line: int, names: dict[str, Any], source: Path) -> str:
    """Run the code of a cell in a namespace and return what it prints; tracebacks count from `line` of the script."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * line + code, str(source), "exec"), names)
    return printed.getvalue()


def output_blocks(printed: str) -> Iterator[str]:
    """Split what was printed into Markdown tables with their captions, and all else as text."""
    text: list[str] = []
    for paragraph in printed.split("\n\n"):
        if paragraph.lstrip().startswith(("| ", "**")):
            yield from _fenced(text)
            text = []
            yield paragraph.strip()
        else:
            text.append(paragraph)
    yield from _fenced(text)


def _fenced(paragraphs: list[str]) -> Iterator[str]:
    text = "\n\n".join(paragraphs).strip("\n")
    if text.strip():
        yield f"```text\n{text}\n```"


def shrink(source: Path, target: Path) -> None:
    """Write a picture with a palette, and smaller where it is too large to be kept in a repository."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    while True:
        packed = io.BytesIO()
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        if packed.tell() <= MOST_BYTES:
            target.write_bytes(packed.getvalue())
            return
        size = (round(SMALLER * picture.width), round(SMALLER * picture.height))
        picture = picture.resize(size, Image.Resampling.LANCZOS)


def render(script: Path, work: Path, out: Path, arguments: Sequence[str]) -> str:
    """Run a percent script that draws into `work` and return the page; pictures go to ``pictures`` in `out`.

    Parameters
    ----------
    script
        The percent script; it is given ``--out`` and the arguments.
    work
        Folder for what it draws and writes.
    out
        Folder of the page.
    arguments
        Further arguments of the script.
    """
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(script)}
    parts, text, place = [], script.read_text(encoding="utf-8"), 0
    before, sys.argv = sys.argv, [str(script), "--out", str(work), *arguments]
    try:
        for cell in read_cells(text):
            if cell.cell_type == "markdown":
                parts.append(cell.source)
                continue
            drawn, place = set(work.glob("*.png")), text.index(cell.source, place)
            printed = run_code(cell.source, text.count("\n", 0, place), names, script)
            if not is_shown(cell):
                continue
            parts += [f"```python\n{cell.source}\n```", *output_blocks(printed)]
            for picture in sorted(set(work.glob("*.png")) - drawn):
                shrink(picture, pictures / f"tutorial_{picture.name}")
                parts.append(f"![{picture.stem.replace('_', ' ')}](pictures/tutorial_{picture.name})")
    finally:
        sys.argv = before
    return "\n\n".join(parts).replace(str(work), "pictures") + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--map", type=Path, help="the map; a simulated one when left out")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the page")
    chosen, further = parser.parse_known_args(arguments)
    begun = time.perf_counter()
    if chosen.map is not None:
        further = ["--map", str(chosen.map), *further]
    with tempfile.TemporaryDirectory() as work:
        page = render(SCRIPT, Path(work), chosen.out, further)
    if chosen.map is not None:
        # The page names the file, not where it lies.
        page = page.replace(f"{chosen.map.parent}/", "")
    of = "a simulated map" if chosen.map is None else chosen.map.name
    call = "" if chosen.map is None else f" --map {chosen.map.name}"
    page += (
        f"\n---\n\nRendered from {of} with bayesunmix {bayesunmix.__version__} by\n\n"
        f"    python docs/render_tutorial.py{call}\n"
    )
    (chosen.out / "tutorial.md").write_text(page, encoding="utf-8")
    print(f"wrote {chosen.out / 'tutorial.md'} in {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()

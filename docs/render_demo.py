"""Make the picture of the README from the folder that ``bayesunmix demo`` wrote.

bayesunmix demo --out bayesunmix-demo
python docs/render_demo.py bayesunmix-demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).resolve().parent / "pictures" / "demo.png"
FIGURES = ("maps", "partition")
WIDTH, GAP = 920, 20


def render(folder: Path, out: Path) -> None:
    """Put the maps above the partition coefficients.

    Parameters
    ----------
    folder
        Output folder of the demo.
    out
        File of the picture.
    """
    figures = [_scaled(folder / "figures" / f"{name}.png") for name in FIGURES]
    page = Image.new("RGB", (WIDTH, sum(figure.height + GAP for figure in figures) - GAP), "white")
    top = 0
    for figure in figures:
        page.paste(figure, (0, top))
        top += figure.height + GAP
    # Figures are few colours: a palette takes two thirds off the file.
    page.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(out, optimize=True)


def _scaled(path: Path) -> Image.Image:
    with Image.open(path) as figure:
        height = round(figure.height * WIDTH / figure.width)
        return figure.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="output folder of the demo")
    parser.add_argument("--out", type=Path, default=PICTURE, help="file of the picture")
    chosen = parser.parse_args()
    render(chosen.folder, chosen.out)

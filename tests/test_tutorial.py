"""The tutorial: the renderer on a small script, and whether the page in docs is the one of the script."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
SCRIPT = ROOT / "examples" / "real_map_percent.py"

SMALL = """# %% [markdown]
# # A title
# and *prose*

# %%
import argparse
from pathlib import Path

from matplotlib.figure import Figure

# %% tags=["remove-cell"]
parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path)
parser.add_argument("--words", type=int)
chosen = parser.parse_args()
print("not on the page")

# %%
print("number", chosen.words)
print("\\n**Caption**\\n\\n| a | b |\\n| --- | --- |\\n| 1 | 2 |\\n")
print("in", chosen.out)

# %%
figure = Figure()
figure.add_subplot().plot([1, 2])
figure.savefig(chosen.out / "line.png")
"""


@pytest.fixture(scope="module")
def renderer() -> dict[str, Any]:
    """Names of the renderer."""
    return runpy.run_path(str(ROOT / "docs" / "render_tutorial.py"), run_name="renderer")


def test_a_script_becomes_a_page(renderer: dict[str, Any], tmp_path: Path) -> None:
    script, work, out = tmp_path / "small.py", tmp_path / "work", tmp_path / "out"
    script.write_text(SMALL, encoding="utf-8")
    work.mkdir()
    page = renderer["render"](script, work, out, ["--words", "7"])
    assert page.startswith("# A title\nand *prose*\n\n```python\nimport argparse\n")
    assert "not on the page" not in page
    assert "ArgumentParser()" not in page
    table = "**Caption**\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert f"```text\nnumber 7\n```\n\n{table}\n\n```text\nin pictures\n```" in page
    assert page.rstrip().endswith("![line](pictures/tutorial_line.png)")
    assert (out / "pictures" / "tutorial_line.png").stat().st_size <= renderer["MOST_BYTES"]


def test_a_traceback_names_the_line_of_the_script(renderer: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "small.py"
    script.write_text("# %%\n1\n\n# %%\n\nraise ValueError('here')\n", encoding="utf-8")
    with pytest.raises(ValueError, match="here") as caught:
        renderer["render"](script, tmp_path, tmp_path, [])
    assert caught.traceback[-1].lineno + 1 == 6


def test_a_picture_that_is_too_large_gets_smaller(renderer: dict[str, Any], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    renderer["shrink"](tmp_path / "noise.png", tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as small:
        assert small.width < 800
        assert small.width / small.height == pytest.approx(4 / 3, rel=0.02)
    assert (tmp_path / "small.png").stat().st_size <= renderer["MOST_BYTES"]


def test_the_page_is_that_of_the_script(renderer: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    cells = filter(renderer["is_shown"], renderer["read_cells"](SCRIPT.read_text(encoding="utf-8")))
    shown = [cell.source for cell in cells]
    assert len(shown) > 20
    changed = [source.split("\n")[0] for source in shown if source not in page]
    assert not changed, f"render docs/tutorial.md anew: the cells that begin with {changed} are not on it"
    pictures = re.findall(r"\]\((pictures/[^)]+)\)", page)
    assert len(pictures) >= 8
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size <= renderer["MOST_BYTES"]

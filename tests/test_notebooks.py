"""Notebooks that run without a screen: progress that moves, one output that is left, and summaries that are shown."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="the kernel of notebooks comes with the extra `docs`")
nbclient = pytest.importorskip("nbclient", reason="what runs notebooks comes with the extra `docs`")
nbformat: ModuleType = pytest.importorskip("nbformat", reason="notebooks come with the extra `docs`")

# The client's own libraries warn of each other.
pytestmark = pytest.mark.filterwarnings("ignore")

README = Path(__file__).resolve().parents[1] / "README.md"


def run(cells: list[str], folder: Path) -> tuple[list[list[Any]], list[str]]:
    """Return the outputs of every cell, and each frame of the progress as it came."""
    frames: list[str] = []

    class Client(nbclient.NotebookClient):  # type: ignore[name-defined, misc]
        def process_message(self, message: Any, cell: Any, index: int) -> Any:  # noqa: ANN401
            if message["header"]["msg_type"] in ("display_data", "update_display_data"):
                frames.append(message["content"]["data"]["text/plain"])
            return super().process_message(message, cell, index)

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    Client(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs for cell in book.cells], frames


@pytest.fixture
def simulated() -> Callable[[Path], None]:
    """Write a small map of the example's phases."""
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.data.io import save
    from bayesunmix.simulation.simulate import simulate_map

    config = RunConfig.from_toml(README.parent / "examples" / "brg_fp_capv.toml")
    assert config.simulate is not None
    small = dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=(36, 36)))
    return lambda file: save(simulate_map(small, 1).image, file)


def in_html(output: Any) -> str:  # noqa: ANN401
    return str(output["data"]["text/html"])


def test_a_stage_moves_and_leaves_one_output(tmp_path: Path) -> None:
    stages = """
        import time
        from bayesunmix.core.progress import Reporter
        reporter = Reporter()
        for name in ("mode", "draws"):
            with reporter.stage(name):
                for share in (0.2, 0.6):
                    reporter.advance(share)
                    time.sleep(0.7)
    """
    declared = "import bayesunmix as bu\nbu.Phase('<b>', absent=['Si'])"
    (shown, phase), frames = run([re.sub(r"(?m)^ {8}", "", stages), declared], tmp_path)
    for name in ("mode", "draws"):
        assert len({frame for frame in frames if re.search(rf"^{name}: \d s \|", frame, re.MULTILINE)}) >= 2
    assert len(shown) == 1
    assert re.fullmatch(r"mode: 1\.\d s\ndraws: 1\.\d s", shown[0]["data"]["text/plain"])
    assert "<progress" not in in_html(shown[0])
    assert "&lt;b&gt;" in in_html(phase[0])


@pytest.mark.calibration
def test_the_first_example_of_the_readme_runs(tmp_path: Path, simulated: Callable[[Path], None]) -> None:
    simulated(tmp_path / "map.hspy")
    example = re.search(
        r"## A first example.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert example is not None
    looks = [
        "bu.load('map.hspy')",
        "bu.inspect('map.hspy')",
        "result",
        "bu.open_result('result')",
        "result.to_hyperspy()",
    ]
    outputs, frames = run([example[1], *looks], tmp_path)
    lasts = [frame.splitlines()[-1] for frame in frames if frame]
    for stage in ("mode", "draws"):
        moved = {last for last in lasts if re.match(rf"{stage}[^:]*: \d+ s", last)}
        assert len(moved) >= 2, lasts
    # One output of the run beside what is printed, in which every stage has a line.
    kinds = [output["output_type"] for output in outputs[0] if output.get("name") != "stderr"]
    assert kinds.count("display_data") == 1
    assert sum(len(str(output).splitlines()) for output in outputs[0]) < 100
    for shown, word in zip(
        outputs[1:], ("grid", "Peaks of", "of the atoms", "of the atoms", "lazy"), strict=True
    ):
        assert word in in_html(shown[-1])
        assert not re.search(r"(src|href)=|<script|@import", in_html(shown[-1]))

"""The demonstration compares an answer with the truth, and says where they differ."""

from __future__ import annotations

import dataclasses
import io
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bayesunmix import demo
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import SimulatedMap, Truth, simulate_map


@pytest.fixture(scope="module")
def simulated() -> SimulatedMap:
    config = phantom_config()
    assert config.simulate is not None
    return simulate_map(
        dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=(8, 8))), 0
    )


def answer(truth: Truth, *, wrong: str = "", point: bool = False) -> Any:  # noqa: ANN401 - stands for a Result
    """Return an answer that is right to 1 % but for one element, or one without intervals."""
    compositions, partitions = [], []
    for k, phase in enumerate(truth.phases):
        for i, element in enumerate(truth.elements):
            true = truth.composition[k, i]
            value = true * (1.5 if element == wrong else 1.0)
            absent = (phase, element) in {("Fp", "Si"), ("Fp", "Ca"), ("CaPv", "Mg")}
            state = "declared_absent" if absent else "true" if true > 0 else "false"
            ends = (
                (np.nan, np.nan, np.nan) if point else (0.99 * value, 1.01 * value, max(1.01 * value, 1e-4))
            )
            compositions.append((phase, element, "at_frac", value, *ends, state))
    states = {(row[0], row[1]): row[-1] for row in compositions}
    for top in truth.phases:
        for bottom in truth.phases:
            if top == bottom:
                continue
            for element, ratio in truth.partition(top, bottom).items():
                pair = (states[top, element], states[bottom, element])
                kind = "interval" if pair == ("true", "true") else "upper" if pair[0] == "false" else "lower"
                kind = "undetermined" if pair == ("false", "false") else kind
                finite = ratio if np.isfinite(ratio) else 1e3
                partitions.append((element, top, bottom, finite, 0.99 * finite, 1.01 * finite + 0.1, kind))
    columns = ["phase", "element", "unit", "median", "lower", "upper", "upper_bound", "detected"]
    ratios = ["element", "numerator", "denominator", "median", "lower", "upper", "kind"]
    summary, partition = pd.DataFrame(compositions, columns=columns), pd.DataFrame(partitions, columns=ratios)
    return types.SimpleNamespace(
        summary=lambda: summary,
        tables=types.SimpleNamespace(partition=lambda: partition),
        level=0.95,
        diagnostics_failed=(),
    )


def test_a_right_answer_is_right(simulated: SimulatedMap) -> None:
    table = demo.beside_truth(answer(simulated.truth), simulated.truth)
    assert table.inside.all()
    compositions = table[table.quantity == "composition"]
    assert len(compositions) == 3 * 10 - 3  # without those declared absent
    uranium = table[(table.phase == "CaPv/Fp") & (table.element == "U")].iloc[0]
    assert (uranium.truth, uranium.upper) == (np.inf, np.inf)
    assert not ((table.phase == "Fp/Brg") & (table.element == "Si")).any()


def test_a_wrong_answer_is_marked(simulated: SimulatedMap) -> None:
    table = demo.beside_truth(answer(simulated.truth, wrong="Si"), simulated.truth)
    wrong = table[(table.quantity == "composition") & ~table.inside.astype(bool)]
    assert set(zip(wrong.phase, wrong.element, strict=True)) == {("Brg", "Si"), ("CaPv", "Si")}
    console = Console(width=100, record=True, file=io.StringIO())
    demo.show(table, 0.95, console)
    text = console.export_text()
    assert text.count(demo.MISS) == 2
    assert f"{len(table) - 2} of {len(table)} intervals hold the truth" in text


def test_without_draws_there_is_nothing_to_judge(simulated: SimulatedMap) -> None:
    table = demo.beside_truth(answer(simulated.truth, point=True), simulated.truth)
    assert table[table.quantity == "composition"].inside.isna().all()


def test_demo_runs_the_phantom_and_writes_the_truth(
    simulated: SimulatedMap,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, Any] = {}

    def run_image(image: object, config: Any, out: Path, **options: object) -> Any:  # noqa: ANN401
        asked.update(options, method=config.inference.method, image=image, out=out)
        return answer(simulated.truth)

    monkeypatch.setattr("bayesunmix.pipeline.run_image", run_image)
    monkeypatch.setattr(demo, "simulate_map", lambda config, seed: simulated)
    result = demo.run_demo(tmp_path, "laplace", 3, True)
    assert result.level == 0.95
    assert asked == {
        "seed": 3,
        "overwrite": True,
        "resume": False,
        "method": "laplace",
        "image": simulated.image,
        "out": tmp_path,
    }
    table = pd.read_csv(tmp_path / "truth.csv")
    assert list(table.columns) == [
        "quantity",
        "phase",
        "element",
        "truth",
        "median",
        "lower",
        "upper",
        "inside",
    ]
    said = capsys.readouterr().out
    assert "Composition, atom %" in said
    assert "Partition coefficient D" in said


@pytest.mark.calibration
@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_whole_demo(tmp_path: Path) -> None:
    result = demo.run_demo(tmp_path / "out", "laplace", 0, False)
    assert result.diagnostics_failed == ()
    table = pd.read_csv(tmp_path / "out" / "truth.csv")
    # 95 % intervals of some 70 correlated quantities: fewer than 0.85 inside would be no accident.
    assert table.inside.mean() > 0.85
    assert (tmp_path / "out" / "composition.csv").is_file()

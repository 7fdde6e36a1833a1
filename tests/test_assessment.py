"""The laboratory on a posterior known on paper: a right engine passes, broken ones fail."""

import importlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from bayesunmix.laboratory.assessment import Assessment, assess, decisions, distorted
from bayesunmix.laboratory.coverage import CENTRAL, NONE, UPPER
from bayesunmix.laboratory.figures import plot_assessment, plot_power
from bayesunmix.laboratory.replicates import Replicate, run_study

N = 200
BROKEN = {
    "halved": partial(distorted, scale=0.5),
    "doubled": partial(distorted, scale=2.0),
    "biased": partial(distorted, shift=0.5),
}


@pytest.fixture(scope="module")
def replicates(tmp_path_factory: pytest.TempPathFactory) -> list[Replicate]:
    """Replicates of the conjugate study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        study = importlib.import_module("conjugate").study()
    return run_study(study, tmp_path_factory.mktemp("conjugate"), N)


def test_a_right_engine_passes(replicates: list[Replicate]) -> None:
    study = assess(replicates)
    assert study.passes
    assert list(study.table["quantity"]) == ["a", "b", "exp a"]
    for level in (0.5, 0.8, 0.9, 0.95):
        # Two of the three quantities are the same but for a transformation: a and b alone are counted.
        held = study.long.loc[study.long["quantity"] != "exp a", f"held_{100 * level:g}"]
        assert binomtest(int(held.sum()), 2 * N, level).pvalue > 1e-3
    # Ranks do not change under a monotone transformation.
    by_name = study.table.set_index("quantity")
    assert by_name.loc["a", "shift"] == pytest.approx(by_name.loc["exp a", "shift"], abs=0.02)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_engine_fails(replicates: list[Replicate], how: str) -> None:
    study = assess(BROKEN[how](replicates))
    assert not study.passes
    assert {"a", "b"} <= set(study.failing())
    row = study.table.set_index("quantity").loc["b"]
    if how == "halved":
        # Half of a 95 % interval of a normal holds 67 %.
        assert binomtest(round(row["coverage_95"] * N), N, 0.673).pvalue > 1e-3
        assert row["spread"] > 1.1
    elif how == "doubled":
        assert row["spread"] < 0.9
    else:
        assert row["shift"] < -0.2


def test_a_right_engine_raises_no_more_false_alarms_than_stated() -> None:
    rng = np.random.default_rng(5)
    studies, alarms = 80, 0
    for _ in range(studies):
        values = rng.standard_normal((15, 3, 60))
        alarms += not assess(
            [_replicate(i, value[:, 0], value[:, 1:]) for i, value in enumerate(values)]
        ).passes
    # At most 5 % of them: more than 11 of 80 happens once in a thousand times.
    assert alarms <= 11


def test_true_zeros_are_judged_by_what_is_reported() -> None:
    truth = np.array([0.0, 0.0, 1.0])
    draws = np.abs(np.random.default_rng(6).normal(truth[:, None], 0.1, (3, 500)))
    kinds = iter([[UPPER, CENTRAL, CENTRAL], [UPPER, UPPER, NONE]])
    found = [_replicate(i, truth, draws) for i in range(2)]
    study = assess(found, kinds=lambda replicate: np.array(next(kinds), dtype="<U12"))
    held = study.long["held_95"].tolist()
    assert held[:2] == [True, False]  # a false detection is an interval that misses zero
    assert held[3:] == [True, True, False]
    counted = decisions(study.long[study.long["truth"] == 0.0], ["quantity"]).set_index("quantity")
    assert counted["detected"].tolist() == [0, 1]
    assert counted.loc["1", "upper"] == pytest.approx(binomtest(1, 2).proportion_ci(method="exact").high)
    # An undetermined quantity is not counted, and ranks of fixed truths give no verdict.
    assert study.coverage(0.95)[1] == 5
    assert np.isnan(study.table["p_value"]).all()
    assert not study.passes


def test_failures_and_too_few_replicates_do_not_pass(replicates: list[Replicate]) -> None:
    lost = Replicate(
        number=N,
        names=(),
        truth=np.zeros(0),
        draws=np.zeros((0, 0)),
        seconds=1.0,
        failure="ValueError: no posterior",
    )
    study = assess([*replicates, lost])
    assert study.failures == (f"replicate {N}: ValueError: no posterior",)
    assert not study.passes
    assert distorted([lost], scale=0.5) == [lost]
    assert not assess(replicates[:5]).passes
    assert not assess([lost]).passes


def test_the_page_shows_every_engine(replicates: list[Replicate], tmp_path: Path) -> None:
    studies: dict[str, Assessment] = {"right": assess(replicates)}
    studies |= {name: assess(broken(replicates)) for name, broken in BROKEN.items()}
    figure = plot_assessment(studies)
    texts = [text.get_text() for text in figure.texts]
    assert f"right: {N} replicates" in texts
    outside = [text for text in texts if text.endswith("quantities outside")]
    assert len(outside) == len(studies)
    assert [text.startswith("0 of") for text in outside] == [True, *(False for _ in BROKEN)]
    assert len(figure.axes) == 2 * len(studies)
    figure.savefig(tmp_path / "page.png")
    named = figure.axes[2].get_legend()
    assert named is not None
    assert {text.get_text() for text in named.get_texts()} == {"a", "b", "exp a"}


def test_the_power_curve_has_a_place_for_zero() -> None:
    table = pd.DataFrame(
        [
            ("A", 0.0, 20, 1, 0.05, 0.0, 0.25),
            ("A", 100.0, 20, 19, 0.95, 0.75, 1.0),
            ("B", 100.0, 20, 2, 0.1, 0.0, 0.3),
        ],
        columns=["phase", "ppm", "replicates", "detected", "share", "lower", "upper"],
    )
    (axes,) = plot_power(table).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "100"]
    curves = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in curves] == [[0.05, 0.95], [0.1]]


def _replicate(number: int, truth: np.ndarray, draws: np.ndarray) -> Replicate:
    return Replicate(
        number=number, names=tuple(str(i) for i in range(len(truth))), truth=truth, draws=draws, seconds=0.0
    )

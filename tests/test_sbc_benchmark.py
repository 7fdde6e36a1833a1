"""The laboratory bound to the unmixing model: a small study of the real engines, and the benchmarks' arithmetic."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bayesunmix.laboratory.assessment import assess, distorted
from bayesunmix.laboratory.coverage import CENTRAL, LOWER, NONE, UPPER
from bayesunmix.laboratory.replicates import Replicate, run_study


def test_every_trace_runs_through_every_amount(load) -> None:  # noqa: ANN001
    detection = load("detection")
    simulate = detection.Simulate(8, "laplace")
    seen: dict[tuple[str, str], list[float]] = {}
    for seed in range(len(detection.LEVELS_PPM)):
        for phase in simulate.config(seed).simulated_phases:
            assert sum(phase.composition.values()) == pytest.approx(1.0)
            for element in detection.TRACES:
                amounts = seen.setdefault((phase.name, element), [])
                amounts.append(round(1e6 * phase.composition[element], 6))
    assert len(seen) == 15
    assert all(sorted(amounts) == sorted(detection.LEVELS_PPM) for amounts in seen.values())
    # Traces do not all change in step.
    assert len({tuple(amounts) for amounts in seen.values()}) > 5


def test_what_is_not_detected_is_judged_by_its_bound(load) -> None:  # noqa: ANN001
    detection = load("detection")
    rng = np.random.default_rng(0)
    amounts = {"Nd in A": 5.0, "Nd in B": 0.0, "Nd in C": 0.0, "Sm in A": 0.0, "Sm in B": 5.0}
    draws = {name: np.abs(rng.normal(mean, 1.0, 2000)) for name, mean in amounts.items()}
    named = draws | {f"{detection.COUNTING}{name}": values for name, values in draws.items()}
    named |= {name: np.ones(2000) for name in ("D Nd B/A", "D Nd C/B", "D Sm B/A", "D Nd A/A")}
    replicate = Replicate(
        number=0,
        names=tuple(named),
        truth=np.zeros(len(named)),
        draws=np.stack(list(named.values())),
        seconds=1.0,
    )
    kinds = dict(zip(named, detection.reported(replicate), strict=True))
    assert [kinds[name] for name in amounts] == [CENTRAL, UPPER, UPPER, UPPER, CENTRAL]
    ratios = [kinds[name] for name in ("D Nd B/A", "D Nd C/B", "D Sm B/A", "D Nd A/A")]
    assert ratios == [UPPER, NONE, LOWER, CENTRAL]


def test_rows_name_false_positives_and_power(load) -> None:  # noqa: ANN001
    detection = load("detection")
    rng = np.random.default_rng(1)
    names = [
        f"{prefix}{element} in Brg" for prefix in ("", detection.COUNTING) for element in detection.TRACES
    ]
    replicates = []
    for number in range(4):
        truth = np.full(len(names), 300e-6 if number < 2 else 0.0)
        # The last map shows U where there is none.
        mean = np.where((number == 3) & np.array([" U " in f" {name} " for name in names]), 9e-5, truth)
        draws = np.abs(rng.normal(mean[:, None], 1e-5, (len(names), 1000)))
        replicates.append(Replicate(number=number, names=tuple(names), truth=truth, draws=draws, seconds=1.0))
    found = {row.what: row for row in detection.detection_rows(assess(replicates, kinds=detection.reported))}
    assert found["false positives on true zeros"].measured.startswith("0.100 (1 of 10;")
    assert not found["false positives on true zeros"].holds
    assert found["power at 300 ppm of U in the matrix"].measured.startswith("1.000 (2 of 2;")
    assert found["power at 300 ppm of Nd in the matrix"].holds
    coverage = detection.coverage_rows(assess(replicates, kinds=detection.reported))
    assert "95 %: 0.9" in coverage[0].measured


@pytest.mark.calibration
def test_the_sampler_is_calibrated_on_a_small_map_and_broken_ones_are_not(load, tmp_path: Path) -> None:  # noqa: ANN001
    sbc: ModuleType = load("posterior_sbc")
    n, side = 24, 7
    pilot = sbc.kept_pilot(tmp_path / "pilot.pickle", sbc.small_map(side), n)
    assert (
        sbc.kept_pilot(tmp_path / "pilot.pickle", sbc.small_map(side), n).truths.shape == pilot.truths.shape
    )
    with pytest.raises(FileExistsError, match=f"holds {n} truths, {n + 1} are asked for"):
        sbc.kept_pilot(tmp_path / "pilot.pickle", sbc.small_map(side), n + 1)
    replicates = run_study(sbc.study(pilot, "nuts", side), tmp_path / "nuts", n, processes=2)
    study = assess(replicates)
    assert study.passes, study.table.sort_values("p_value").head().to_string()
    assert len(study.table) > 40
    for broken in (distorted(replicates, scale=0.5), distorted(replicates, shift=1.0)):
        assert not assess(broken).passes

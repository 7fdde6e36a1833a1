"""The posterior over the sources of a peak: what it rests on, and whether its probabilities hold."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest

from bayesunmix.inspection.peak_sources import NAMED, PeakSources, SourceCandidate, presence_prior
from bayesunmix.inspection.peaks import Peak, SumSpectrum
from bayesunmix.xray import Detector, LineTable, Response, bremsstrahlung

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
EDGES = np.linspace(0.2, 20.2, 2001)
DETECTOR = Detector.from_resolution()
TABLE = LineTable.built_in(200.0)


def spectrum(
    amounts: dict[str, float], extra: dict[float, float] | None = None, response: Response = DETECTOR.response
) -> SumSpectrum:
    """Draw a sum spectrum of elements, given their counts, and of `extra` lines, energy to counts."""
    expected = 2e5 * bremsstrahlung(EDGES, 200.0, DETECTOR.efficiency)
    for element, counts in amounts.items():
        lines = [line for line in TABLE.lines(element) if line.energy_keV > EDGES[0]]
        energy = np.array([line.energy_keV for line in lines])
        strength = np.array([line.strength for line in lines]) * DETECTOR.efficiency(energy)
        shape = response.spectrum(energy, strength, EDGES)
        expected = expected + counts * shape / shape.sum()
    if extra:
        expected = expected + DETECTOR.response.spectrum(list(extra), list(extra.values()), EDGES)
    counts = np.random.default_rng(3).poisson(expected).astype(np.float64)
    return SumSpectrum(
        counts=counts,
        edges_keV=EDGES,
        response=DETECTOR.response,
        table=TABLE,
        beam_energy_keV=200.0,
        efficiency=DETECTOR.efficiency,
    )


def at(drawn: SumSpectrum, energy_keV: float) -> Peak:
    (peak,) = [peak for peak in drawn.peaks if abs(peak.energy_keV - energy_keV) < 0.04]
    return peak


def probability(candidates: list[SourceCandidate], name: str) -> float:
    return sum(one.probability for one in candidates if one.name == name)


def test_probabilities_of_every_peak_add_up_to_one() -> None:
    drawn = spectrum({"Mg": 2e5, "Si": 2e5, "Cu": 4e4, "Pt": 3e4})
    for peak in drawn.peaks:
        found = PeakSources(drawn, ("Mg", "Si")).candidates(peak)
        assert sum(one.probability for one in found) == pytest.approx(1.0)
        assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
        assert found[-1].probability >= 0.0
        assert len({one.name for one in found}) == len(found)


def test_lines_that_are_missing_speak_against_an_element() -> None:
    """S Kα, Mo Lα and Pb Mα lie within 0.05 keV; Mo and Pb have lines elsewhere that S has not."""
    for element, energy in (("S", 2.308), ("Mo", 2.293), ("Pb", 2.346)):
        drawn = spectrum({"Si": 5e5, "Fe": 1e5, element: 5e4})
        (peak,) = [peak for peak in drawn.peaks if abs(peak.energy_keV - energy) < 0.03]
        best = PeakSources(drawn, ("Si", "Fe")).candidates(peak)[0]
        assert best.name == element
        assert best.probability > 0.9


def test_prior_decides_between_those_that_fit_alike() -> None:
    """Too weak for other lines to show, a peak leaves the choice to position and prior."""
    assert presence_prior("Tm", ["Tm"]) == NAMED
    priors = [presence_prior(element) for element in ("Cu", "Nd", "Tm", "Kr")]
    assert priors == sorted(priors, reverse=True)
    assert len(set(priors)) == 4
    drawn = spectrum({"Mg": 3e5}, extra={7.18: 1500.0})
    peak = at(drawn, 7.18)  # Tm Lα
    alone = probability(PeakSources(drawn, ("Mg",)).candidates(peak), "Tm")
    named = probability(PeakSources(drawn, ("Mg", "Tm")).candidates(peak), "Tm")
    assert 0.0 < alone < named


def test_position_counts() -> None:
    near, far = spectrum({"Mg": 3e5}, extra={8.04: 8e3}), spectrum({"Mg": 3e5}, extra={8.085: 8e3})
    here = probability(PeakSources(near, ("Mg",)).candidates(at(near, 8.04)), "Cu")
    aside = probability(PeakSources(far, ("Mg",)).candidates(at(far, 8.085)), "Cu")
    assert here > 2.0 * aside


def test_a_peak_without_lines_is_none_of_these() -> None:
    energies = np.array([group.energy_keV for group in spectrum({"Mg": 3e5}).groups])
    free = np.arange(14.0, 19.0, 0.01)
    place = float(free[np.abs(free[:, None] - energies).min(axis=1).argmax()])
    drawn = spectrum({"Mg": 3e5}, extra={place: 4e3})
    best = PeakSources(drawn, ("Mg",)).candidates(at(drawn, place))[0]
    assert (best.name, best.label, best.is_element) == ("unknown", "none of these", False)


def test_pile_up_is_named() -> None:
    # One rate for all pairs: each partner's share goes with its counts.
    partners = ((1.487, 6e-3), (2.984, 2e-3), (3.151, 1.2e-3))
    drawn = spectrum(
        {"Al": 1e6, "Ag": 6e5}, response=dataclasses.replace(DETECTOR.response, pile_up=partners)
    )
    found = PeakSources(drawn, ("Al", "Ag"))
    best = found.candidates(at(drawn, 4.47))[0]
    assert best.name == "pile-up"
    assert best.label == "sum of Al Kα and Ag Lα (pile-up)"
    assert set(found.guess(("Al", "Ag"))) == {"Al", "Ag"}


def test_escape_peaks_are_named() -> None:
    drawn = spectrum({"Ca": 3e6}, response=dataclasses.replace(DETECTOR.response, escape=1.0))
    best = PeakSources(drawn, ("Ca",)).candidates(at(drawn, 3.691 - 1.740))[0]
    assert best.name == "escape"
    assert best.label == "escape peak of Ca Kα"
    assert best.probability > 0.9


def test_a_strong_peak_in_the_place_of_an_escape_peak_is_none() -> None:
    drawn = spectrum({"Ca": 3e5, "Y": 3e5})  # Y Lα lies at 1.92 keV
    best = PeakSources(drawn, ("Ca",)).candidates(at(drawn, 1.93))[0]
    assert best.name == "Y"


def test_a_guess_is_revised() -> None:
    """Alone, the strongest peak of strontium titanate's surface, O Kα, could be of others: the end counts."""
    drawn = spectrum({"Sr": 3e5, "Ti": 3e5, "O": 3e5, "Cu": 3e4})
    assert set(PeakSources(drawn).guess(())) == {"Sr", "Ti", "O", "Cu"}


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch):  # noqa: ANN201
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("peak_candidates")


def check(module, seeds: range, *, exotic: bool, least: float) -> None:  # noqa: ANN001
    """Top candidates are right as often as they say, up to four standard errors and the 0.03 that docs own up to."""
    table = module.measure(seeds, exotic=exotic)
    top = table[table["rank"] == 0]
    stated, right = top["probability"].to_numpy(), top["right"].to_numpy(float)
    allowed = 0.03 + 4.0 * np.sqrt((stated * (1.0 - stated)).sum()) / len(top)
    assert right.mean() > least
    assert abs(right.mean() - stated.mean()) < allowed
    assert table.groupby(["seed", "peak"])["right"].sum().eq(1).all()


def test_probabilities_hold(benchmark_module) -> None:  # noqa: ANN001
    # About 50 peaks, of which 0.96 are right: 0.85 would be four standard errors below.
    check(benchmark_module, range(300, 303), exotic=False, least=0.85)


@pytest.mark.calibration
@pytest.mark.parametrize("exotic", [False, True])
def test_probabilities_hold_in_many_spectra(benchmark_module, exotic: bool) -> None:  # noqa: ANN001
    check(benchmark_module, range(400, 440), exotic=exotic, least=0.92)

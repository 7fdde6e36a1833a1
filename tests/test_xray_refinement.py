"""Planted spectrometers, line ratios, continua and undeclared elements, found again in a sum spectrum."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bayesunmix.core.errors import InputError
from bayesunmix.xray.absorption import absorption_depth, mixture_absorption_coefficient, thin_film_factor
from bayesunmix.xray.axis_fit import AxisFit, fit_axis
from bayesunmix.xray.continuum import (
    ThickPart,
    bremsstrahlung,
    continuum_basis,
    hat_functions,
    mean_depth_g_cm2,
)
from bayesunmix.xray.detector import Detector, channel_edges
from bayesunmix.xray.lines import Line, LineTable, line_group
from bayesunmix.xray.priors import DEFAULT_XRAY_PRIORS as PRIORS
from bayesunmix.xray.refinement import Refinement, refine
from bayesunmix.xray.response import Response
from bayesunmix.xray.sources import MOST_HATS as HATS
from bayesunmix.xray.spectrometer import N_BEND, N_SOFT, PRIOR_MEAN, RESPONSE_NAMES, SOFT_PARTNERS_KEV
from bayesunmix.xray.spread import ratio_spread

PRIOR_SD = PRIORS.spectrometer_sd(N_BEND, N_SOFT)

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ("Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U")
STRAY = ("Cu", "Ga", "Pt", "Zr")
BEAM = 200.0
DETECTOR = Detector.from_resolution(130.0)
TABLE = LineTable.built_in(BEAM, [*ELEMENTS, *STRAY, "O"])
# 1890 channels.
EDGES = channel_edges(1.0 + 0.01 * np.arange(1890))
# Share of each element in the detected counts of all lines.
SHARES = {
    **{
        "Mg": 0.26,
        "Al": 0.03,
        "Si": 0.28,
        "Ca": 0.03,
        "Fe": 0.10,
        "Nd": 0.012,
        "Sm": 0.01,
        "Lu": 0.008,
        "Hf": 0.01,
    },
    **{"U": 0.01, "Cu": 0.15, "Ga": 0.05, "Pt": 0.03, "Zr": 0.02},
}
CONTINUUM_SHARE = 0.15
PLANTED = Response(
    gain=1.0012,
    offset_keV=-0.006,
    noise_eV=62.0,
    fano=0.12,
    bend_eV=(3.0, -2.0, 1.0, 2.0, -3.0),
    collection_depth_um=0.06,
    surface_collection=0.4,
    escape=1.2,
)
SOFT, RATE = (0.002, 0.001, 0.004), 0.005
RATIOS = {
    ("Si", "K", "beta"): 1.25,
    ("Fe", "K", "beta"): 1.08,
    ("Nd", "L", "L2"): 0.90,
    ("Hf", "L", "L2"): 1.12,
    ("Cu", "K", "beta"): 1.30,
}


def film(energy_keV: FloatArray) -> FloatArray:
    """Transmission of 150 nm of an oxide, seen from 20 degrees."""
    fractions = {"Mg": 0.22, "Si": 0.27, "Fe": 0.08, "O": 0.43}
    coefficient = mixture_absorption_coefficient(fractions, energy_keV)
    return thin_film_factor(absorption_depth(coefficient, 4.3, 150.0, 20.0))


def correction(energy_keV: FloatArray) -> FloatArray:
    """Departure of the planted continuum from Kramers' shape: down to a half and up again, in no kink of the hats."""
    return np.asarray(1.0 - 0.4 * np.exp(-0.5 * (np.log(energy_keV / 4.0) / 0.8) ** 2))


@dataclass(frozen=True)
class Spectrum:
    """What a sum spectrum is drawn from."""

    counts: float = 2e6
    response: Response = PLANTED
    soft: tuple[float, float, float] = SOFT
    rate: float = RATE
    ratios: Mapping[tuple[str, str, str], float] = field(default_factory=lambda: RATIOS)
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    extra: Mapping[str, float] = field(default_factory=dict)  # counts of elements that are not declared
    added: float = 1.0  # share of a soft partner's energy that it adds
    bonding_eV: float = 0.0  # shift of the sample's K-beta lines from valence electrons
    edges: FloatArray = field(default_factory=lambda: EDGES)

    def families(self) -> dict[tuple[str, str], tuple[FloatArray, FloatArray]]:
        """Return energies and counts of the lines of every family."""
        every = LineTable.built_in(BEAM, [*self.shares, *self.extra]).with_ratios(
            self.ratios, DETECTOR.efficiency
        )
        every = every.with_bonding(1e-3 * self.bonding_eV, ELEMENTS)
        lines = {}
        for element in every.elements:
            seen = {}
            for name in every.families(element, self.edges[0], self.edges[-1]):
                group = every.lines(element, name)
                energy = np.array([line.energy_keV for line in group])
                strength = np.array([line.strength for line in group])
                seen[element, name] = energy, strength * DETECTOR.efficiency(energy) * film(energy)
            total = sum(area.sum() for _, area in seen.values())
            wanted = self.extra.get(element, self.counts * self.shares.get(element, 0.0))
            lines |= {key: (energy, wanted / total * area) for key, (energy, area) in seen.items()}
        return lines

    def piled(self) -> Response:
        """Return the response with its pile-up: soft partners, and all families in proportion to their counts."""
        families = self.families()
        total = sum(area.sum() for _, area in families.values()) / (1.0 - CONTINUUM_SHARE)
        partners = [
            (float(np.average(energy, weights=area)), self.rate * float(area.sum() / total))
            for energy, area in families.values()
        ]
        soft = [
            (self.added * energy, share) for energy, share in zip(SOFT_PARTNERS_KEV, self.soft, strict=True)
        ]
        pile_up = (*soft, *partners)
        return dataclasses.replace(self.response, pile_up=pile_up)

    def expected(self) -> FloatArray:
        """Return the expected counts of the channels."""
        response = self.piled()
        centre = 0.5 * (self.edges[1:] + self.edges[:-1])
        inside = np.maximum(centre, 1e-3)
        shape = bremsstrahlung(self.edges, BEAM, DETECTOR.efficiency) * film(inside) * correction(inside)
        total = CONTINUUM_SHARE * self.counts * shape / shape.sum()
        for energy, area in self.families().values():
            total = total + response.spectrum(energy, area, self.edges)
        return np.asarray(total)

    def draw(self, seed: int) -> FloatArray:
        """Poisson counts."""
        return np.random.default_rng(seed).poisson(self.expected()).astype(np.float64)


BRIGHT = Spectrum(counts=2e7)


def fit(
    counts: FloatArray,
    edges: FloatArray = EDGES,
    *,
    table: LineTable = TABLE,
    elements: tuple[str, ...] = ELEMENTS,
    stray: tuple[str, ...] = STRAY,
    find_undeclared: bool = True,
) -> tuple[Refinement, AxisFit]:
    """Fit the axis and refine."""
    rough = fit_axis(counts, edges, table, elements, stray, beam_energy_keV=BEAM, detector=DETECTOR)
    refined = refine(
        counts,
        edges,
        table,
        elements,
        stray,
        rough,
        beam_energy_keV=BEAM,
        detector=DETECTOR,
        transmission=film,
        find_undeclared=find_undeclared,
    )
    return refined, rough


def values(response: Response) -> dict[str, float]:
    """Parameters under the names of a refinement; the rate of pile-up is read off the shares of the partners."""
    numbers = [response.gain, response.offset_keV, response.noise_eV, response.fano, *response.bend_eV]
    numbers += [response.collection_depth_um, response.surface_collection, response.escape]
    numbers += [share for _, share in response.pile_up[: len(SOFT)]]
    return dict(zip(RESPONSE_NAMES[: len(numbers)], numbers, strict=True))


def errors(plan: Spectrum, extra: str | None = None) -> tuple[dict[tuple[str, str, str], float], FloatArray]:
    """Return the counts of each group of lines, and the covariance of all that is free, an undeclared element last.

    Free are groups, hats of the continuum, gain, offset and width, with the priors of ratios and width.
    """
    response, mean = plan.piled(), plan.expected()
    names: dict[tuple[str, str, str], float] = {}
    rows = []
    others = {} if extra is None else {extra: 1.0}
    every = dataclasses.replace(plan, extra=dict(plan.extra) | others)
    declared = [key for key in every.families() if key[0] != extra]
    for element, family in declared:
        energy, area = every.families()[element, family]
        groups = [line_group(line) for line in TABLE.lines(element, family)]
        for name in dict.fromkeys(groups):
            mine = np.array([group == name for group in groups])
            names[element, family, name] = float(area[mine].sum())
            rows.append(response.spectrum(energy[mine], area[mine] / area[mine].sum(), plan.edges))
    for j, hat in enumerate(continuum_basis(plan.edges, BEAM, DETECTOR.efficiency, HATS)):
        names["continuum", "", str(j)] = 0.0
        rows.append(hat)
    for name, step in {"gain": 1e-5, "offset_keV": 1e-5, "noise_eV": 0.1, "fano": 1e-4}.items():
        names["response", "", name] = 0.0
        moved = dataclasses.replace(plan.response, **{name: getattr(plan.response, name) + step})
        rows.append((dataclasses.replace(plan, response=moved).expected() - mean) / step)
    if extra is not None:
        names[extra, "", ""] = 0.0
        lines = [value for key, value in every.families().items() if key[0] == extra]
        rows.append(np.sum([response.spectrum(energy, area, plan.edges) for energy, area in lines], axis=0))
    scaled = np.array(rows) / np.sqrt(mean)
    size = np.linalg.norm(scaled, axis=1)
    size[size == 0.0] = 1.0
    unit = scaled / size[:, None]
    known = _prior_rows(names, len(rows)) / size
    information = unit @ unit.T + known.T @ known + 1e-9 * np.eye(len(unit))
    return names, np.linalg.inv(information) / np.outer(size, size)


def _prior_rows(names: Mapping[tuple[str, str, str], float], number: int) -> FloatArray:
    """Return what priors say of (group, hat, response), in units of their standard deviations."""
    place = {name: index for index, name in enumerate(names)}
    rows = []
    for element, family in {name[:2] for name in names if name[0] in TABLE.elements}:
        groups = [name for name in names if name[:2] == (element, family)]
        main = max(groups, key=lambda name: names[name])
        for group in groups:
            if group != main:
                row = np.zeros(number)
                row[place[group]], row[place[main]] = 1.0 / names[group], -1.0 / names[main]
                rows.append(row / ratio_sd(element, family, group, main[2]))
    for name, sd in zip(RESPONSE_NAMES[:4], PRIOR_SD[:4], strict=True):
        row = np.zeros(number)
        row[place["response", "", name]] = 1.0 / sd
        rows.append(row)
    return np.array(rows)


def ratio_sd(element: str, family: str, group: str, main: str) -> float:
    """Return the prior standard deviation of a log ratio: light K-beta and stray lines are the least known."""
    if element in STRAY:
        return PRIORS.line_ratio_stray_sd
    if family == "K" and element in ("Mg", "Al", "Si"):
        return PRIORS.line_ratio_valence_k_sd
    return float(np.hypot(PRIORS.line_ratio_sd(family), ratio_spread(element, group, main)))


def sigma_of(plan: Spectrum, element: str) -> float:
    """Return the standard error of the counts of an element that nobody declared."""
    return float(np.sqrt(errors(plan, element)[1][-1, -1]))


@pytest.fixture(scope="module")
def replicates() -> list[Refinement]:
    mean, rng = Spectrum().expected(), np.random.default_rng(5)
    return [fit(rng.poisson(mean).astype(np.float64))[0] for _ in range(6)]


@pytest.fixture(scope="module")
def bright() -> Refinement:
    """Ten times the counts, where the priors matter less."""
    return fit(BRIGHT.draw(1))[0]


def test_planted_spectrometer_is_found(replicates: list[Refinement]) -> None:
    planted = values(Spectrum().piled())
    for refined in replicates:
        found = values(refined.response)
        for name, truth in planted.items():
            assert abs(found[name] - truth) < 5.0 * refined.standard_errors[name], name


def test_bonding_and_partial_pile_up_are_found() -> None:
    """An oxide's K-beta and pulses that overlap in part: both are read off, and the table holds the lines moved."""
    plan = Spectrum(added=0.93, bonding_eV=-6.0)
    refined, _ = fit(plan.draw(11))
    assert abs(refined.bonded_k_beta_eV + 6.0) < 4.0 * refined.standard_errors["bonded_k_beta_eV"]
    assert refined.standard_errors["bonded_k_beta_eV"] < 2.0
    soft = [energy for energy, _ in refined.response.pile_up[: len(SOFT)]]
    ratio = np.array(soft) / SOFT_PARTNERS_KEV
    assert np.ptp(ratio) < 1e-12
    assert abs(ratio[0] - 0.93) < 4.0 * refined.standard_errors["pile_up_added"]
    moved = {line.line: line.energy_keV for line in refined.table.lines("Si")}
    still = {line.line: line.energy_keV for line in TABLE.lines("Si")}
    assert moved["KM3"] - still["KM3"] == pytest.approx(1e-3 * refined.bonded_k_beta_eV)
    assert moved["KL3"] == still["KL3"]
    # Bars and apertures are not the sample, and heavy elements emit K-beta from the core.
    assert refined.table.lines("Fe", "K")[-1].energy_keV == TABLE.lines("Fe", "K")[-1].energy_keV


def test_errors_of_the_spectrometer_are_not_too_small(replicates: list[Refinement]) -> None:
    """Over six replicates the squared z follow chi-square at most: priors make the scatter smaller, not larger."""
    planted = values(Spectrum().piled())
    for name, truth in planted.items():
        z = [
            (values(refined.response)[name] - truth) / refined.standard_errors[name] for refined in replicates
        ]
        assert np.sum(np.square(z)) < stats.chi2.isf(1e-5, len(z)), name


def test_errors_of_the_spectrometer_are_not_too_large(replicates: list[Refinement]) -> None:
    """Two million counts say more than the priors do; where a parameter is a few hundred counts, they say a little."""
    ratio = {
        name: replicates[0].standard_errors[name] / sd
        for name, sd in zip(RESPONSE_NAMES, PRIOR_SD, strict=True)
    }
    assert max(ratio[name] for name in ("gain", "offset_keV", "noise_eV", "fano")) < 0.15
    assert max(ratio[name] for name in ("collection_depth_um", "pile_up_0.525_keV", "pile_up")) < 0.15
    assert ratio["escape"] < 0.5
    assert max(ratio.values()) < 1.05


def test_fits_of_one_spectrum_scatter_along_its_directions_as_told(replicates: list[Refinement]) -> None:
    """Where the counts say far more than the prior, fits to two draws differ by sqrt(2) of the direction's unit."""
    first = replicates[0]
    directions = first.directions
    sd = np.concatenate(
        [PRIOR_SD, [ratio_sd(*key, "alpha" if key[1] == "K" else "L3") for key in directions.ratios]]
    )
    # Units of the directions: x_m = sd_m^2 sum_p u_mp r_p / S_p^2.
    along = np.concatenate([directions.theta, directions.log_ratio], axis=1)
    read = directions.sd[:, None] ** 2 * along / sd**2
    well_told = directions.sd > 10.0
    assert well_told.sum() >= 8

    def parameters(refined: Refinement) -> FloatArray:
        ratios = [np.log(refined.line_ratios.get(key, 1.0)) for key in directions.ratios]
        return np.concatenate([refined.theta, ratios])

    apart = [
        read @ (parameters(one) - parameters(two))
        for one, two in zip(replicates[::2], replicates[1::2], strict=True)
    ]
    squares = np.array(apart)[:, well_told] ** 2 / 2.0
    lower, upper = stats.chi2.ppf([1e-4, 1.0 - 1e-4], squares.size) / squares.size
    assert lower < squares.mean() < upper


def test_rate_of_pile_up_is_found(replicates: list[Refinement]) -> None:
    """Partners are the families with a per cent of the counts or more: their shares times one rate."""
    for refined in replicates:
        planted = dict(Spectrum().piled().pile_up[len(SOFT) :])
        partners = dict(refined.response.pile_up[len(SOFT) :])
        silicon = next(energy for energy in partners if abs(energy - 1.742) < 2e-3)
        (truth,) = [share for energy, share in planted.items() if abs(energy - 1.742) < 2e-3]
        error = refined.standard_errors["pile_up"] / RATE * truth
        assert abs(partners[silicon] - truth) < 5.0 * error


def test_model_fits_within_counting_noise(replicates: list[Refinement]) -> None:
    """Deviances add up to chi-square: of the degrees of freedom at least, of all channels at most (priors help)."""
    channels = (EDGES.size - 1) // 2  # two in one, being much finer than the peaks
    total = sum(refined.deviance for refined in replicates)
    dof = [refined.degrees_of_freedom for refined in replicates]
    assert channels - 110 < min(dof)
    assert max(dof) < channels
    assert stats.chi2.ppf(1e-4, sum(dof)) < total < stats.chi2.isf(1e-4, channels * len(replicates))
    assert replicates[0].deviance_per_dof == replicates[0].deviance / dof[0]


def test_a_poorer_model_does_not_fit() -> None:
    """The fit of the axis knows no tail, escape, pile-up or ratios, and misses the same spectrum by far."""
    _, rough = fit(Spectrum().draw(1), find_undeclared=False)
    assert stats.chi2.sf(rough.deviance, rough.degrees_of_freedom) < 1e-12


def test_planted_line_ratios_are_found(bright: Refinement) -> None:
    names, covariance = errors(BRIGHT)
    place = {name: index for index, name in enumerate(names)}
    for (element, family, group), truth in RATIOS.items():
        main = "alpha" if family == "K" else "L3"
        one, two = place[element, family, group], place[element, family, main]
        size = np.zeros(len(names))
        size[one], size[two] = 1.0 / names[element, family, group], -1.0 / names[element, family, main]
        error = float(np.sqrt(size @ covariance @ size))
        found = np.log(bright.line_ratios[element, family, group])
        prior = ratio_sd(element, family, group, main)
        pull = abs(np.log(truth)) * (error / prior) ** 2
        assert abs(found - np.log(truth)) < 5.0 * error + pull, (element, family, group)
        assert error < 0.5 * prior  # else the prior would answer


def test_table_holds_the_ratios_and_keeps_the_totals(bright: Refinement) -> None:
    for element, family, group in bright.line_ratios:
        kept = bright.table.detected_strength(element, family, DETECTOR.efficiency)
        assert kept == pytest.approx(TABLE.detected_strength(element, family, DETECTOR.efficiency), rel=1e-9)
        before = {line.line: line.strength for line in TABLE.lines(element, family)}
        after = {line.line: line.strength for line in bright.table.lines(element, family)}
        change: dict[str, float] = {}
        for line in TABLE.lines(element, family):
            change.setdefault(line_group(line), after[line.line] / before[line.line])
            assert after[line.line] / before[line.line] == pytest.approx(change[line_group(line)])
        fixed = [
            factor for name, factor in change.items() if (element, family, name) not in bright.line_ratios
        ]
        assert change[group] / fixed[0] == pytest.approx(bright.line_ratios[element, family, group])
    assert bright.table.lines("O") == TABLE.lines("O")


def test_ratios_by_hand() -> None:
    """Two lines seen with efficiencies 1 and 1/2: doubling the second leaves 3 + 1 counts in the ratio 3 to 2."""
    pair = (
        Line(element="Cu", line="KL3", family="K", energy_keV=8.0, strength=3.0),
        Line(element="Cu", line="KM3", family="K", energy_keV=9.0, strength=2.0),
    )
    other = Line(element="Cu", line="L3M5", family="L", energy_keV=0.93, strength=7.0)
    table = LineTable((*pair, other), "by hand", ((("Cu", "K"), 0.02),))

    def efficiency(energy: FloatArray) -> FloatArray:
        return np.where(energy > 8.5, 0.5, 1.0)

    changed = table.with_ratios({("Cu", "K", "beta"): 2.0}, efficiency)
    assert [line.strength for line in changed.entries] == pytest.approx([3.0 * 0.8, 4.0 * 0.8, 7.0])
    assert (changed.source, changed.measured_sd) == (table.source, table.measured_sd)
    assert table.with_ratios({}, efficiency) == table
    with pytest.raises(InputError, match=r"`xray.table` must hold lines of Fe, but has none"):
        table.with_ratios({("Fe", "K", "beta"): 2.0}, efficiency)


def test_counts_of_families_include_what_the_ratios_changed(bright: Refinement) -> None:
    """Planted K-beta of 1.3 times the nominal is 4 % of copper's counts: many times their error."""
    names, covariance = errors(BRIGHT)
    for element in ("Mg", "Al", "Si", "Ca", "Fe", "Cu", "Ga", "Zr"):
        mine = np.array([float(name[:2] == (element, "K")) for name in names])
        planted = sum(counts for name, counts in names.items() if name[:2] == (element, "K"))
        error = float(np.sqrt(mine @ covariance @ mine))
        # Lines below a thousandth of their family are left out of the fit, and are a few thousandths together.
        assert abs(bright.counts[f"{element}_K"] - planted) < 5.0 * error + 2e-3 * planted, element
        assert error < 0.02 * planted


def test_planted_continuum_is_found(bright: Refinement) -> None:
    """Its shape, within the counting errors of the hats and what lies between two knots of a curve."""
    names, covariance = errors(BRIGHT)
    hats = [index for index, name in enumerate(names) if name[0] == "continuum"]
    knots, factor = np.array(bright.continuum.energy_keV), np.array(bright.continuum.factor)
    assert len(knots) == HATS
    centre = 0.5 * (EDGES[1:] + EDGES[:-1])
    shape = bremsstrahlung(EDGES, BEAM, DETECTOR.efficiency) * film(centre) * correction(centre)
    hat = hat_functions(centre, knots[0], knots[-1], HATS)
    counts = CONTINUUM_SHARE * BRIGHT.counts * (hat * shape).sum(axis=1) / shape.sum()
    relative = np.sqrt(np.diag(covariance)[hats]) / counts
    ratio = factor / correction(knots)
    ratio = ratio / np.average(ratio, weights=relative**-2)
    assert np.all(np.abs(ratio - 1.0) < 5.0 * relative + 0.01)
    assert (relative < 0.02).sum() > HATS // 2
    # Between the knots it is linear in the logarithm, and constant beyond them.
    middle = np.sqrt(knots[3] * knots[4])
    assert bright.continuum(middle) == pytest.approx(0.5 * (factor[3] + factor[4]))
    np.testing.assert_allclose(bright.continuum(np.array([-0.1, 0.01, 99.0])), factor[[0, 0, -1]])
    assert factor.max() == 1.0
    assert factor.min() > 0.0


def test_the_edge_of_a_thick_part_is_found() -> None:
    """A continuum with the K edge of copper in it, and a step of a fifth there, eight standard deviations."""
    part = ThickPart(
        element="Cu",
        edge_keV=8.979,
        sigma_keV=DETECTOR.response.fwhm_keV(8.979) / 2.355,
        depth_g_cm2=mean_depth_g_cm2("Cu", BEAM),
        amount=0.3,
    )
    centre = 0.5 * (EDGES[1:] + EDGES[:-1])
    shape = bremsstrahlung(EDGES, BEAM, DETECTOR.efficiency) * film(centre)
    whole = CONTINUUM_SHARE * Spectrum().counts / (shape * correction(centre)).sum()
    planted = shape * part(centre)
    counts = np.random.default_rng(8).poisson(Spectrum().expected() + whole * planted).astype(np.float64)
    refined, _ = fit(counts)
    (found,) = refined.continuum.thick
    assert found.element == "Cu"
    # What the edge takes: the continuum below it over that above it.
    around = np.array([8.6, 9.3])
    below, above = refined.continuum(around)
    true_below, true_above = correction(around) + part(around)
    assert below / above == pytest.approx(true_below / true_above, rel=0.04)
    assert true_below / true_above > 1.1
    assert refined.deviance_per_dof < 1.15


def test_a_thick_part_by_hand() -> None:
    """The absorption jump of copper at its edge, over the depth at which 200 keV electrons make X-rays."""
    depth = mean_depth_g_cm2("Cu", BEAM)
    assert depth == pytest.approx(0.3 * 2.76e-6 * 63.546 * 200.0**1.67 / 29.0**0.89, rel=1e-3)
    part = ThickPart(element="Cu", edge_keV=8.979, sigma_keV=0.001, depth_g_cm2=depth, amount=0.2)
    low, high = (float(mixture_absorption_coefficient({"Cu": 1.0}, np.array([e]))[0]) for e in (8.9, 9.1))
    ratio = part(np.array([8.9]))[0] / part(np.array([9.1]))[0]
    assert ratio == pytest.approx((1.0 + high * depth) / (1.0 + low * depth), rel=1e-3)
    assert part(np.array([0.97 * 8.979]))[0] == pytest.approx(0.2, rel=1e-3)


def test_nothing_is_found_where_nothing_is_planted(replicates: list[Refinement], bright: Refinement) -> None:
    """Some 80 candidates at four and a half sigma: one false alarm in thousands of spectra."""
    assert all(refined.continuum.thick == () for refined in (*replicates, bright))
    assert [refined.found for refined in [*replicates, bright]] == [{}] * 7


@pytest.mark.parametrize(
    "elements",
    [("Co", "Pb"), *(pytest.param((one,), marks=pytest.mark.calibration) for one in ("Co", "Pb", "Ti"))],
)
def test_an_element_of_ten_sigma_is_found(elements: tuple[str, ...]) -> None:
    """Cobalt next to iron's K-beta, lead's M lines in a crowd; with their counts, and no other."""
    sigma = {element: sigma_of(Spectrum(), element) for element in elements}
    plan = Spectrum(extra={element: 10.0 * error for element, error in sigma.items()})
    refined, _ = fit(plan.draw(1))
    assert set(refined.found) == set(elements)
    for element, error in sigma.items():
        assert abs(refined.found[element] - plan.extra[element]) < 5.0 * error
        assert refined.table.lines(element) == LineTable.built_in(BEAM, [element]).lines(element)
    assert list(refined.found.values()) == sorted(refined.found.values(), reverse=True)
    assert stats.chi2.sf(refined.deviance, (EDGES.size - 1) // 2) > 1e-5


def test_undeclared_elements_are_not_looked_for_when_not_wanted() -> None:
    plan = Spectrum(extra={"Co": 2e4})
    refined, _ = fit(plan.draw(1), find_undeclared=False)
    assert refined.found == {}
    assert "Co" not in refined.table.elements
    assert refined.deviance_per_dof > 2.0


def test_a_users_table_that_lacks_elements() -> None:
    """Strengths in another unit, and none of the stray elements: all four are found, the weak ones as well."""
    own = tuple(
        dataclasses.replace(line, strength=1e20 * line.strength)
        for line in TABLE.entries
        if line.element in ELEMENTS
    )
    plan = Spectrum(ratios={})
    refined, _ = fit(plan.draw(6), table=LineTable(own, "file"), stray=())
    assert list(refined.found) == ["Cu", "Ga", "Pt", "Zr"]
    for element, counts in refined.found.items():
        assert counts == pytest.approx(plan.counts * SHARES[element], rel=0.05)
    # Ratios between the families of an element found are those of the built-in table: not exact.
    assert refined.deviance_per_dof < 2.0
    assert refined.table.source == "file"


def test_few_counts_leave_the_priors_as_they_are() -> None:
    for seed in range(3):
        refined, _ = fit(Spectrum(counts=5e3).draw(seed))
        assert refined.found == {}
        assert 0.8 < refined.deviance_per_dof < 1.4  # few counts in a channel: not chi-square
        found = values(refined.response)
        for place, name in enumerate(RESPONSE_NAMES[4 : len(found)], start=4):
            assert refined.standard_errors[name] > 0.5 * PRIOR_SD[place], name
            assert abs(found[name] - PRIOR_MEAN[place]) < 2.5 * PRIOR_SD[place], name
        deviating = [
            np.log(factor) for (_, family, _), factor in refined.line_ratios.items() if family != "K"
        ]
        assert np.max(np.abs(deviating)) < 3.0 * PRIORS.line_ratio_stray_sd
        assert np.all(np.array(refined.continuum.factor) > 0.0)


def test_a_few_photons_do_not_break_it() -> None:
    counts = np.zeros(EDGES.size - 1)
    counts[[25, 74, 75, 540]] = 1.0
    refined, _ = fit(counts)
    assert np.all(np.isfinite(list(values(refined.response).values())))
    assert np.all(np.isfinite(list(refined.standard_errors.values())))
    assert np.all(np.isfinite(refined.continuum.factor))
    assert refined.found == {}


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [
        (-0.2, 20.0, 0.01),
        *(pytest.param(0.2, *rest, marks=pytest.mark.calibration) for rest in [(20.0, 0.01), (40.0, 0.005)]),
    ],
)
def test_other_axes_with_oxygen_on_them(low: float, high: float, step: float) -> None:
    """From below zero, from oxygen's line on, and with channels much finer than the peaks."""
    edges = np.arange(low, high + step / 2, step)
    plan = Spectrum(edges=edges, shares={**SHARES, "O": 0.2})
    refined, _ = fit(plan.draw(3), edges, elements=(*ELEMENTS, "O"))
    found, planted = values(refined.response), values(plan.piled())
    for name, truth in planted.items():
        assert abs(found[name] - truth) < 5.0 * refined.standard_errors[name], name
    assert refined.found == {}
    assert refined.counts["O_K"] == pytest.approx(0.2 * plan.counts, rel=0.01)
    assert refined.counts["Mg_K"] == pytest.approx(SHARES["Mg"] * plan.counts, rel=0.01)
    assert refined.deviance_per_dof < 1.25
    assert refined.degrees_of_freedom < (edges.size - 1) // (2 if step == 0.01 and low >= 0.2 else 1)
    assert np.all(np.isfinite(refined.continuum.factor))

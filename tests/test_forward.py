"""Yields, families and components against a hand calculation from the line table."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xraylib
from scipy.special import ndtr

from bayesunmix.core.errors import InputError
from bayesunmix.forward.spectra import (
    MAIN_SHARE,
    THICKNESS_GRID,
    Film,
    ForwardModel,
    forward_model,
    main_family,
)
from bayesunmix.xray import Detector, LineTable
from bayesunmix.xray.continuum import ContinuumCorrection, bremsstrahlung
from bayesunmix.xray.priors import DEFAULT_XRAY_PRIORS as PRIORS
from bayesunmix.xray.spread import strength_spread

FloatArray = npt.NDArray[np.float64]

BEAM = 200.0
THIN = Film(thickness_nm=(100.0, 30.0), density_g_cm3=(4.5, 0.3), takeoff_angle_deg=None, oxygen=True)
FILM = Film(thickness_nm=(300.0, 60.0), density_g_cm3=(5.0, 0.5), takeoff_angle_deg=22.0, oxygen=True)
ELEMENTS = ("Mg", "Si", "Fe")
EQUAL = np.full((1, 3), 1 / 3)


def model(
    elements: tuple[str, ...] = ELEMENTS, stray: tuple[str, ...] = (), low: float = 0.9, **options: object
) -> ForwardModel:
    detector = Detector.from_resolution(130.0)
    settings: dict[str, Any] = {
        "table": LineTable.built_in(BEAM, dict.fromkeys((*elements, *stray, "O", "Si"))),
        "detector": detector,
        "response": detector.response,
        "film": FILM,
        "beam_energy_keV": BEAM,
        "edges_keV": np.arange(low, 20.0, 0.02),
        "seen_oxygen": False,
    }
    return forward_model(elements, stray, **(settings | options))


def depth(energy: float, film: Film = FILM, atoms: dict[str, float] | None = None) -> float:
    """Absorption depth of the oxide of equal parts of Mg, Si and Fe, from xraylib alone."""
    atoms = atoms or {"Mg": 1.0, "Si": 1.0, "Fe": 1.0, "O": 1.0 + 2.0 + 1.0}
    number = {element: xraylib.SymbolToAtomicNumber(element) for element in atoms}
    weight = {element: n * xraylib.AtomicWeight(number[element]) for element, n in atoms.items()}
    coefficient = sum(w * xraylib.CS_Total(number[e], energy) for e, w in weight.items()) / sum(
        weight.values()
    )
    assert film.takeoff_angle_deg is not None
    path = film.density_g_cm3[0] * film.thickness_nm[0] * 1e-7
    return coefficient * path / math.sin(math.radians(film.takeoff_angle_deg))


def detected(forward: ForwardModel, element: str, family: str, film: Film | None) -> float:
    """Return the counts per atom of a family inside the fitted range."""
    total = 0.0
    low, high = forward.edges_keV[[0, -1]]
    for line in forward.table.lines(element, family):
        energy = line.energy_keV
        sigma = float(forward.response.fwhm_keV(energy)) / math.sqrt(8 * math.log(2))
        inside = ndtr((high - energy) / sigma) - ndtr((low - energy) / sigma)
        chi = 0.0 if film is None else depth(energy, film)
        absorbed = 1.0 if chi == 0.0 else (1.0 - math.exp(-chi)) / chi
        total += line.strength * float(forward.detector.efficiency(energy)) * absorbed * inside
    return total


@pytest.mark.parametrize("film", [None, FILM])
def test_yields_are_those_of_a_hand_calculation(film: Film | None) -> None:
    forward = model(film=THIN if film is None else film)
    basis, yields = forward.basis(EQUAL, np.ones((1, 3), bool))
    by_hand = np.array([detected(forward, element, "K", film) for element in ELEMENTS])
    # Yields have a common unit of their own.
    np.testing.assert_allclose(yields[0] / yields[0, 1], by_hand / by_hand[1], rtol=1e-6)
    ratios = [
        detected(forward, family.element, family.family, film) / detected(forward, family.element, "K", film)
        for family in forward.families
    ]
    np.testing.assert_allclose(basis.family_ratio[0], ratios, rtol=1e-6)


def test_absorption_is_that_of_the_phases_own_composition() -> None:
    forward = model()
    compositions = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    _, yields = forward.basis(compositions, np.ones((2, 3), bool))
    thin = detected(forward, "Si", "K", None)
    energy = max(forward.table.lines("Si", "K"), key=lambda line: line.strength).energy_keV
    factors = []
    for atoms in ({"Mg": 1.0, "O": 1.0}, {"Fe": 1.0, "O": 1.0}):
        chi = depth(energy, FILM, atoms)
        factors.append((1 - math.exp(-chi)) / chi)
    # Silicon's two lines lie within 0.1 keV: one energy stands for the family.
    assert yields[0, 1] / yields[1, 1] == pytest.approx(factors[0] / factors[1], rel=5e-3)
    assert thin > 0


def test_templates_have_unit_area_and_lie_at_their_lines() -> None:
    forward = model()
    basis, _ = forward.basis(EQUAL, np.ones((1, 3), bool))
    np.testing.assert_allclose(basis.family_templates.sum(axis=2), 1.0, rtol=1e-9)
    np.testing.assert_allclose(basis.continuum_templates.sum(axis=2), 1.0, rtol=1e-9)
    np.testing.assert_allclose(basis.continuum_area.sum(axis=1), 1.0, rtol=1e-9)
    centre = 0.5 * (forward.edges_keV[1:] + forward.edges_keV[:-1])
    peak = {
        family.name: centre[basis.family_templates[0, i].argmax()]
        for i, family in enumerate(forward.families)
    }
    assert peak["Mg_K"] == pytest.approx(1.254, abs=0.02)
    assert peak["Si_K"] == pytest.approx(1.740, abs=0.02)
    assert peak["Fe_K"] == pytest.approx(6.404, abs=0.02)


def test_pieces_add_up_to_the_physical_continuum() -> None:
    forward = model(film=THIN)
    basis, _ = forward.basis(EQUAL, np.ones((1, 3), bool))
    whole = np.einsum("b,bc->c", basis.continuum_area[0], basis.continuum_templates[0])
    shape = bremsstrahlung(forward.edges_keV, BEAM, forward.detector.efficiency)
    np.testing.assert_allclose(whole, shape / shape.sum(), rtol=1e-9)


def test_main_family_is_the_best_calibrated_of_the_strong_ones() -> None:
    forward = model(("Si", "Fe", "U"))
    for element in forward.elements:
        mine = [family for family in forward.families if family.element == element]
        (main,) = [family for family in mine if family.main]
        strength = {
            f.family: forward.table.detected_strength(element, f.family, forward.detector.efficiency)
            for f in mine
        }
        assert strength[main.family] >= MAIN_SHARE * max(strength.values())
        strong = [name for name, s in strength.items() if s >= MAIN_SHARE * max(strength.values())]
        sd = {name: forward.table.calibration_sd(element, name) for name in strong}
        assert sd[main.family] == min(sd.values())
    assert next(f.family for f in forward.families if f.element == "Fe" and f.main) == "K"


def test_calibration_errors_of_mains_and_ratios() -> None:
    forward = model(("Mg", "Fe"), low=0.3)
    mains = [np.hypot(PRIORS.line_strength_k_sd, strength_spread(name, "K")) for name in ("Mg", "Fe")]
    np.testing.assert_allclose(forward.calibration_sd, mains)
    sd = dict(zip([family.name for family in forward.families], forward.ratio_sd(), strict=True))
    assert sd["Fe_K"] == sd["Mg_K"] == 0.0
    other = math.hypot(PRIORS.line_strength_l_sd, strength_spread("Fe", "L"))
    assert sd["Fe_L"] == pytest.approx(math.hypot(mains[1], other))


def test_absent_elements_are_not_allowed() -> None:
    forward = model(stray=("Cu",))
    allowed = np.array([[True, False, True], [False, True, True]])
    basis, yields = forward.basis(np.tile(EQUAL, (2, 1)), allowed)
    assert forward.components == ("Mg", "Si", "Fe", "Cu_K", "Cu_L", "continuum")
    np.testing.assert_array_equal(basis.allowed[:, :3], allowed)
    assert basis.allowed[:, 3:].all()
    assert yields.shape == (2, 3)


def test_hidden_oxygen_is_fitted_and_not_reported() -> None:
    seen = model(low=0.3, seen_oxygen=True)
    assert seen.elements == ELEMENTS
    assert seen.components == (*ELEMENTS, "O", "continuum")
    assert seen.basis(EQUAL, np.ones((1, 3), bool))[1].shape == (1, 3)
    assert len(seen.calibration_sd) == 3
    assert "O" not in model(low=0.9, seen_oxygen=True).components  # its line is out of range
    assert "O" not in model(low=0.3).components
    measured = model(("Mg", "O"), low=0.3, seen_oxygen=True)
    assert measured.components == ("Mg", "O", "continuum")


def test_stray_families_that_look_alike_are_one_component() -> None:
    forward = model(stray=("Pt", "Zr", "Cu", "Ga"))
    merged = [name for name in forward.components if "+" in name]
    assert merged == ["Pt_M+Zr_L"]
    assert {"Cu_K", "Ga_K", "Pt_L", "Zr_K"} <= set(forward.components)  # free of each other
    twins = [family for family in forward.families if family.name in ("Pt_M", "Zr_L")]
    assert [(twin.main, twin.tied, twin.stray) for twin in twins] == [
        (True, False, True),
        (False, True, True),
    ]
    assert twins[0].component == twins[1].component == forward.components.index("Pt_M+Zr_L")
    place = {family.name: i for i, family in enumerate(forward.families)}
    assert forward.ratio_sd()[place["Zr_L"]] == 0.0
    assert forward.calibration_sd.shape == (3,)


def undeclared_model(counts: dict[str, float], film: Film = THIN) -> ForwardModel:
    """Return a model with elements that nobody declared."""
    table = LineTable.built_in(BEAM, dict.fromkeys((*ELEMENTS, *counts, "Cu", "Si")))
    return model(stray=("Cu",), table=table, undeclared=counts, film=film)


def test_undeclared_elements_are_one_component_in_the_proportion_of_their_counts() -> None:
    counts = {"Ti": 300.0, "Pb": 1200.0, "Co": 700.0}
    forward = undeclared_model(counts)
    assert forward.components[-2:] == ("undeclared", "continuum")
    place = forward.components.index("undeclared")
    mine = np.flatnonzero(forward.owner == place)
    families = [forward.families[index] for index in mine]
    assert [family.element for family in families if family.main] == ["Pb"]  # the strongest leads
    assert all(family.stray and family.tied != family.main for family in families)
    np.testing.assert_array_equal(forward.ratio_sd()[mine], 0.0)
    basis, _ = forward.basis(EQUAL, np.ones((1, 3), bool))
    found = dict.fromkeys(counts, 0.0)
    for index, family in zip(mine, families, strict=True):
        inside = detected(forward, family.element, family.family, None)
        whole = forward.table.detected_strength(family.element, family.family, forward.detector.efficiency)
        found[family.element] += basis.family_ratio[0, index] * whole / inside
    # Counts on an endless axis, as the sum spectrum's fit gives them.
    total = sum(found.values())
    for element, share in found.items():
        assert share / total == pytest.approx(counts[element] / sum(counts.values()), rel=1e-6)


def test_families_of_an_undeclared_element_keep_their_ratio() -> None:
    forward = undeclared_model({"Pb": 50.0, "Ti": 1.0})
    basis, _ = forward.basis(EQUAL, np.ones((1, 3), bool))
    ratio = {family.name: basis.family_ratio[0, i] for i, family in enumerate(forward.families)}
    by_hand = detected(forward, "Pb", "M", None) / detected(forward, "Pb", "L", None)
    assert ratio["Pb_M"] / ratio["Pb_L"] == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_undeclared_elements_leave_everything_else_as_it_is(scale: float) -> None:
    """Yields, ratios and templates of the declared elements, whatever the counts of the others."""
    plain = model(stray=("Cu",))
    forward = undeclared_model({"Co": 5.0 * scale, "Pb": scale}, film=FILM)
    allowed = np.ones((1, 3), bool)
    (basis, yields), (more, same) = plain.basis(EQUAL, allowed), forward.basis(EQUAL, allowed)
    n = len(plain.families)
    assert [family.name for family in forward.families[:n]] == [family.name for family in plain.families]
    # The unit of yields is the strongest line's strength, which an undeclared element may have.
    unit = same[0, 0] / yields[0, 0]
    assert 0.05 < unit < 20.0
    np.testing.assert_allclose(same, unit * yields, rtol=1e-12)
    np.testing.assert_allclose(more.family_ratio[:, :n], basis.family_ratio, rtol=1e-12)
    np.testing.assert_allclose(more.family_templates[:, :n], basis.family_templates, atol=1e-15)
    np.testing.assert_allclose(more.family_templates.sum(axis=2), 1.0, rtol=1e-9)
    np.testing.assert_allclose(forward.calibration_sd, plain.calibration_sd)


def test_continuum_follows_its_correction() -> None:
    correction = ContinuumCorrection((1.0, 4.0, 16.0), (1.0, 0.3, 0.6))
    plain, corrected = model(), model(continuum=correction)
    centre = 0.5 * (plain.edges_keV[1:] + plain.edges_keV[:-1])
    shapes = [forward.continuum_spectra(EQUAL).sum(axis=1)[0] for forward in (plain, corrected)]
    # Linear in the logarithm between the knots: 0.65 at 2 keV, 0.45 at 8, constant beyond.
    at = {energy: int(np.argmin(np.abs(centre - energy))) for energy in (0.95, 2.0, 4.0, 8.0, 18.0)}
    ratio = shapes[1] / shapes[0]
    for energy, factor in {2.0: 0.65, 4.0: 0.3, 8.0: 0.45, 18.0: 0.6}.items():
        assert ratio[at[energy]] / ratio[at[0.95]] == pytest.approx(factor, rel=0.01)
    np.testing.assert_allclose(ratio / ratio[at[0.95]], correction(centre), rtol=1e-9)
    basis, _ = corrected.basis(EQUAL, np.ones((1, 3), bool))
    whole = np.einsum("b,bc->c", basis.continuum_area[0], basis.continuum_templates[0])
    np.testing.assert_allclose(whole, shapes[1] / shapes[1].sum(), rtol=1e-9)


def test_continuum_is_finite_where_the_axis_reaches_zero() -> None:
    forward = model(edges_keV=np.concatenate(([-0.005, 0.135], np.arange(0.2, 20.0, 0.02))))
    pieces = forward.continuum_spectra(EQUAL)
    assert np.isfinite(pieces).all()
    assert (pieces >= 0.0).all()
    assert pieces.sum() == pytest.approx(1.0)


def test_main_family_among_those_that_were_fitted() -> None:
    detector = Detector.from_resolution(130.0)
    table = LineTable.built_in(BEAM, ["Fe", "Pb"])
    assert main_family("Fe", ("K", "L"), table, detector) == "K"
    assert main_family("Fe", ("L",), table, detector) == "L"
    # Lead's L lines are calibrated better than its M lines, and have counts enough.
    assert main_family("Pb", ("L", "M"), table, detector) == "L"


def test_thickness_changes_yields_between_their_limits() -> None:
    forward = model()
    change = forward.yield_change(EQUAL)
    assert change.shape == (len(THICKNESS_GRID), 1, 3)
    at = {float(t): i for i, t in enumerate(THICKNESS_GRID)}
    np.testing.assert_allclose(change[at[1.0]], 1.0, rtol=1e-12)
    for i, element in enumerate(ELEMENTS):
        lines = forward.table.lines(element, "K")

        def counts(times: float, lines: tuple[Any, ...] = lines) -> float:
            total = 0.0
            for line in lines:
                chi = times * depth(line.energy_keV)
                factor = 1.0 if chi == 0 else -math.expm1(-chi) / chi
                total += line.strength * float(forward.detector.efficiency(line.energy_keV)) * factor
            return total

        for times in (0.0, 2.0, 4.0):
            expected = counts(times) / counts(1.0)
            assert change[at[times], 0, i] == pytest.approx(expected, rel=1e-9)
    assert (np.diff(change, axis=0) < 0).all()
    assert change[0, 0, 0] > change[0, 0, 1] > change[0, 0, 2] > 1.0  # soft lines are absorbed most


def test_without_a_takeoff_angle_nothing_is_absorbed() -> None:
    np.testing.assert_allclose(model(film=THIN).yield_change(EQUAL), 1.0, rtol=1e-12)


def test_uncertainty_of_the_mass_thickness() -> None:
    assert FILM.mass_thickness_sd == pytest.approx(math.hypot(60 / 300, 0.5 / 5.0))
    assert FILM.relative_sd == FILM.mass_thickness_sd
    uncertain = dataclasses.replace(FILM, absorption_sd=0.3)
    assert uncertain.mass_thickness_sd == FILM.mass_thickness_sd
    assert uncertain.relative_sd == pytest.approx(math.hypot(FILM.mass_thickness_sd, 0.3))
    bare = dataclasses.replace(FILM, oxygen=False)
    energy = np.array([1.254])
    assert FILM.depth(["Mg"], np.array([1.0]), energy) != bare.depth(["Mg"], np.array([1.0]), energy)
    expected = depth(1.254, FILM, {"Mg": 1.0})
    assert bare.depth(["Mg", "Si"], np.array([1.0, 0.0]), energy)[0] == pytest.approx(expected, rel=1e-9)


def test_an_element_without_lines_in_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"`sample.elements` must have lines between 2.5 and .*, but Mg has"):
        model(("Fe", "Mg"), low=2.5)

"""Mass thickness from zeta-factors: against their definition, on a simulated map of known truth, and its errors."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

import bayesunmix
from bayesunmix import Phase, open_result
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import WHOLE_MAP, SpectrumImage
from bayesunmix.fit.draws import Draws
from bayesunmix.forward.line_table import with_factors
from bayesunmix.forward.quantify import draw_calibration
from bayesunmix.forward.spectra import Film, ForwardModel, forward_model
from bayesunmix.pipeline import run_image
from bayesunmix.results.mass_thickness import (
    ELEMENTARY_CHARGE_C,
    UNIT,
    contradiction,
    electrons_per_pixel,
    mass_per_count_draws,
    mass_thickness,
)
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result import Result
from bayesunmix.xray import Detector, LineTable, atomic_weight, bremsstrahlung

FloatArray = npt.NDArray[np.float64]

pytestmark = pytest.mark.filterwarnings("ignore:The take-off angle is unknown")

ELEMENTS = ("Mg", "Si", "Fe")
# kg electron / (photon m2), of the size that Watanabe and Williams (2006) measured.
ZETA = {"Mg_Ka": 620.0, "Si_Ka": 560.0, "Fe_Ka": 790.0}
RELATIVE_SD = 0.03
FACTORS = {key: [value, RELATIVE_SD * value] for key, value in ZETA.items()}
OXYGEN = {"Mg": 1.0, "Si": 2.0, "Fe": 1.0}
PHASES = {"Brg": (0.45, 0.50, 0.05), "Fp": (0.80, 0.0, 0.20)}
ROWS, COLUMNS = 12, 16
MEAN_UG_CM2 = 40.0
ELECTRONS = 1.5e9  # in a pixel
LIVE_TIME_S, BEAM_KEV = 30.0, 200.0
CURRENT_NA = 1e9 * ELECTRONS * ROWS * COLUMNS * ELEMENTARY_CHARGE_C / LIVE_TIME_S
EDGES = np.arange(0.9, 10.0, 0.02)
DETECTOR = Detector.from_resolution(130.0)


def weight_fractions(atoms: tuple[float, ...]) -> dict[str, float]:
    """Weight fraction of each cation, with the oxygen that the cations bind in the whole."""
    total = sum(
        x * (atomic_weight(e) + OXYGEN[e] * atomic_weight("O")) for e, x in zip(ELEMENTS, atoms, strict=True)
    )
    return {e: x * atomic_weight(e) / total for e, x in zip(ELEMENTS, atoms, strict=True)}


def expected_counts(atoms: tuple[float, ...], ug_cm2: float) -> FloatArray:
    """Return a pixel's counts: I = C rho t D / zeta of the alpha lines, and the rest of each family."""
    table = LineTable.built_in(BEAM_KEV, ELEMENTS)
    spectrum = np.zeros(len(EDGES) - 1)
    for element, weight_fraction in weight_fractions(atoms).items():
        lines = table.lines(element, "K")
        energy = np.array([line.energy_keV for line in lines])
        detected = np.array([line.strength for line in lines]) * DETECTOR.efficiency(energy)
        alpha = np.array([line.line in ("KL3", "KL2") for line in lines])
        # 1 µg/cm2 is 1e-5 kg/m2.
        intensity = weight_fraction * 1e-5 * ug_cm2 * ELECTRONS / ZETA[f"{element}_Ka"]
        spectrum += DETECTOR.response.spectrum(energy, detected * intensity / detected[alpha].sum(), EDGES)
    shape = bremsstrahlung(EDGES, BEAM_KEV, DETECTOR.efficiency)
    return np.asarray(spectrum + 0.2 * spectrum.sum() * shape / shape.sum())


def true_thickness() -> FloatArray:
    """Mass thickness in µg/cm2, a wedge along y; bridgmanite on the left half, ferropericlase on the right."""
    wedge = np.linspace(0.6, 1.4, ROWS)
    return np.asarray(MEAN_UG_CM2 * np.repeat(wedge[:, None], COLUMNS, axis=1))


@functools.cache
def simulated() -> SpectrumImage:
    per_unit = [expected_counts(atoms, 1.0) for atoms in PHASES.values()]
    thickness = true_thickness()[:, :, None]
    mean = np.concatenate(
        [thickness[:, : COLUMNS // 2] * per_unit[0], thickness[:, COLUMNS // 2 :] * per_unit[1]], axis=1
    )
    counts = np.random.default_rng(3).poisson(mean)
    facts = Acquisition(
        beam_energy_keV=BEAM_KEV, resolution_eV=130.0, beam_current_nA=CURRENT_NA, live_time_s=LIVE_TIME_S
    )
    return SpectrumImage(counts=counts, energy_keV=0.5 * (EDGES[1:] + EDGES[:-1]), acquisition=facts)


def unmixed(**tables: dict[str, Any]) -> Result:
    return bayesunmix.unmix(
        simulated(),
        elements=ELEMENTS,
        phases=[Phase("Brg", matrix=True), Phase("Fp", absent=["Si"])],
        method="laplace",
        progress=False,
        **{
            "sample": {"thickness_nm": [100, 20], "density_g_cm3": [4.0, 0.2]},
            "xray": {"zeta_factors": FACTORS},
            "inference": {"starts": 1, "further_phase": False},
            **tables,
        },
    )


@pytest.fixture(scope="module")
def result() -> Result:
    return unmixed()


@pytest.mark.slow
def test_intervals_hold_the_true_mass_thickness(result: Result) -> None:
    table = result.tables.mass_thickness().set_index("where")
    assert list(table.index) == [WHOLE_MAP, "Brg", "Fp"]
    assert ((table["lower"] < MEAN_UG_CM2) & (MEAN_UG_CM2 < table["upper"])).all()
    # The factors given are the true ones: what is left is counting, well below their 3 %.
    np.testing.assert_allclose(table["mean"], MEAN_UG_CM2, rtol=0.015)
    # Errors of independent factors average out in part.
    assert (
        (0.4 * RELATIVE_SD < table["sd"] / table["mean"]) & (table["sd"] / table["mean"] < RELATIVE_SD)
    ).all()


@pytest.mark.slow
def test_compositions_follow_from_zeta_factors(result: Result) -> None:
    table = result.summary().set_index(["phase", "element"])
    for phase, atoms in PHASES.items():
        for element, true in zip(ELEMENTS, atoms, strict=True):
            row = table.loc[(phase, element)]
            assert row["lower"] <= true <= row["upper"], (phase, element)


@pytest.mark.slow
def test_the_map_follows_the_wedge_within_its_errors(result: Result) -> None:
    maps = result.tree["maps"].dataset
    mean, sd = maps["mass_thickness_mean"].values, maps["mass_thickness_sd"].values
    assert maps["mass_thickness_mean"].attrs["unit"] == "µg/cm²"
    score = (mean - true_thickness()) / sd
    # Counting errors of the pixels dominate; the calibration's, common to all, did not happen here.
    assert 0.75 < np.sqrt((score**2).mean()) < 1.15
    assert abs(score.mean()) < 0.5


@pytest.mark.calibration
def test_twice_the_dose_halves_the_mass_thickness(result: Result) -> None:
    twice = unmixed(instrument={"live_time_s": 2 * LIVE_TIME_S})
    for name in ("mass_thickness_mean", "mass_thickness_sd"):
        np.testing.assert_allclose(
            twice.tree["maps"][name].values, result.tree["maps"][name].values / 2, rtol=1e-6
        )
    columns = ["mean", "sd", "lower", "upper"]
    np.testing.assert_allclose(
        twice.tables.mass_thickness()[columns], result.tables.mass_thickness()[columns] / 2, rtol=1e-6
    )
    np.testing.assert_array_equal(twice.summary()["mean"], result.summary()["mean"])
    assert twice.record.mass_thickness.electrons_per_pixel == pytest.approx(2 * ELECTRONS)
    said = f"zeta-factors give a mass thickness of {twice.tables.mass_thickness()['mean'][0]:.3g} µg/cm²"
    assert any(said in warning for warning in twice.record.warnings)
    assert not any("zeta-factors give" in warning for warning in result.record.warnings)


@pytest.mark.slow
def test_it_is_in_the_files(result: Result, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "out")
    again = open_result(folder)
    np.testing.assert_allclose(again.tables.mass_thickness()["mean"], result.tables.mass_thickness()["mean"])
    assert (folder / "figures" / "mass_thickness.png").is_file()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'id="mass_thickness"' in page
    assert (folder / "mass_thickness.hspy").is_file()
    assert "µg/cm²" in page


@pytest.fixture(scope="module")
def forward() -> ForwardModel:
    """One model of absolute strengths, without absorption."""
    table = LineTable.built_in(BEAM_KEV, (*ELEMENTS, "O"))
    factors = {key: (value, sd) for key, (value, sd) in FACTORS.items()}
    return forward_model(
        ELEMENTS,
        (),
        table=table.with_zeta_factors(factors, DETECTOR.efficiency),
        detector=DETECTOR,
        response=DETECTOR.response,
        film=Film(thickness_nm=(100.0, 30.0), density_g_cm3=(4.0, 0.4), takeoff_angle_deg=None, oxygen=True),
        beam_energy_keV=BEAM_KEV,
        edges_keV=EDGES,
        seen_oxygen=False,
    )


def weights_of(
    forward: ForwardModel, log_error: FloatArray, shape: tuple[int, int]
) -> tuple[Draws, FloatArray]:
    """Return counts of bridgmanite in a film of `MEAN_UG_CM2`, and the yields."""
    atoms = PHASES["Brg"]
    table, weights = forward.table, []
    for element, fraction in weight_fractions(atoms).items():
        alpha = fraction * 1e-5 * MEAN_UG_CM2 * ELECTRONS / ZETA[f"{element}_Ka"]
        family, lines = (
            table.detected_strength(element, "K", DETECTOR.efficiency, alpha=a) for a in (False, True)
        )
        weights.append(alpha * family / lines)
    detected = np.array([*(np.array(weights) * np.exp(log_error)), 100.0])
    tiled = np.tile(detected, (*shape, 1, 1))
    yields = forward.basis(np.array([atoms]), np.ones((1, 3), bool))[1]
    parts = tiled, tiled[..., :3], tiled[..., 3:], np.zeros((*shape, 1, 1))
    weights_, family_counts, continuum, spectra = parts
    drawn = Draws(
        weights=weights_,
        family_counts=family_counts,
        continuum=continuum,
        spectra=spectra,
        absorption_scale=np.ones(shape),
        stray_exponent=np.zeros(shape),
        line_shapes=np.zeros((*shape, 0)),
    )
    return drawn, yields


def test_mass_per_count_is_the_definition_of_zeta(forward: ForwardModel) -> None:
    draws, yields = weights_of(forward, np.zeros(3), (1, 2))
    found = mass_per_count_draws(draws, yields, forward, np.array([PHASES["Brg"]]), ELECTRONS)
    # A trace of the counts of Mg K, 0.35 keV above the fitted range's end, lies outside it.
    np.testing.assert_allclose(found * draws.total, MEAN_UG_CM2, rtol=2e-3)


def test_intervals_hold_as_often_as_they_say(forward: ForwardModel) -> None:
    """Films measured with microscopes whose factors are off as their errors say."""
    rng, shape, n = np.random.default_rng(5), (1, 512), 400
    calibration = draw_calibration(forward, shape, 1)
    absorbing = np.array([PHASES["Brg"]])
    held = 0
    for _ in range(n):
        draws, yields = weights_of(forward, rng.normal(0.0, forward.calibration_sd), shape)
        found = mass_per_count_draws(draws, yields, forward, absorbing, ELECTRONS, calibration) * draws.total
        lower, upper = np.quantile(found, [0.025, 0.975])
        held += lower < MEAN_UG_CM2 < upper
    assert abs(held / n - 0.95) < 4 * np.sqrt(0.95 * 0.05 / n)


@dataclasses.dataclass
class Pixels:
    """What the mass thickness reads of the per-pixel pass."""

    count_share: FloatArray
    pure_probability: FloatArray
    value_sd: FloatArray


def test_errors_of_a_pixel_add_up() -> None:
    """Counting, calibration common to all pixels, and the mixture, each alone and then together."""
    rng = np.random.default_rng(0)
    scale = np.exp(0.05 * rng.standard_normal((1, 20000, 1)))
    counts = np.array([100.0, 400.0, 0.0])
    share = np.array([[1.0, 0.0], [0.5, 0.5], [0.3, 0.7]])
    pixels = Pixels(share, share, np.array([0.0, 0.1, 0.0]))
    nominal = np.array([1.0, 2.0])
    found = mass_thickness(scale * nominal, nominal, counts, pixels, 0)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.mean, [100.0, 600.0, 0.0], rtol=0.003)
    expected = [
        100 * np.sqrt(0.05**2 + 1 / 100),
        np.sqrt((600 * 0.05) ** 2 + 400 * 1.5**2 + (400 * 0.1) ** 2),
        0.0,
    ]
    np.testing.assert_allclose(found.sd, expected, rtol=0.02)
    assert found.whole.mean() == pytest.approx(700 / 3, rel=0.003)
    assert found.whole.std() / found.whole.mean() == pytest.approx(np.hypot(0.05, 1 / np.sqrt(500)), rel=0.03)
    # The empty pixel is nobody's; no pixel is the second phase alone.
    assert found.pure[..., 0].mean() == pytest.approx(100.0, rel=0.003)
    assert np.isnan(found.pure[..., 1]).all()


def test_a_point_has_no_interval() -> None:
    pixels = Pixels(np.ones((2, 1)), np.ones((2, 1)), np.zeros(2))
    found = mass_thickness(np.ones((1, 1, 1)), np.ones(1), np.array([10.0, 30.0]), pixels, 0)  # type: ignore[arg-type]
    table = found.table(["A"], 0.95)
    assert list(table["mean"]) == [20.0, 20.0]
    assert table[["sd", "lower", "upper"]].isna().all(axis=None)


def test_a_film_that_was_declared_otherwise_is_said(forward: ForwardModel) -> None:
    pixels = Pixels(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1))
    # Declared: 100 nm of 4 g/cm3 are 40 µg/cm2, known to 32 %.
    for thickness, said in ((40.0, False), (60.0, False), (80.0, True), (10.0, True)):
        found = mass_thickness(np.full((1, 4, 1), thickness), np.ones(1), np.ones(1), pixels, 0)  # type: ignore[arg-type]
        found = dataclasses.replace(found, whole=np.full((1, 4), thickness))
        sentence = contradiction(found, forward)
        assert (sentence is not None) == said
        if sentence is not None:
            assert "40 ± 13" in sentence


def test_electrons_are_current_times_time_over_pixels() -> None:
    assert electrons_per_pixel(simulated()) == pytest.approx(ELECTRONS, rel=1e-12)


@pytest.mark.parametrize("name", ["beam_current_nA", "live_time_s"])
def test_zeta_factors_need_the_dose(name: str) -> None:
    image = simulated().replace_facts(**{name: None})
    sample = {"elements": list(ELEMENTS), "thickness_nm": [100, 20], "density_g_cm3": [4.0, 0.2]}
    config = RunConfig.from_dict({"sample": sample, "phases": 1, "xray": {"zeta_factors": FACTORS}})
    message = f"`instrument.{name}` must be known where `xray.zeta_factors` are given, but is missing"
    with pytest.raises(InputError, match=message):
        run_image(image, config, None, progress=False)


def test_zeta_factors_of_other_elements_do_not_do() -> None:
    config = RunConfig.from_dict(
        {"sample": {"elements": ["Mg", "Fe"]}, "phases": 1, "xray": {"zeta_factors": {"Si_Ka": [900, 30]}}}
    )
    with pytest.raises(
        InputError, match=r"`xray.zeta_factors` must hold a factor of an element of the sample"
    ):
        with_factors(LineTable.built_in(200.0, ["Mg", "Fe"]), config, DETECTOR)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"Fe_ka": (800.0, 20.0)}, r"`xray.zeta_factors` must be keyed by .* Did you mean \"Fe_Ka\"\?"),
        ({"Fe_K": (800.0, 20.0), "Fe_Ka": (800.0, 20.0)}, "must hold one factor for Fe K, but has Fe_Ka too"),
        ({"Fe_Ka": (0.0, 20.0)}, "`xray.zeta_factors.Fe_Ka value` must be positive"),
        ({}, "`xray.zeta_factors` must hold a factor"),
    ],
)
def test_bad_zeta_factors_are_refused(factors: dict[str, tuple[float, float]], message: str) -> None:
    table = LineTable.built_in(BEAM_KEV, ELEMENTS)
    with pytest.raises(InputError, match=message):
        table.with_zeta_factors(factors, DETECTOR.efficiency)


def test_elements_without_a_factor_keep_their_ratio() -> None:
    """One factor, of iron: the others stand to it as calculated, with the errors of calculated strengths."""
    table = LineTable.built_in(BEAM_KEV, ELEMENTS)
    scaled = table.with_zeta_factors({"Fe_K": (800.0, 20.0)}, DETECTOR.efficiency)
    before, after = (np.array([line.strength for line in t.entries]) for t in (table, scaled))
    assert np.ptp(after / before) < 1e-12 * (after / before).max()
    assert scaled.calibration_sd("Fe", "K") == pytest.approx(20 / 800)
    assert scaled.calibration_sd("Mg", "K") == table.calibration_sd("Mg", "K") > 0.04
    # M / (N_A zeta): 55.8e-3 kg/mol / (6.022e23 x 800 kg/m2) = 1.16e-28 m2, or 1.16 barn.
    strength = scaled.detected_strength("Fe", "K", DETECTOR.efficiency)
    assert strength == pytest.approx(1.159e-24, rel=1e-3)


def test_ratios_are_those_of_k_factors() -> None:
    """With k = zeta / zeta(Si) both give the same ratios of strengths."""
    table = LineTable.built_in(BEAM_KEV, ELEMENTS)
    by_zeta = table.with_zeta_factors({"Si_Ka": (560.0, 9.0), "Fe_Ka": (790.0, 30.0)}, DETECTOR.efficiency)
    by_k = table.with_k_factors({"Fe_Ka": (790.0 / 560.0, 0.05)}, DETECTOR.efficiency)
    ratios = [
        t.detected_strength("Fe", "K", DETECTOR.efficiency)
        / t.detected_strength("Si", "K", DETECTOR.efficiency)
        for t in (by_zeta, by_k)
    ]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-12)


@pytest.mark.slow
def test_without_zeta_factors_there_is_none() -> None:
    result = unmixed(xray={}, inference={"starts": 1, "draws": 10, "further_phase": False})
    assert "mass_thickness_mean" not in result.tree["maps"].dataset
    with pytest.raises(InputError, match=r"`xray.zeta_factors` must be given for a mass thickness"):
        result.tables.mass_thickness()


@pytest.mark.parametrize("shape", [(6, 8), (1, 7), (7, 1), (1, 1), (40, 3)])
def test_figure_of_maps_lines_and_points(shape: tuple[int, int]) -> None:
    mean = np.linspace(30.0, 50.0, shape[0] * shape[1]).reshape(shape)
    maps = xr.Dataset(
        {
            f"mass_thickness_{name}": (("y", "x"), values, {"unit": UNIT})
            for name, values in (("mean", mean), ("sd", 0.1 * mean))
        },
        attrs={"pixel_size": [2.0, 2.0], "pixel_unit": "nm"},
    )
    config = {"inference": {"level": 0.95}, "phases": [{"name": "A"}]}
    run = {"method": "laplace", "config": config, "mass_thickness": {"table": []}}
    result = Result(xr.DataTree.from_dict({"maps": maps}), RunRecord.of(run))
    figure = result.plot.mass_thickness()
    assert "mass thickness (µg/cm²)" in {axes.get_ylabel() for axes in figure.axes}
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    if min(shape) > 1:
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), mean)

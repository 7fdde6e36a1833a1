"""Ionic radii, Onuma diagrams and the lattice strain model, against closed forms and simulated sites."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import truncnorm

from bayesunmix.analysis.onuma import onuma
from bayesunmix.chemistry.ionic_radii import ionic_radius, usual_valence
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.models.lattice_strain import log_strain_ratio, modulus_prior_GPa
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Maker = Callable[..., Result]

PHASES = ("Brg", "CaPv")
ELEMENTS = ("Mg", "Si", "Ca", "La", "Nd", "Sm", "Gd", "Lu", "U", "Hf")
TEMPERATURE_K = 2500.0
D0, MODULUS_GPA, SITE_A = 20.0, 230.0, 1.25
TRACES = ("La", "Nd", "Sm", "Gd", "Lu")


def true_ratios() -> dict[str, float]:
    """Return D of the trivalent ions that lie on one curve, and what the others have."""
    radii = np.array([ionic_radius(element, 3, 12)[0] for element in TRACES])  # type: ignore[index]
    curve = np.exp(log_strain_ratio(radii, np.log(D0), MODULUS_GPA, SITE_A, TEMPERATURE_K))  # type: ignore[type-var]
    return dict(zip(TRACES, curve.tolist(), strict=True)) | {"U": 30.0, "Hf": 0.5}


def amounts(seed: int, relative: float, lost: tuple[str, ...] = ()) -> FloatArray:
    """Draw amounts of two phases with measured errors; U and others are lost in CaPv where asked."""
    rng = np.random.default_rng(seed)
    ratio = true_ratios()
    brg = np.array([0.5, 0.46, 0.02, *[4e-4] * 5, 3e-4, 1e-3])
    capv = np.array(
        [0.01, 0.48, 0.48, *[4e-4 * ratio[e] for e in TRACES], 3e-4 * ratio["U"], 1e-3 * ratio["Hf"]]
    )
    true = np.stack([brg, capv])
    sd = relative * true
    for element in lost:
        true[1, ELEMENTS.index(element)], sd[1, ELEMENTS.index(element)] = 0.0, 1e-4
    measured = true + sd * rng.normal(size=true.shape)
    for element in lost:
        measured[1, ELEMENTS.index(element)] = 0.0
    return np.asarray(
        truncnorm(-measured / sd, np.inf, measured, sd).rvs((2, 400, *true.shape), random_state=rng)
    )


def nearly(values: list[list[float]]) -> FloatArray:
    """Draw amounts that are known to a percent."""
    rng = np.random.default_rng(0)
    return np.asarray(np.array(values) * (1.0 + 0.01 * rng.normal(size=(2, 50, *np.shape(values)))))


@pytest.mark.parametrize(
    ("element", "valence", "coordination", "radius"),
    [
        # Shannon (1976), table 1.
        ("Mg", 2, 6, 0.72),
        ("Mg", 2, 8, 0.89),
        ("Ca", 2, 12, 1.34),
        ("Fe", 2, 6, 0.78),
        ("Fe", 3, 6, 0.645),
        ("Al", 3, 6, 0.535),
        ("Nd", 3, 8, 1.109),
        ("Nd", 3, 12, 1.27),
        ("Sm", 3, 12, 1.24),
        ("Lu", 3, 8, 0.977),
        ("Hf", 4, 8, 0.83),
        ("U", 4, 12, 1.17),
        ("Th", 4, 12, 1.21),
        ("La", 3, 12, 1.36),
    ],
)
def test_radii_are_shannons(element: str, valence: int, coordination: int, radius: float) -> None:
    assert ionic_radius(element, valence, coordination) == (radius, 0.0, "Shannon 1976")


def test_missing_radii_are_estimated_or_missing() -> None:
    lutetium = ionic_radius("Lu", 3, 12)
    assert lutetium is not None
    # Nine-fold 1.032; La, Ce, Nd and Sm grow by 0.144, 0.144, 0.107 and 0.108 on the way to twelve-fold.
    assert lutetium.value_A == pytest.approx(1.032 + np.mean([0.144, 0.144, 0.107, 0.108]), abs=1e-9)
    assert lutetium.sd_A == pytest.approx(np.std([0.144, 0.144, 0.107, 0.108], ddof=1), abs=1e-9)
    assert lutetium.source == "estimated"
    assert ionic_radius("Si", 4, 12) is None
    # What an estimate is worth: ions that have both, predicted by the others, lie within three of its deviations.
    hafnium = ionic_radius("Hf", 4, 12)
    assert hafnium is not None
    assert 0.95 < hafnium.value_A < 1.05
    assert (usual_valence("Fe"), usual_valence("U"), usual_valence("Nd")) == (2, 4, 3)


def test_strain_is_that_of_blundy_and_wood() -> None:
    """Their equation in SI units, written out."""
    e_pa, r0, ri, t = 250e9, 1.2e-10, 1.05e-10, 1500.0
    avogadro, gas = 6.02214076e23, 8.31446261815324
    expected = -4 * np.pi * e_pa * avogadro / (gas * t) * (r0 / 2 * (ri - r0) ** 2 + (ri - r0) ** 3 / 3)
    found = log_strain_ratio(np.array(1.05), np.array(0.0), np.array(250.0), np.array(1.2), t)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    assert modulus_prior_GPa(3, 1.3) == pytest.approx(1.5 * 750 * 3 / 2.68**3)


def test_table_has_intervals_bounds_and_radii(made_result: Maker) -> None:
    result = made_result(amounts(1, 0.05, ("U",)), PHASES, ELEMENTS)
    with pytest.warns(
        BayesUnmixWarning, match=r"No radius is known in 12-fold coordination, left out: Si4\+"
    ):
        diagram = result.onuma("CaPv", "Brg")
    assert (diagram.host, diagram.coordination, diagram.fits) == ("Ca", 12, ())
    table = diagram.table.set_index("element")
    assert set(table.index) == set(ELEMENTS) - {"Si"}
    assert table.loc["U", "kind"] == "upper"
    assert np.isnan(table.loc["U", "median"])
    assert table.loc["Nd", "radius_source"] == "Shannon 1976"
    assert table.loc["Lu", "radius_source"] == "estimated"
    d = result.partition("CaPv", "Brg").sel(element="Nd")
    np.testing.assert_allclose(
        table.loc["Nd", ["lower", "upper"]].astype(float), np.quantile(d, [0.025, 0.975])
    )
    assert table["valence"].is_monotonic_increasing
    said = repr(diagram).splitlines()
    assert said[0] == "Onuma diagram of D(CaPv/Brg), 12-fold site of Ca"
    assert any(line.split()[:4] == ["Nd", "3", "1.27", "interval"] for line in said)
    assert "left out: Si4+" in said[-1]


def test_kinds_are_those_of_the_partition_table(made_result: Maker) -> None:
    """An amount of two and a half standard deviations is detected, but no ratio of it is an interval."""
    rng = np.random.default_rng(4)
    mean = np.array([[0.5, 0.47, 0.02, 1e-3, 1e-3], [0.01, 0.48, 0.48, 2e-2, 5e-4]])
    sd = 0.02 * mean
    sd[1, 4] = mean[1, 4] / 2.5
    draws = truncnorm(-mean / sd, np.inf, mean, sd).rvs((2, 2000, *mean.shape), random_state=rng)
    result = made_result(draws, PHASES, ("Mg", "Si", "Ca", "Nd", "Hf"))
    table = result.tables.partition()
    given = table[(table.numerator == "CaPv") & (table.denominator == "Brg")].set_index("element")
    assert result.summary().set_index(["phase", "element"]).loc[("CaPv", "Hf"), "detected"] == "true"
    with pytest.warns(BayesUnmixWarning, match="left out"):
        shown = result.onuma("CaPv", "Brg").table.set_index("element")
    assert (shown["kind"] == given.loc[shown.index, "kind"]).all()
    assert (shown.loc["Nd", "kind"], shown.loc["Hf", "kind"]) == ("interval", "upper")
    np.testing.assert_array_equal(shown["upper"], given.loc[shown.index, "upper"])


def test_usual_coordination_follows_the_host(made_result: Maker) -> None:
    result = made_result(amounts(1, 0.05), PHASES, ELEMENTS)
    with pytest.warns(BayesUnmixWarning, match=r"12-fold.*Si4\+"):
        assert result.onuma("CaPv", "Brg").coordination == 12
    diagram = onuma(result, "Brg", "CaPv")
    assert (diagram.host, diagram.coordination) == ("Mg", 8)
    oxide = made_result(nearly([[0.9, 0.1], [0.5, 0.5]]), ("Fp", "B"), ("Mg", "Fe"))
    assert onuma(oxide, "Fp", "B").coordination == 6
    changed = onuma(oxide, "Fp", "B", valences={"Fe": 3}, coordination=8, radii_A={"Mg": 0.9})
    table = changed.table.set_index("element")
    assert table.loc["Fe", "radius_A"] == 0.78
    assert tuple(table.loc["Mg", ["radius_A", "radius_source"]]) == (0.9, "given")


def test_too_few_elements_are_said_and_not_fitted(made_result: Maker) -> None:
    result = made_result(amounts(1, 0.05), PHASES, ELEMENTS)
    with pytest.warns(BayesUnmixWarning, match="3 parameters of the lattice strain model: intervals only"):
        diagram = result.onuma("CaPv", "Brg", elements=["Nd", "Sm", "U"], temperature_K=TEMPERATURE_K)
    assert diagram.fits == ()
    assert diagram.parameters().empty
    assert diagram.notes[0].startswith("Charge 3+: 2 elements with an interval, fewer than the 3 parameters")
    assert diagram.notes[1].startswith("Charge 4+: 1 element with an interval")
    assert diagram.plot().axes


@pytest.mark.calibration
def test_the_site_is_recovered(made_result: Maker) -> None:
    inside = []
    for seed in range(6):
        result = made_result(amounts(seed, 0.05), PHASES, ELEMENTS)
        with pytest.warns(BayesUnmixWarning, match="intervals only"):
            diagram = result.onuma(
                "CaPv", "Brg", elements=[*TRACES, "U"], temperature_K=TEMPERATURE_K, seed=seed
            )
        row = diagram.parameters().iloc[0]
        assert (row["valence"], row["elements"]) == (3, "Lu Gd Sm Nd La")
        assert row["rhat"] < 1.05
        for name, truth in (("D0", D0), ("E_GPa", MODULUS_GPA), ("r0_A", SITE_A)):
            inside.append(row[f"{name}_lower"] <= truth <= row[f"{name}_upper"])
    # 18 intervals of 95 %: fewer than 13 inside has a probability below 1e-3 even at a coverage of 0.9.
    assert sum(inside) >= 13
    # The data narrow the prior of the radius, 0.1 wide.
    assert row["r0_A_upper"] - row["r0_A_lower"] < 0.3
    curve = diagram.fits[0].curve(np.array([1.24]), TEMPERATURE_K)[:, 0]
    lower, upper = np.quantile(curve, [0.001, 0.999])
    assert lower < true_ratios()["Sm"] < upper
    assert len(result.plot.onuma("CaPv", "Brg", coordination=9).axes) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numerator": "Fp"}, "`numerator` must be one of the phases Brg, CaPv"),
        ({"denominator": "CaPv"}, "`denominator` must be another phase"),
        ({"coordination": 7}, "`coordination` must be one of 6, 8, 9, 12, but is 7"),
        ({"valences": {"Xx": 3}}, "`valences` must name elements of the result"),
        (
            {"valences": {"Nd": 6}},
            r"`valences.Nd` must be that of an ion in Shannon's table \(2\+, 3\+\), but is 6",
        ),
        ({"valences": {"Nd": 2.5}}, "`valences.Nd` must be a whole number"),
        ({"radii_A": {"Nd": -1.0}}, "`radii_A.Nd` must be positive"),
        ({"radii_A": {"Pr": 1.0}}, "`radii_A` must name elements of the result"),
        ({"elements": ["Pr"]}, "`elements` must be among those of the result"),
        ({"host": "Sr"}, "`host` must be one of the elements"),
        ({"temperature_K": 0.0}, "`temperature_K` must be positive"),
    ],
)
def test_refused(made_result: Maker, options: dict[str, object], message: str) -> None:
    result = made_result(amounts(1, 0.05)[:, :50], PHASES, ELEMENTS)
    with pytest.raises(InputError, match=message):
        onuma(result, **({"numerator": "CaPv", "denominator": "Brg"} | options))  # type: ignore[arg-type]


def test_a_phase_without_large_cations_needs_a_host(made_result: Maker) -> None:
    result = made_result(nearly([[0.9, 0.1], [0.5, 0.5]]), ("A", "B"), ("Si", "Al"))
    with pytest.raises(InputError, match="as A has no large cation, but was not given"):
        onuma(result, "A", "B")

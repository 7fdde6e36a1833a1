"""Supports, holes and strays: phases that hold no element of the sample have abundances, and no composition."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayesunmix.checks.supports import Lines, bare, counts_of_places
from bayesunmix.config.phase import Phase, hosts
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.data.image import SpectrumImage
from bayesunmix.pipeline import run_image
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result import Result, open_result
from bayesunmix.simulation.simulate import SimulatedMap, simulate_map

# Maps of few counts show lines of this and that.
pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")

SHAPE = (22, 24)
ELEMENTS = ["Al", "Ti", "Ni"]


def configuration(*, kind: bool = True, **inference: Any) -> dict[str, Any]:  # noqa: ANN401
    """Particles of two alloys on a carbon film with stray copper: nothing like an oxide."""
    film = {"name": "film", "fraction": 0.45, "kind": "support"}
    return {
        "sample": {
            "elements": ELEMENTS,
            "stray": ["Cu"],
            "oxygen": "none",
            "thickness_nm": [60, 10],
            "density_g_cm3": [7.5, 0.5],
        },
        "map": {"energy_range": [0.9, 12.0]},
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 20.0, "resolution_eV": 130.0},
        "phases": [
            {"name": "gamma", "composition": {"Ni": 0.7, "Al": 0.25, "Ti": 0.05}, "fraction": 0.3},
            {"name": "eta", "absent": ["Al"], "composition": {"Ni": 0.4, "Ti": 0.6}, "fraction": 0.25},
            film if kind else {"name": "film"},
        ],
        "inference": {"method": "laplace", "further_phase": False, "draws": 200, "starts": 2, **inference},
        "simulate": {"shape": list(SHAPE), "counts_per_pixel": 400.0, "stray": {"Cu": 0.1}},
    }


def drawn(seed: int, **options: Any) -> SimulatedMap:  # noqa: ANN401
    return simulate_map(RunConfig.from_dict(configuration()), seed, **options)


def unmixed(image: SpectrumImage, phases: list[dict[str, Any]], **changes: Any) -> Result:  # noqa: ANN401
    data = configuration(**changes)
    truth = ("composition", "fraction")
    data["phases"] = [{k: v for k, v in phase.items() if k not in truth} for phase in phases]
    return run_image(image, RunConfig.from_dict(data), None, progress=False)


def without_numbers_that_are_none(result: Result) -> None:
    """No NaN in abundances of pixels with counts, draws and the numbers of the compositions."""
    counted = result.tree["maps"]["label"].values >= 0
    for name in ("mean", "sd", "lower", "upper"):
        assert np.isfinite(result.abundances()[name].values[:, counted]).all()
    np.testing.assert_allclose(result.abundances()["mean"].sum("phase").values[counted], 1.0, atol=1e-4)
    posterior = result.tree["posterior"].to_dataset()
    assert all(np.isfinite(posterior[name].values).all() for name in posterior.data_vars)
    assert np.isfinite(result.summary()[["mean", "median", "upper"]].to_numpy(float)).all()


def held(result: Result, truth: SimulatedMap, called: dict[str, str] | None = None) -> tuple[int, int]:
    """Intervals and bounds that hold the truth, and how many there are; phases may be called otherwise."""
    table = result.summary().query("detected != 'declared_absent'")
    true, names = truth.truth, called or {}
    inside = [
        row.lower <= true.composition[true.phases.index(names.get(row.phase, row.phase)), i] <= row.upper
        for row in table.itertuples()
        for i in [true.elements.index(row.element)]
    ]
    return sum(inside), len(inside)


@pytest.fixture(scope="module")
def truth() -> SimulatedMap:
    return drawn(1)


@pytest.fixture(scope="module")
def declared(truth: SimulatedMap) -> Result:
    return unmixed(truth.image, configuration()["phases"])


@pytest.fixture(scope="module")
def found(truth: SimulatedMap) -> Result:
    return unmixed(truth.image, configuration(kind=False)["phases"])


def test_a_declared_support_has_abundances_and_no_composition(declared: Result, truth: SimulatedMap) -> None:
    assert declared.supports == ["film"]
    assert declared.record.supports == ("film",)
    assert declared.phases == ["gamma", "eta", "film"]
    assert set(declared.summary()["phase"]) == {"gamma", "eta"}
    assert set(declared.tables.partition()["numerator"]) == {"gamma", "eta"}
    assert declared.composition()["phase"].values.tolist() == ["gamma", "eta"]
    assert "film" not in set(declared.tables.element_budget()["phase"])
    assert "film: " in repr(declared)
    assert "support" in repr(declared)
    without_numbers_that_are_none(declared)
    inside, number = held(declared, truth)
    assert inside >= number - 1


def test_a_support_is_found(found: Result, declared: Result, truth: SimulatedMap) -> None:
    assert found.supports == ["film"]
    assert [note for note in found.record.warnings if "film" in note and "support" in note]
    assert not [note for note in declared.record.warnings if "film" in note]
    without_numbers_that_are_none(found)
    inside, number = held(found, truth)
    assert inside >= number - 1
    # What the phases of the sample are is the same whether the film was known or not.
    one, other = (result.summary().set_index(["phase", "element"])["mean"] for result in (declared, found))
    np.testing.assert_allclose(one, other, atol=0.02)


def test_the_support_is_where_it_was_drawn(declared: Result, truth: SimulatedMap) -> None:
    # The film's abundance is a share of counts, of which an atom of carbon has few.
    drawn_counts = truth.truth.abundances * truth.truth.counts_per_atom
    expected = (drawn_counts / drawn_counts.sum(axis=2, keepdims=True))[..., 2]
    film = declared.abundances()["mean"].sel(phase="film").values
    assert np.abs(film - expected).mean() < 0.05
    np.testing.assert_allclose(film.mean(), expected.mean(), atol=0.03)


def test_what_a_support_cannot_be_asked(declared: Result) -> None:
    with pytest.raises(InputError, match=r"numerator. must be one of the phases gamma, eta.*film.*a support"):
        declared.partition("film", "gamma")
    with pytest.raises(InputError, match="formulas"):
        _with_oxygen(declared).tables.sites({"film": "AO"})


def _with_oxygen(result: Result) -> Result:
    record = result.record.to_dict()
    record["config"]["sample"]["oxygen"] = "stoichiometry"
    return Result(result.tree, RunRecord.of(record))


def test_all_outputs_of_a_run_with_a_support(found: Result, tmp_path: Path) -> None:
    folder = found.save(tmp_path / "out")
    again = open_result(folder)
    assert again.supports == ["film"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "film is a support, in no composition and no partition coefficient" in page
    assert "film" not in (folder / "composition.csv").read_text()
    assert "film" not in (folder / "partition.csv").read_text()
    tables = "".join(path.read_text() for path in (folder / "tables").glob("*.md"))
    assert "film is a support" in tables
    assert "nan" not in (folder / "composition.csv").read_text().lower()


@pytest.mark.calibration
def test_a_hole_is_found_as_a_support(truth: SimulatedMap) -> None:
    hole = truth.truth.abundances[..., 2] > 0.5
    generator = np.random.default_rng(0)
    counts = truth.image.counts.astype(np.int64)
    counts[hole] = generator.binomial(counts[hole], 0.03)
    counts[0] = 0  # a row without a count
    counts[:, :, 40:60] = 0  # bins without a count
    image = dataclasses.replace(truth.image, counts=counts.astype(np.uint16))
    result = unmixed(image, configuration(kind=False)["phases"])
    without_numbers_that_are_none(result)
    # Nothing is declared of gamma or the film: which of the names the hole has, no count says.
    assert result.supports in (["film"], ["gamma"])
    found = result.abundances()["mean"].sel(phase=result.supports[0]).values
    # A pixel of the hole has a dozen counts.
    assert np.nanmean(found[hole]) > 2.0 * np.nanmean(found[~hole])


@pytest.mark.calibration
def test_a_mode_alone_has_supports_too(truth: SimulatedMap) -> None:
    result = unmixed(truth.image, configuration(kind=False)["phases"], method="map")
    assert result.supports == ["film"]
    assert np.isfinite(result.abundances()["mean"].values).all()
    assert not [note for note in result.record.warnings if "is detected in" in note]


@pytest.mark.calibration
def test_free_endmembers_find_a_support(truth: SimulatedMap) -> None:
    phases = [{"name": name} for name in ("one", "two", "three")]
    result = unmixed(truth.image, phases, endmembers="free")
    assert len(result.supports) == 1
    without_numbers_that_are_none(result)
    where = result.abundances()["mean"].sel(phase=result.supports[0]).values
    assert np.corrcoef(where.ravel(), truth.truth.abundances[..., 2].ravel())[0, 1] > 0.8


@pytest.mark.calibration
def test_a_phase_of_undeclared_elements_is_left_out_with_a_sentence() -> None:
    data = configuration()
    data["sample"] = {**data["sample"], "elements": [*ELEMENTS, "Zn"]}
    data["phases"][2] = {"name": "brass", "composition": {"Zn": 1.0}, "fraction": 0.45}
    truth = simulate_map(RunConfig.from_dict(data), 3)
    result = unmixed(truth.image, [{"name": "gamma"}, {"name": "eta", "absent": ["Al"]}, {"name": "brass"}])
    # Nothing is declared of gamma or brass: which of the names the zinc has, no count says.
    assert result.supports in (["brass"], ["gamma"])
    (name,) = result.supports
    assert [note for note in result.record.warnings if name in note and "elements" in note]
    without_numbers_that_are_none(result)


@pytest.mark.calibration
def test_one_phase_on_a_support(tmp_path: Path) -> None:
    """One element in one phase: there is no composition to be uncertain about, and no ratio."""
    data = configuration()
    data["sample"] = {**data["sample"], "elements": ["Ni"]}
    data["phases"] = [
        {"name": "nickel", "composition": {"Ni": 1.0}, "fraction": 0.5},
        {"name": "film", "kind": "support", "matrix": True, "fraction": 0.5},
    ]
    image = simulate_map(RunConfig.from_dict(data), 2).image
    plain = [{k: v for k, v in phase.items() if k in ("name", "kind", "matrix")} for phase in data["phases"]]
    data |= {"phases": plain}
    result = run_image(image, RunConfig.from_dict(data), tmp_path / "out", progress=False)
    assert result.summary()["mean"].tolist() == [1.0]
    assert result.tables.partition().empty
    without_numbers_that_are_none(result)


# Without a fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "resolved", "place", "expected"),
    [
        ([0.6, 0.5, 0.0], [True, True, False], [1, 1, 1], [False, False, True]),  # nothing
        (
            [0.6, 0.5, 0.02],
            [True, True, True],
            [1, 1, 1],
            [False, False, True],
        ),  # traces beside bright grains
        (
            [0.6, 0.5, 0.1],
            [True, True, True],
            [1, 1, 0.2],
            [False, False, True],
        ),  # a haze where the map is thin
        (
            [0.6, 0.5, 0.1],
            [True, True, True],
            [1, 1, 0.9],
            [False, False, False],
        ),  # dilute, in a thick matrix
        ([0.6, 0.5, 0.5], [True, True, True], [1, 1, 0.02], [False, False, False]),  # thin, but of the sample
        (
            [0.6, 0.5, 0.2],
            [True, True, False],
            [1, 1, 1],
            [False, False, True],
        ),  # few counts, nothing resolved
        ([0.6, 0.5, 0.2], [True, True, True], [1, 1, 1], [False, False, False]),  # dilute, but there
        ([0.6, 0.5, 0.4], [True, True, False], [1, 1, 1], [False, False, False]),  # most lines, badly known
        (
            [0.0, 0.0, 0.0],
            [True, True, True],
            [1, 1, 1],
            [False, False, False],
        ),  # nothing anywhere: none left out
        ([0.02, 0.01, 0.01], [False, False, False], [1, 1, 1], [False, False, False]),
    ],
)
def test_what_counts_as_a_support(
    share: list[float], resolved: list[bool], place: list[float], expected: list[bool]
) -> None:
    assert bare(Lines(np.array(share), np.array(resolved), np.array(place))).tolist() == expected


def test_counts_of_the_places_where_a_phase_is() -> None:
    spectra = np.array([[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]])
    counts = np.array([[900, 100, 0], [0, 10, 90], [0, 10, 90], [0, 0, 0]])
    np.testing.assert_allclose(counts_of_places(counts, spectra), [1000.0, 100.0], rtol=1e-3)


def with_phases(*phases: dict[str, Any], **inference: Any) -> RunConfig:  # noqa: ANN401
    data = configuration()
    return RunConfig.from_dict({**data, "phases": list(phases), "inference": inference})


@pytest.mark.parametrize(
    ("phases", "must"),
    [
        ([{"name": "film", "kind": "hole"}], 'phases.film.kind must be one of "phase", "support"'),
        ([{"name": "film", "kind": "support"}], "phases.kind must leave at least one phase"),
        (
            [{"name": "a"}, {"name": "film", "kind": "support", "absent": ["Al"]}],
            "phases.film.absent must be left out",
        ),
        (
            [{"name": "a"}, {"name": "film", "kind": "support", "stoichiometry": "AO"}],
            "phases.film.stoichiometry must be left out for a support",
        ),
        ([{"name": "a", "absent": ELEMENTS}], 'kind = "support"'),
        (
            [{"name": "a", "absent": ["Al"]}, {"name": "film", "kind": "support"}],
            "phases.absent must leave every element of sample.elements in a phase, but Al is absent",
        ),
    ],
)
def test_what_a_support_may_not_declare(phases: list[dict[str, Any]], must: str) -> None:
    with pytest.raises(InputError) as refused:
        with_phases(*phases)
    assert must in str(refused.value).replace("`", "")
    assert "\n" not in str(refused.value)


def test_free_endmembers_know_no_support() -> None:
    with pytest.raises(InputError, match=r"film.kind.*free-form"):
        with_phases({"name": "a"}, {"name": "film", "kind": "support"}, endmembers="free", method="map")


def test_a_support_survives_the_record() -> None:
    config = with_phases({"name": "a"}, {"name": "film", "kind": "support"})
    again = RunConfig.from_dict(config.to_dict())
    assert again == config
    assert [phase.is_support for phase in again.phases if isinstance(phase, Phase)] == [False, True]


def test_who_may_overlap_with_a_support() -> None:
    grain, film = Phase("grain"), Phase("film", kind="support")
    matrix = Phase("matrix", matrix=True)
    assert hosts([grain, film]).tolist() == [False, False]
    assert hosts([matrix, grain, film]).tolist() == [True, False, True]
    assert hosts([grain, dataclasses.replace(film, matrix=True)]).tolist() == [False, True]


def test_a_phase_of_which_elements_are_declared_is_not_taken_for_the_film() -> None:
    # A film holds no Al either: of this map, the likelihood alone would call it eta.
    truth = drawn(13)
    result = unmixed(truth.image, configuration(kind=False)["phases"], method="map")
    assert result.supports in (["film"], ["gamma"])
    summary = result.summary().set_index(["phase", "element"])
    assert summary.loc[("eta", "Al"), "detected"] == "declared_absent"
    assert 0.5 < summary.loc[("eta", "Ti"), "mean"] < 0.7


@pytest.mark.calibration
@pytest.mark.parametrize("kind", [True, False])
def test_intervals_beside_a_support_hold_the_truth(kind: bool) -> None:
    inside, number = 0, 0
    for seed in range(10, 18):
        truth = drawn(seed)
        result = unmixed(truth.image, configuration(kind=kind)["phases"])
        # Declared alike, gamma and film may change names.
        assert result.supports in ([["film"]] if kind else [["film"], ["gamma"]])
        one, of = held(result, truth, {} if result.supports == ["film"] else {"film": "gamma"})
        inside, number = inside + one, number + of
    assert inside >= 0.88 * number

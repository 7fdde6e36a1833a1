"""Runs of one map: ranked, stacked, told by their declarations, and never taken for a sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from click.testing import CliRunner
from scipy.stats import norm

import bayesunmix as bu
from bayesunmix.analysis.declarations import differences
from bayesunmix.analysis.ranking import paired_error, probability_below, rank, standing
from bayesunmix.analysis.stacking import map_numbers
from bayesunmix.cli import main
from bayesunmix.core.errors import InputError
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Maker = Callable[..., Result]

PHASES, ELEMENTS, SHAPE = ("Brg", "CaPv"), ("Mg", "Si", "Fe"), (2, 500)
TRUE = np.array([[0.5, 0.45, 0.05], [0.2, 0.7, 0.1]])
SIDE, PIXELS = 6, 10
TILES = SIDE**2


def likelihood(
    drawn: FloatArray, data: str = "same", aside: FloatArray | None = None
) -> dict[str, xr.Dataset]:
    """Put log-likelihoods (chain, draw, tile) of a map of tiles in rows and columns into groups."""
    row, column = np.divmod(np.arange(TILES), SIDE)
    coordinates = {
        "first_row": ("block", PIXELS * row),
        "end_row": ("block", PIXELS * (row + 1)),
        "first_column": ("block", PIXELS * column),
        "end_column": ("block", PIXELS * (column + 1)),
        "counts_aside": ("block", np.full(TILES, 0 if aside is None else 7)),
    }
    # As posterior.nc has it: what was set aside is in the likelihood, and its part beside.
    groups = {"log_likelihood": drawn if aside is None else drawn + aside}
    groups |= {} if aside is None else {"log_likelihood_aside": aside}
    return {
        name: xr.Dataset({"counts": (("chain", "draw", "block"), values)}, coordinates, {"data_hash": data})
        for name, values in groups.items()
    }


def run(
    made_result: Maker,
    true: FloatArray = TRUE,
    *,
    gain: float | FloatArray = 0.0,
    map_hash: str = "one",
    seed: int = 0,
    data: str = "same",
    phases: Sequence[str] = PHASES,
    ranked: bool = True,
    aside: FloatArray | None = None,
    **options: Any,  # noqa: ANN401 - what the maker takes
) -> Result:
    """Make a run of a map, whose tiles it predicts better by so much each."""
    rng = np.random.default_rng(seed)
    amounts = true * np.exp(0.02 * rng.normal(size=(*SHAPE, *true.shape)))
    result = made_result(amounts, phases, options.pop("elements", ELEMENTS), seed=seed, **options)
    record = result.record
    record = record.model_copy(update={"map": record.map.model_copy(update={"hash": map_hash})})
    if ranked:
        drawn = gain - 50.0 + 0.1 * rng.normal(size=(*SHAPE, TILES))
        for name, group in likelihood(drawn, data, aside).items():
            result.tree[name] = group
    return result.with_record(record)


def scattered(mean: float, seed: int) -> FloatArray:
    """Gains of tiles that scatter by one."""
    return np.asarray(mean + np.random.default_rng(seed).normal(size=TILES))


def test_leave_one_out_is_what_it_is_on_paper(made_result: Maker) -> None:
    """Numbers around a mean that is flat before: each, given the others, is normal about their mean."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=TILES)
    mean = y.mean() + rng.normal(size=(*SHAPE, 1)) / np.sqrt(TILES)
    result = run(made_result, ranked=False)
    result.tree["log_likelihood"] = likelihood(norm.logpdf(y, mean))["log_likelihood"]
    others = (y.sum() - y) / (TILES - 1)
    expected = norm.logpdf(y, others, np.sqrt(1.0 + 1.0 / (TILES - 1)))
    found = rank(["a", "b"], [result, result])
    np.testing.assert_allclose(found.predictions[0].by_tile, expected, atol=0.02)
    assert found.predictions[0].parameters == pytest.approx(1.0, abs=0.6)
    assert found.predictions[0].unreliable == 0
    assert found.table["difference"].tolist() == [0.0, 0.0]


def test_the_better_run_comes_first_and_a_worse_one_is_told(made_result: Maker) -> None:
    runs = [run(made_result, gain=gain, seed=s) for s, gain in enumerate((scattered(-5.0, 1), 0.0, -0.01))]
    table = bu.compare(runs, names=["worse", "true", "as good"]).tables.ranking()
    assert table["result"].tolist() == ["true", "as good", "worse"]
    assert table["standing"].tolist() == ["best", "not distinguishable", "worse"]
    assert table["difference"].iloc[2] == pytest.approx(-5.0 * TILES, abs=4 * np.sqrt(TILES))
    assert 0.5 * np.sqrt(TILES) < table["difference_se"].iloc[2] < 2.5 * np.sqrt(TILES)
    assert table["weight"].iloc[2] == 0.0
    assert table["weight"].sum() == pytest.approx(1.0)


def test_neighbours_that_miss_the_same_make_the_error_larger() -> None:
    area = np.repeat(np.arange(TILES), 7)
    together = np.repeat(np.random.default_rng(0).normal(size=TILES), 7)
    expected = np.sqrt(TILES) * 7.0
    assert paired_error(together, area) == pytest.approx(expected, rel=0.3)
    alone = np.random.default_rng(1).normal(size=7 * TILES)
    assert paired_error(alone, area) == pytest.approx(np.sqrt(7 * TILES), rel=0.3)


def test_a_phase_that_is_missing_in_one_place_is_missed() -> None:
    """The standard error of what lies in one tile is as large as the difference; chance does not make it so."""
    rng, area = np.random.default_rng(3), np.arange(TILES)
    lost = rng.normal(size=TILES)
    lost[7] = -500.0
    assert -lost.sum() < 1.1 * paired_error(lost, area)
    assert standing(lost.sum(), probability_below(lost, area)) == "worse"
    # Normal differences: one in forty is said to be worse at two standard errors.
    said = [probability_below(one, area) >= 0.975 for one in rng.normal(size=(400, TILES))]
    assert 0.005 < np.mean(said) < 0.06


def test_stacking_shares_the_weight_of_runs_that_each_know_half(made_result: Maker) -> None:
    half = np.where(np.arange(TILES) % 2 == 0, 5.0, 0.0)
    more = TRUE * [1.0, 1.0, 2.0]
    runs = [run(made_result, gain=half), run(made_result, more, gain=5.0 - half, seed=1)]
    comparison = bu.compare(runs, names=["a", "b"])
    np.testing.assert_allclose(comparison.tables.ranking()["weight"], 0.5, atol=0.05)
    stacked = comparison.tables.stacked().set_index("quantity")
    iron = [one.composition().sel(phase="Brg", element="Fe") for one in runs]
    row = stacked.loc["Fe in Brg"]
    assert row["lower"] == pytest.approx(float(iron[0].quantile(0.05)), rel=0.02)
    assert row["upper"] == pytest.approx(float(iron[1].quantile(0.95)), rel=0.02)
    assert "D(CaPv/Brg) of Fe" in stacked.index


def test_counts_that_a_run_set_aside_are_held_against_it(made_result: Maker) -> None:
    lost = np.full((*SHAPE, TILES), -3.0)
    runs = [run(made_result), run(made_result, gain=0.5, aside=lost, seed=1)]
    table = bu.compare(runs, names=["all", "part"]).tables.ranking()
    assert table["result"].tolist() == ["all", "part"]
    assert table["difference"].iloc[1] == pytest.approx(-2.5 * TILES, abs=2.0)
    assert table["set_aside_counts"].tolist() == [0, 7 * TILES]


def test_what_all_agree_on_and_what_goes_with_a_declaration(made_result: Maker) -> None:
    other = np.array([[0.5, 0.45, 0.05], [0.3, 0.7, 0.0]])
    absent = {"CaPv": ["Fe"]}
    runs = [
        run(made_result),
        run(made_result, seed=1),
        run(made_result, other, gain=-20.0, absent=absent, seed=2),
    ]
    comparison = bu.compare(runs, names=["a", "b", "none"])
    table = comparison.tables.agreement().drop_duplicates("quantity").set_index("quantity")
    assert table.loc[["Mg in Brg", "Si in Brg", "Fe in Brg"], "agree"].all()
    assert not table.loc[["Fe in CaPv", "Mg in CaPv", "D(CaPv/Brg) of Fe"], "agree"].any()
    assert set(table.loc[~table["agree"], "goes_with"]) == {"phases.CaPv.absent"}
    text = str(comparison)
    assert text.index("All agree on") < text.index("They differ on")
    assert "none: predicts worse" in text
    assert "Those that predict no worse (a, b) agree on 9 of 9." in text
    assert "phases.CaPv.absent: a not declared, b not declared, none Fe" in text
    assert "not samples" in text


def declaring(
    made_result: Maker,
    phases: Sequence[dict[str, Any]],
    *,
    counted: int | None = None,
    **tables: Any,  # noqa: ANN401
) -> Result:
    """Make a run with these tables in its configuration, or one whose phases were counted."""
    made = run(made_result, TRUE[: len(phases)], phases=[phase["name"] for phase in phases])
    plain = made.record.to_dict()
    plain["config"] |= {"phases": list(phases)} | tables
    plain |= {} if counted is None else {"phase_number": {"chosen": counted, "curve": []}}
    return made.with_record(RunRecord.of(plain))


def told(*runs: Result) -> dict[str, tuple[str, ...]]:
    """Return what runs a, b, ... declare otherwise, by its key."""
    names = [chr(ord("a") + number) for number in range(len(runs))]
    table = differences(names, runs)
    return {str(row[0]): tuple(str(one) for one in row[1:]) for row in table.itertuples(index=False)}


NUMBERED = ({"name": "phase 1"}, {"name": "phase 2"})


def test_everything_that_differs_in_the_phases_is_said(made_result: Maker) -> None:
    rich = {"matrix": True, "absent": ["Fe"], "region": {"rows": [0, 5]}, "reference": {"file": "one.msa"}}
    soft = {"stoichiometry": "ABO3", "tolerance": 0.1, "composition": {"Mg": [0.5, 0.03]}, "rich": ["Si"]}
    bare = declaring(made_result, [{"name": "Brg"}, {"name": "CaPv"}])
    full = declaring(made_result, [{"name": "Brg", **rich}, {"name": "CaPv", **soft}])
    assert told(bare, full) == {
        "phases.Brg.matrix": ("-", "true"),
        "phases.Brg.absent": ("-", "Fe"),
        "phases.Brg.region": ("-", "rows = 0 5"),
        "phases.Brg.reference": ("-", "file = one.msa"),
        "phases.CaPv.stoichiometry": ("-", "ABO3"),
        "phases.CaPv.tolerance": ("-", "0.1"),
        "phases.CaPv.composition": ("-", "Mg = 0.5 0.03"),
        "phases.CaPv.rich": ("-", "Si"),
    }
    # A phase that one run does not declare: all that the others say of it.
    one = declaring(made_result, [{"name": "Brg", **rich}])
    listed = "stoichiometry = ABO3, rich = Si, tolerance = 0.1, composition = Mg = 0.5 0.03"
    assert told(full, one, bare)["phases.CaPv"] == (listed, "-", "nothing but its name")
    assert "phases.CaPv.stoichiometry" not in told(full, one, bare)
    assert told(full, one, bare)["phases.Brg.matrix"] == ("true", "true", "-")


def test_a_name_may_go_on_from_another_one_after_a_dot(made_result: Maker) -> None:
    first = declaring(made_result, [{"name": "Ol"}, {"name": "Ol.2", "absent": ["Mg"]}])
    second = declaring(made_result, [{"name": "Fp"}, {"name": "Ol.2", "absent": ["Mg", "Fe"]}])
    assert told(first, second)["phases.Ol.2.absent"] == ("Mg", "Fe Mg")


def test_numbered_phases_are_not_declared(made_result: Maker) -> None:
    counted = declaring(made_result, NUMBERED, counted=2)
    assert told(counted, declaring(made_result, NUMBERED[:1], counted=1)) == {}
    assert told(counted, declaring(made_result, NUMBERED)) == {"phases": ("auto", "2")}
    named = declaring(made_result, [{"name": "Brg", "matrix": True}, {"name": "CaPv"}])
    assert told(counted, named) == {
        "phases": ("auto", "by name"),
        "phases.Brg": ("-", "matrix = true"),
        "phases.CaPv": ("-", "nothing but its name"),
    }
    # A number that somebody has said something of is a name.
    about = declaring(made_result, [{"name": "phase 1", "absent": ["Fe"]}, {"name": "phase 2"}])
    assert told(about, declaring(made_result, NUMBERED))["phases.phase 1"] == ("absent = Fe", "-")


def test_small_differences_are_told_and_the_truth_of_a_simulation_is_not(made_result: Maker) -> None:
    phases = [{"name": "Brg"}, {"name": "CaPv"}]
    truth = [{"name": "Brg", "composition": {"Mg": 0.5}, "fraction": 0.9}, {"name": "CaPv"}]
    assert told(declaring(made_result, phases), declaring(made_result, truth, simulate={"rows": 9})) == {}
    spectra = [[{"name": "Brg", "reference": {"counts": [*range(200)][::step]}}] for step in (1, -1)]
    (key,) = told(*(declaring(made_result, one) for one in spectra))
    assert key == "phases.Brg.reference"
    # The order of elements says nothing, nor does a table of factors without any.
    same = [declaring(made_result, [{"name": "A", "absent": one}]) for one in (["Si", "Ca"], ["Ca", "Si"])]
    assert told(*same) == {}
    assert told(declaring(made_result, phases), declaring(made_result, phases, xray={"k_factors": {}})) == {}
    masks = [declaring(made_result, phases, map={"mask": [f"{n}.npy" for n in range(m)]}) for m in (101, 102)]
    assert told(*masks)["map.mask"][0].startswith("101 values (checksum ")
    films = [declaring(made_result, phases, sample={"thickness_nm": [t, 30.0]}) for t in (100.0, 100.0001)]
    assert told(*films) == {"sample.thickness_nm": ("100 30", "100.0001 30")}


def test_no_difference_is_tested_between_runs_of_one_map(made_result: Maker) -> None:
    runs = [run(made_result, seed=s, map_hash=name) for s, name in enumerate(("one", "two", "one"))]
    comparison = bu.compare(runs, names=["a", "b", "c"])
    assert comparison.maps == (0, 1, 0)
    for table in (comparison.tables.composition_differences(), comparison.tables.partition_ratios()):
        pairs = set(zip(table["first"], table["second"], strict=True))
        assert pairs == {("a", "b"), ("b", "c")}
    assert "each map counts once" in str(comparison)
    alone = bu.compare(runs[::2], names=["a", "c"])
    assert alone.tables.composition_differences().empty
    assert alone.tables.partition_ratios().empty


def test_maps_are_told_by_the_hash_of_the_map_or_of_the_counts(made_result: Maker) -> None:
    def of(map_hash: str, counts: str) -> Result:
        result = run(made_result, map_hash=map_hash, ranked=False)
        return result.with_record(result.record.model_copy(update={"hash": counts}))

    assert map_numbers([of("", ""), of("", "")]) == (0, 1)
    assert map_numbers([of("m", "x"), of("m", "y"), of("n", "z")]) == (0, 0, 1)
    # A folder of an earlier version knows its counts alone; it may join two that were apart.
    assert map_numbers([of("m", "x"), of("n", "z"), of("", "y"), of("m", "y")]) == (0, 1, 0, 0)


def test_runs_that_cannot_be_ranked_say_why(made_result: Maker) -> None:
    first = run(made_result)
    old = bu.compare([first, run(made_result, ranked=False, seed=1)], names=["new", "old"])
    assert "old cannot be ranked: without a group log_likelihood" in str(old)
    assert old.tables.ranking().empty
    assert old.tables.stacked().empty
    part = bu.compare([first, run(made_result, data="part", seed=1)], names=["all", "part"])
    assert "part cannot be ranked with all: they use other pixels or energies of the map" in str(part)
    assert not part.tables.agreement().empty


def test_runs_of_one_map_are_not_pooled(made_result: Maker) -> None:
    runs = [run(made_result, seed=s) for s in range(3)]
    with pytest.raises(InputError, match=r"`pool` must belong to results of at least 2 maps.*but there is 1"):
        bu.compare(runs, pool=True)
    two = [*runs[:2], run(made_result, seed=4, map_hash="two")]
    with pytest.raises(InputError, match=r"`covariate.P` must belong to results of at least 3 maps.*are 2"):
        bu.compare(two, covariate={"P": [1, 1, 2]})
    three = [*two, run(made_result, seed=5, map_hash="three")]
    with pytest.raises(InputError, match=r"`covariate.P` must be the same for runs of one map"):
        bu.compare(three, covariate={"P": [1, 2, 3, 4]})
    unlike = [*two[1:], run(made_result, seed=6, data="part")]
    with pytest.raises(InputError, match="runs can be ranked, to be stacked"):
        bu.compare(unlike, pool=True)


def test_a_pooled_value_counts_each_map_once(made_result: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("bayesunmix.analysis.series.fit_series", lambda samples, _: seen.append(samples))
    more = TRUE * [1.0, 1.0, 2.0]
    runs = [
        run(made_result, gain=9.0),
        run(made_result, seed=1, map_hash="two"),
        run(made_result, more, seed=2),
    ]
    bu.compare(runs, names=["a", "b", "c"], pool=True)
    (samples,) = seen
    assert samples.names == ("a + c", "b")
    assert samples.draws.sizes["result"] == 2
    assert len(samples.nominal) == len(samples.factors) == len(samples.kinds) == 2
    # All the weight is the first run's.
    iron = samples.nominal[0][:, 0, 2]
    assert iron.mean() == pytest.approx(TRUE[0, 2], rel=0.01)


def test_runs_of_one_map_may_declare_other_elements(made_result: Maker) -> None:
    fewer = run(made_result, TRUE[:, :2], elements=("Si", "Mg"), seed=1, gain=-3.0)
    comparison = bu.compare([run(made_result), fewer], names=["all", "fewer"])
    assert comparison.elements == ("Mg", "Si")
    np.testing.assert_allclose(comparison.draws.sum("element"), 1.0)
    with pytest.raises(InputError, match="have the same elements"):
        bu.compare([run(made_result), run(made_result, TRUE[:, :2], elements=("Si", "Mg"), map_hash="two")])


def test_command_writes_what_was_done(made_result: Maker, tmp_path: Path) -> None:
    folders = []
    for name, gain in (("true", 0.0), ("wrong", -4.0)):
        folder = tmp_path / name
        folder.mkdir()
        result = run(made_result, gain=gain, seed=len(name))
        result.tree.to_netcdf(folder / "posterior.nc", engine="h5netcdf")
        (folder / "run.json").write_text(json.dumps(result.record.to_dict()))
        folders.append(str(folder))
    out = tmp_path / "out"
    finished = CliRunner().invoke(main, ["compare", *folders, "--out", str(out)])
    assert finished.exit_code == 0, finished.stderr
    names = ("compositions", "partitions", "ranking", "stacked", "agreement", "declarations")
    assert {path.stem for path in out.glob("*.csv")} == set(names)
    record = json.loads((out / "comparison.json").read_text())
    assert [entry["map"] for entry in record["results"]] == [1, 1]
    assert record["alternatives"][0]["results"] == ["true", "wrong"]
    assert record["alternatives"][0]["weights"][0] > 0.99
    page = (out / "comparison.html").read_text()
    assert "alternatives of the same counts" in page
    assert "alternatives of the same counts" in finished.output

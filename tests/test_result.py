"""A result made by hand: what users ask of it, what is saved, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import arviz_stats
import numpy as np
import pytest
import xarray as xr

from bayesunmix.core.errors import InputError
from bayesunmix.core.severity import Distrust
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result import Result, open_result
from bayesunmix.results.saved import with_numbers
from bayesunmix.results.verdict import judge

PHASES, ELEMENTS = ["Brg", "Fp"], ["Mg", "Si", "Fe"]


@pytest.fixture
def result() -> Result:
    rng = np.random.default_rng(0)
    draws = np.stack([rng.dirichlet([500, 450, 50], (2, 80)), rng.dirichlet([800, 1, 200], (2, 80))], axis=2)
    draws[:, :, 1, 1] = 0.0
    draws /= draws.sum(axis=-1, keepdims=True)
    dims = ("chain", "draw", "phase", "element")
    posterior = xr.Dataset(
        {"composition": (dims, draws), "composition_counting": (dims, draws)},
        coords={"phase": PHASES, "element": ELEMENTS},
    )
    mean = np.stack([np.full((3, 4), 0.75), np.full((3, 4), 0.25)])
    maps = xr.Dataset(
        {f"abundance_{name}": (("phase", "y", "x"), mean) for name in ("mean", "sd", "lower", "upper")},
        coords={"phase": PHASES},
        attrs={"pixel_size": [2.0, 1.5], "pixel_unit": "nm"},
    )
    run = {
        "method": "laplace",
        "config": {
            "inference": {"level": 0.9},
            "phases": [{"name": "Brg", "matrix": True}, {"name": "Fp", "absent": ["Si"]}],
        },
        "warnings": [],
        "problems": [],
    }
    return Result(xr.DataTree.from_dict({"posterior": posterior, "maps": maps}), RunRecord.of(run))


def test_names(result: Result) -> None:
    assert (result.phases, result.elements, result.level) == (PHASES, ELEMENTS, 0.9)
    assert result.problems == result.diagnostics_failed == ()
    assert result.posterior["posterior"].sizes["draw"] == 80


def test_partition_is_the_ratio_of_the_draws(result: Result) -> None:
    found = result.partition("Brg", "Fp")
    assert found.dims == ("chain", "draw", "element")
    x = result.composition()
    for element in ("Mg", "Fe"):
        top, bottom = (x.sel(phase=name, element=element).values for name in PHASES)
        np.testing.assert_allclose(found.sel(element=element), top / bottom)
    assert np.isnan(found.sel(element="Si")).all()  # divided by what was declared to be nothing
    np.testing.assert_array_equal(result.partition("Fp", "Brg").sel(element="Si"), 0.0)


def test_compositions_come_in_units(result: Result) -> None:
    np.testing.assert_allclose(result.composition().sum("element"), 1.0)
    np.testing.assert_allclose(result.composition("wt_pct").sum("element"), 100.0)
    np.testing.assert_allclose(result.composition("oxide_wt_pct").sum("element"), 100.0)
    apfu = result.composition("apfu", oxygens=4.0)
    charge = apfu.sel(element="Mg") * 2 + apfu.sel(element="Si") * 4 + apfu.sel(element="Fe") * 2
    np.testing.assert_allclose(charge, 8.0)
    assert set(result.summary("wt_pct")["unit"]) == {"wt_pct"}


def test_statistics_that_an_earlier_version_wrote_get_the_numbers_of_the_draws(result: Result) -> None:
    energy = np.random.default_rng(0).normal(size=(2, 80))
    written = result.tree.assign(
        sample_stats=xr.DataTree(xr.Dataset({"energy": (("chain", "draw"), energy)}))
    )
    with pytest.raises(KeyError):
        arviz_stats.bfmi(written)
    found = with_numbers(written)
    assert arviz_stats.bfmi(found)["energy"].shape == (2,)
    assert with_numbers(found) is found
    assert "chain" not in written["sample_stats"].coords


def test_sites_need_oxygen(result: Result) -> None:
    config = result.record.config
    sample = config.sample.model_copy(update={"oxygen": "none"})
    record = result.record.model_copy(update={"config": config.model_copy(update={"sample": sample})})
    with pytest.raises(
        InputError, match=r'`sample.oxygen` must be "stoichiometry" or "measured" .* but is "none"'
    ):
        result.with_record(record).tables.sites()


def test_tables_are_copies(result: Result) -> None:
    for table in (result.summary, result.tables.partition):
        first = table()
        first.loc[:, "mean"] = -1.0
        assert (table()["mean"] != -1.0).any()


def test_declared_absence_reaches_the_tables(result: Result) -> None:
    summary = result.summary().set_index(["phase", "element"])
    assert summary.loc[("Fp", "Si"), "detected"] == "declared_absent"
    assert summary.loc[("Brg", "Si"), "detected"] == "true"


def test_diagnostics_name_what_varies(result: Result) -> None:
    table = result.diagnostics()
    assert list(table) == ["quantity", "rhat", "ess_bulk", "ess_tail"]
    assert "x(Mg in Brg)" in set(table["quantity"])
    assert "D(Fe, Brg/Fp)" in set(table["quantity"])
    assert not table["quantity"].str.contains("Si in Fp").any()
    assert table.notna().all().all()


def test_abundances(result: Result) -> None:
    found = result.abundances()
    assert set(found.data_vars) == {"mean", "sd", "lower", "upper"}
    assert found["mean"].dims == ("phase", "y", "x")
    assert found.attrs["pixel_unit"] == "nm"


def test_shares_of_phases_have_intervals(result: Result) -> None:
    without = result.tables.phase_shares()
    assert without[["lower", "upper"]].isna().all(axis=None)
    drawn = np.random.default_rng(1).dirichlet([75.0, 25.0], (2, 80))
    posterior = result.tree["posterior"].to_dataset()
    tree = result.tree.copy()
    tree["posterior"] = xr.DataTree(posterior.assign(phase_share=(("chain", "draw", "phase"), drawn)))
    found = dataclasses.replace(result, tree=tree)
    table = found.tables.phase_shares().set_index("phase")
    np.testing.assert_allclose(table["mean"], drawn.mean(axis=(0, 1)))
    np.testing.assert_allclose(
        table.loc["Fp", ["lower", "upper"]].tolist(), np.quantile(drawn[..., 1], [0.05, 0.95])
    )
    assert re.search(r"Brg: 7\d \[6\d, 8\d\] % of the atoms; ", repr(found))


def test_repr_says_what_was_found_and_whether_to_trust_it(result: Result) -> None:
    text = repr(result)
    assert text.startswith("Result: 2 phases, 3 elements, laplace")
    assert "Brg: 75 % of the atoms" in text
    assert "verdict: good" in text
    assert " of the atoms; at%, mean [90 % interval]" in text
    said = [Distrust("The chains disagree.")]
    doubted = dataclasses.replace(result, record=result.record.with_judgement(judge(said), said))
    assert "verdict: not to be trusted\n  not to be trusted: The chains disagree." in repr(doubted)
    assert "Not to be trusted:" in doubted._repr_html_()
    assert doubted._repr_html_().count("The chains disagree.") == 1


def test_an_earlier_versions_folder_has_a_verdict(result: Result) -> None:
    """Its record holds problems and warnings, and no verdict."""
    assert result.verdict.earlier
    assert result.verdict.level == "good"
    earlier = {"method": "laplace", "problems": [], "config": result.record.to_dict()["config"]}

    def opened(**parts: object) -> Result:
        return Result(result.tree, RunRecord.of({**earlier, **parts}))

    warned = opened(warnings=["A place does not fit."])
    assert warned.verdict.level == "reservations"
    assert "earlier version" in repr(warned)
    both = opened(warnings=["A place does not fit."], problems=["The chains disagree."])
    assert [finding.text for finding in both.verdict.findings] == [
        "The chains disagree.",
        "A place does not fit.",
    ]
    assert opened(method="map").verdict.level == "reservations"


def test_unknown_names_are_refused(result: Result) -> None:
    with pytest.raises(InputError, match='`numerator` must be one of the phases Brg, Fp, but is "CaPv"'):
        result.partition("CaPv", "Fp")
    with pytest.raises(InputError, match='`denominator` must be one of the phases Brg, Fp, but is "brg"'):
        result.partition("Fp", "brg")
    with pytest.raises(InputError, match=r"`unit` must be one of"):
        result.composition("mol")


def test_what_is_no_output_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"`DIR` must be the output folder of a finished run.*no posterior.nc"
    ):
        open_result(tmp_path)
    (tmp_path / "posterior.nc").write_text("no netCDF")
    with pytest.raises(InputError, match=r"holds no run.json"):
        open_result(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"`DIR` must be the output folder of .* cannot be read"):
        open_result(tmp_path)


def test_another_record_keeps_the_tables_that_were_made(result: Result) -> None:
    made = result.summary()
    other = result.with_record(result.record.model_copy(update={"warnings": ("Something was said.",)}))
    assert other.record.warnings == ("Something was said.",)
    assert result.record.warnings != other.record.warnings
    assert other.tables is result.tables
    assert other.summary().equals(made)

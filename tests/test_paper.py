"""Tables for a paper, the methods paragraph, and what a user may ask of a result's chemistry."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

from bayesunmix.cli import main
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.core.severity import Distrust
from bayesunmix.report.methods import methods_paragraph
from bayesunmix.report.paper import PaperTable, field_order, paper_tables, save_tables, write_tables
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result import Result
from bayesunmix.results.verdict import judge
from bayesunmix.xray.atomic import atomic_weight

PHASES, ELEMENTS = ["Brg", "Fp", "CaPv"], ["Mg", "Al", "Si", "Ca", "Fe", "Nd"]
MEAN = np.array(
    [
        [0.40, 0.05, 0.475, 0.015, 0.0595, 0.0005],
        [0.86, 0.0, 0.0, 0.0, 0.14, 0.0],
        [0.0, 0.02, 0.48, 0.45, 0.03, 0.02],
    ]
)


def made(**config: Any) -> Result:  # noqa: ANN401 - tables of a configuration
    rng = np.random.default_rng(0)
    draws = np.abs(MEAN * (1 + 0.02 * rng.normal(size=(2, 200, 3, 6))))
    draws[:, :, 1, 5] = np.abs(rng.normal(0.0, 2e-4, (2, 200)))  # not detected in Fp
    draws /= draws.sum(axis=-1, keepdims=True)
    dims = ("chain", "draw", "phase", "element")
    shares = rng.dirichlet([900, 70, 30], (2, 200))
    posterior = xr.Dataset(
        {
            "composition": (dims, draws),
            "composition_counting": (dims, draws),
            "phase_share": (dims[:3], shares),
        },
        coords={"phase": PHASES, "element": ELEMENTS},
    )
    maps = xr.Dataset(
        {"abundance_mean": (("phase", "y", "x"), np.full((3, 4, 4), 1 / 3))}, coords={"phase": PHASES}
    )
    phases = [
        {"name": "Brg", "matrix": True, "stoichiometry": "ABO3"},
        {"name": "Fp", "absent": ["Al", "Si", "Ca"], "stoichiometry": "AO"},
        {"name": "CaPv", "absent": ["Mg"], "stoichiometry": "ABO3"},
    ]
    sample = {
        "elements": ELEMENTS,
        "oxygen": "stoichiometry",
        "thickness_nm": [100.0, 30.0],
        **config.pop("sample", {}),
    }
    run = {
        "method": "laplace",
        "version": "0.1.0",
        "versions": {"jax": "0.10.2", "python": "3.11.7"},
        "seed": 4,
        "hash": "abc",
        "map": {"shape": [4, 4, 100], "energy_keV": [0.8, 20.0]},
        "config": {"inference": {"level": 0.95}, "phases": phases, "sample": sample, **config},
        "problems": [],
    }
    return Result(xr.DataTree.from_dict({"posterior": posterior, "maps": maps}), RunRecord.of(run))


@pytest.fixture(scope="module")
def result() -> Result:
    return made(sample={"bulk_wt_pct": {"Nd": 0.3}})


def by_name(tables: list[PaperTable]) -> dict[str, PaperTable]:
    return {table.name: table for table in tables}


def test_formula_units_come_from_the_declared_stoichiometries(result: Result) -> None:
    apfu = result.composition("apfu")
    charge = xr.DataArray([2, 3, 4, 2, 2, 3], dims="element", coords={"element": ELEMENTS})
    expected = {"Brg": 6.0, "Fp": 2.0, "CaPv": 6.0}
    for phase, total in expected.items():
        np.testing.assert_allclose((apfu * charge).sum("element").sel(phase=phase), total, rtol=1e-10)
    twelve = result.composition("apfu", oxygens={"CaPv": 12})
    np.testing.assert_allclose(twelve.sel(phase="CaPv"), 4 * apfu.sel(phase="CaPv"), rtol=1e-10)
    np.testing.assert_allclose(
        result.composition("apfu", oxygens=1).sel(phase="Brg"), apfu.sel(phase="Brg") / 3
    )


def test_ferric_iron_of_a_result(result: Result) -> None:
    found = result.composition("oxide_wt_pct", ferric={"Brg": (0.3, 0.1)})
    assert "FeO + Fe2O3" in found["oxide"].values
    plain = result.composition("oxide_wt_pct")
    np.testing.assert_allclose(found.sel(phase="Fp"), plain.sel(phase="Fp"))
    assert float((found - plain).sel(phase="Brg", element="Fe").std()) > 0.0
    configured = made(output={"ferric": {"Brg": [0.3, 0.1]}})
    np.testing.assert_allclose(configured.composition("oxide_wt_pct"), found)
    # The same shares in every unit: Mg# and formula units of one draw go together.
    assert (configured.mg_number().sel(phase="Brg") > result.mg_number().sel(phase="Brg")).all()


def test_partition_by_weight(result: Result) -> None:
    weight, atoms = (result.partition("CaPv", "Brg", by=by) for by in ("weight", "atoms"))
    assert (weight.attrs["by"], atoms.attrs["by"]) == ("weight", "atoms")
    # One factor for all elements: the ratio of the mean atomic masses, oxygen included.
    factor = weight / atoms
    np.testing.assert_allclose(factor.sel(element="Si"), factor.sel(element="Ca"), rtol=1e-10)
    x = result.composition().isel(chain=0, draw=0)
    oxygen = xr.DataArray([1, 1.5, 2, 1, 1, 1.5], dims="element", coords={"element": ELEMENTS})
    masses = xr.DataArray([atomic_weight(e) for e in ELEMENTS], dims="element", coords={"element": ELEMENTS})
    mass = (x * (masses + oxygen * atomic_weight("O"))).sum("element")
    expected = float(mass.sel(phase="Brg") / mass.sel(phase="CaPv"))
    assert float(factor.sel(element="Si")[0, 0]) == pytest.approx(expected, rel=1e-10)
    table = result.tables.partition("weight")
    assert set(table["by"]) == {"weight"}
    assert table["kind"].tolist() == result.tables.partition()["kind"].tolist()
    metal = made(sample={"oxygen": "none"}).partition("CaPv", "Brg", by="weight")
    assert abs(float(metal.sel(element="Si").mean() / weight.sel(element="Si").mean()) - 1) > 1e-3


def test_an_exchange_of_the_default_elements_says_that_they_are(
    made_result: Callable[..., Result],
) -> None:
    amounts = np.random.default_rng(1).uniform(0.2, 0.3, (2, 20, 2, 2))
    alloy = made_result(amounts, ("a", "b"), ("Ni", "Cr"))
    said = r'`first` must be one of .* Ni, Cr, but is "Fe", the default\. Name the two .* by `first` and `second`'
    for ask in (lambda: alloy.exchange("a", "b"), alloy.tables.exchange):
        with pytest.raises(InputError, match=said):
            ask()
    with pytest.raises(InputError, match=r'`second` .* but is "Mg", the default'):
        alloy.exchange("a", "b", first="Ni")
    with pytest.raises(InputError, match=r'`second` must be one of the elements Ni, Cr, but is "Nn"\.$'):
        alloy.exchange("a", "b", first="Ni", second="Nn")


def test_exchange(result: Result) -> None:
    found = result.exchange("Fp", "Brg")
    x = result.composition()
    fe, mg = (x.sel(element=element) for element in ("Fe", "Mg"))
    np.testing.assert_allclose(found, (fe / mg).sel(phase="Fp") / (fe / mg).sel(phase="Brg"), rtol=1e-12)
    assert "K_D(Fe-Mg, Fp/Brg)" == found.name
    row = result.tables.exchange().set_index(["numerator", "denominator"]).loc[("Fp", "Brg")]
    assert row["lower"] < float(found.median()) < row["upper"]
    assert result.tables.exchange("Nd", "Ca")["exchange"].iloc[0] == "Nd-Ca"


def test_mass_balance_of_a_result(result: Result) -> None:
    table = result.tables.mass_balance().set_index("element")
    assert table.loc["Nd", "given"] == 0.3
    assert table["lower"].notna().all()
    silica = result.tables.mass_balance({"SiO2": 45.0}).set_index("element").loc["Si"]
    assert silica["given"] == pytest.approx(45.0 * 0.46743, rel=1e-3)
    budget = result.tables.element_budget()
    np.testing.assert_allclose(budget.groupby("element")["mean"].sum(), 1.0)
    without = Result(result.tree.copy(), made().record)
    without.tree["posterior"] = result.tree["posterior"].to_dataset().drop_vars("phase_share")
    assert (
        without.tables.mass_balance({"Nd": 0.3}).set_index("element").loc["Nd", "median"] > 0.0
    )  # from the maps


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda r: r.composition("oxide_wt_pct", valences={"Nd": 0}),
            r"`valences.Nd` must lie between 0.5 and 8",
        ),
        (
            lambda r: r.composition("apfu", oxygens={"brg": 3}),
            r"`oxygens` must name phases of the result: Brg, Fp, CaPv",
        ),
        (
            lambda r: r.composition("apfu", ferric={"Ol": 0.1}),
            r"`ferric` must name phases of the result.*\"Ol\"",
        ),
        (
            lambda r: r.partition("Brg", "Ol"),
            r"`denominator` must be one of the phases Brg, Fp, CaPv, but is \"Ol\"",
        ),
        (
            lambda r: r.partition("Brg", "Fp", by="mole"),
            r"`by` must be one of \"atoms\", \"weight\", but is \"mole\"",
        ),
        (
            lambda r: r.exchange("Brg", "Fp", "Fe", "Mn"),
            r"`second` must be one of the elements Mg, .* but is \"Mn\"",
        ),
        (lambda r: r.tables.exchange("Fe", "Fe"), r"`second` must differ from `first`, but is \"Fe\", too"),
        (
            lambda r: r.tables.sites({"Ol": "A2BO4"}),
            r"`formulas` must name phases of the result: .* holds \"Ol\"",
        ),
        (
            lambda r: made().tables.mass_balance(),
            r"`bulk` must be given here or as `sample.bulk_wt_pct`, but is not",
        ),
        (
            lambda r: r.tables.mass_balance({"Sm": 0.3}),
            r"`bulk.Sm` must name one of Mg, .* but is not declared",
        ),
        (
            lambda r: made(sample={"oxygen": "none"}).composition("apfu"),
            r"`unit` must be one of at_frac, wt_pct where `sample.oxygen` is \"none\", but is \"apfu\"",
        ),
        (
            lambda r: made(sample={"oxygen": "none"}).tables.sites(),
            r'`sample.oxygen` must be "stoichiometry" or "measured" for sums of sites, .*, but is "none"',
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(result: Result, ask: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(InputError, match=message):
        ask(result)


def test_order_of_the_field() -> None:
    assert field_order(["U", "Mg", "O", "Ca", "Nd", "Fe", "Al", "Si", "K", "Na", "Ti", "Hf"]) == [
        "Si", "Ti", "Al", "Fe", "Mg", "Ca", "Na", "K", "Nd", "Hf", "U", "O",
    ]  # fmt: skip


def test_tables_say_what_the_numbers_say(result: Result) -> None:
    tables = by_name(paper_tables(result))
    assert list(tables) == [
        "composition_at_frac", "composition_oxide_wt_pct", "composition_apfu", "partition_atoms", "partition_weight",
        "exchange", "sites", "budget", "mass_balance",
    ]  # fmt: skip
    oxides = tables["composition_oxide_wt_pct"].frame.set_index("oxide wt%")
    assert oxides.index.tolist() == ["SiO2", "Al2O3", "FeO", "MgO", "CaO", "Nd2O3"]
    assert oxides.loc["SiO2", "Fp"] == "–"
    assert oxides.loc["Nd2O3", "Fp"].startswith("< ")
    row = result.summary("oxide_wt_pct").set_index(["phase", "element"]).loc[("Brg", "Mg")]
    value, low, high = map(float, re.findall(r"[\d.]+", oxides.loc["MgO", "Brg"]))
    assert low <= value <= high
    # No more digits than the interval supports: rounding moves nothing by more than half of half its width.
    width = row["upper"] - row["lower"]
    assert max(abs(value - row["mean"]), abs(low - row["lower"]), abs(high - row["upper"])) < width / 4
    assert "Brg 3 O, Fp 1 O, CaPv 3 O" in tables["composition_apfu"].caption
    assert "All iron as FeO." in tables["composition_apfu"].caption
    partition = tables["partition_atoms"].frame.set_index("element")
    assert partition.loc["Nd", "Fp / Brg"].startswith("< ")
    assert partition.loc["Nd", "CaPv / Brg, counting"].startswith("[")
    assert tables["mass_balance"].frame["element"].tolist() == ["Nd"]
    assert "CaPv: Nd3+ on the large site bring" in tables["sites"].caption


def test_asked_and_configured_units() -> None:
    asked = [table.name for table in paper_tables(made(), ["wt_pct"])]
    assert asked[0] == "composition_wt_pct"
    assert not any(name.startswith("composition") for name in asked[1:])
    configured = [
        table.name for table in paper_tables(made(output={"units": ["wt_pct"], "ferric": [0.2, 0.1]}))
    ]
    assert configured[:2] == ["composition_at_frac", "composition_wt_pct"]
    metal = [table.name for table in paper_tables(made(sample={"oxygen": "none"}))]
    assert metal[:2] == ["composition_at_frac", "composition_wt_pct"]
    assert "sites" not in metal


def test_formats(result: Result, tmp_path: Path) -> None:
    table = PaperTable(
        "t", "Al2O3 & Nd3+ in 100 %: a_b", pd.DataFrame([["SiO2", "< 0.1", "–"]], columns=["x", "A", "B"])
    )
    tex = table.latex()
    assert r"\caption{Al\textsubscript{2}O\textsubscript{3} \& Nd\textsuperscript{3+} in 100 \%: a\_b}" in tex
    assert r"SiO\textsubscript{2} & $<$ 0.1 & -- \\" in tex
    assert r"\begin{tabular}{lrr}" in tex
    assert table.markdown().splitlines()[2:] == [
        "| x | A | B |",
        "| --- | ---: | ---: |",
        "| SiO2 | < 0.1 | – |",
    ]
    written = write_tables(result, tmp_path / "new", ["oxide_wt_pct"])
    assert {path.suffix for path in written} == {".csv", ".tex", ".md"}
    read = pd.read_csv(tmp_path / "new" / "composition_oxide_wt_pct.csv")
    assert read.columns.tolist() == ["oxide wt%", *PHASES]
    assert (
        (tmp_path / "new" / "methods.md")
        .read_text(encoding="utf-8")
        .startswith("A STEM-EDS map of 4 × 4 pixels")
    )


def test_methods_paragraph(result: Result) -> None:
    text = methods_paragraph(result)
    for part in (
        "bayesunmix 0.1.0",
        "jax 0.10.2",
        "Python 3.11.7",
        "Seed 4",
        "Laplace",
        "95 % credible intervals",
        "some 5 % for K, 11 % for L",
        "Fp (free of Al, Si and Ca; close to AO",
        "film thickness of 100 ± 30 nm",
        "Oxygen was taken by stoichiometry.",
    ):
        assert part in text
    assert "\n" not in text
    diagnostics = {"rhat_max": 1.004, "ess_bulk_min": 512.0}
    sampled = {**result.record.to_dict(), "method": "nuts", "diagnostics": diagnostics}
    nuts = Result(result.tree, RunRecord.of(sampled))
    assert "R-hat at most 1.004, effective sample size at least 512" in methods_paragraph(nuts)
    said = [Distrust("The chains disagree.")]
    doubted = Result(result.tree, result.record.with_judgement(judge(said), said))
    assert "own verdict on this result is “not to be trusted”: The chains disagree." in methods_paragraph(
        doubted
    )


def test_methods_of_phases_of_which_nothing_was_declared(result: Result) -> None:
    undeclared = {**result.record.to_dict()}
    undeclared["config"] = {**undeclared["config"], "phases": [{"name": name} for name in PHASES]}
    text = methods_paragraph(Result(result.tree, RunRecord.of(undeclared)))
    assert "Nothing was declared of the phases (Brg, Fp and CaPv)." in text
    assert "rotated" not in text
    undeclared["phase_number"] = {"chosen": 3, "curve": []}
    undeclared["rotations"] = {
        "pure": 0.25,
        "absent": 0.25,
        "open": [],
        "rotated": ["Fp", "CaPv"],
        "effective_candidates": 200.0,
    }
    text = methods_paragraph(Result(result.tree, RunRecord.of(undeclared)))
    assert "(Brg, Fp and CaPv); their number was inferred from held-out counts." in text
    assert "leave open how Fp and CaPv mix with other phases" in text
    assert "25 % of them to where some pixel of a phase is pure" in text


def test_tables_in_a_folder_of_their_own_replace_their_own_files_alone(
    result: Result, tmp_path: Path
) -> None:
    folder = tmp_path / "paper"
    folder.mkdir()
    (folder / "methods.md").write_text("mine")
    with pytest.raises(InputError, match="`--out` must be a new or empty folder"):
        save_tables(result, folder)
    assert (folder / "methods.md").read_text() == "mine"
    written = save_tables(result, folder, ["wt_pct"], overwrite=True)
    assert all(path.is_file() for path in written)
    assert (folder / "methods.md.before").read_text() == "mine"
    save_tables(result, folder, ["apfu"], overwrite=True)
    assert not (folder / "composition_wt_pct.csv").exists()
    assert (folder / "methods.md.before").read_text() == "mine"
    assert not (folder / "methods.md.before1").exists()


def test_tables_go_into_no_output_folder(result: Result, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="`--out` must be no output folder of a run"):
        save_tables(result, tmp_path, overwrite=True)
    found = CliRunner().invoke(main, ["tables", str(tmp_path), "--out", f"{tmp_path}/."])
    assert found.exit_code == 2
    assert "`--out` must be another folder than DIR" in found.stderr


def test_command_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    runner = CliRunner()
    found = runner.invoke(main, ["tables", str(tmp_path)])
    assert found.exit_code == 2
    assert "`DIR` must be an output folder of `bayesunmix unmix`" in found.stderr
    found = runner.invoke(main, ["tables", str(tmp_path), "--unit", "mol"])
    assert "`--unit` must be one of" in found.stderr
    found = runner.invoke(main, ["report", str(tmp_path), "--format", "bmp"])
    assert '`--format` must be one of "png", "pdf", "svg", but is "bmp"' in found.stderr


def config(**tables: Any) -> RunConfig:  # noqa: ANN401
    sample = {"elements": ["Mg", "Si", "Fe"], **tables.pop("sample", {})}
    return RunConfig.from_dict({"sample": sample, "phases": [{"name": "Brg"}, {"name": "Fp"}], **tables})


def test_configuration_of_the_output() -> None:
    output = {
        "units": ["oxide_wt_pct"],
        "oxygens": {"Fp": 1},
        "ferric": {"Brg": [0.2, 0.1]},
        "valences": {"Si": 4},
    }
    found = config(output=output, sample={"bulk_wt_pct": {"Fe": [6.0, 0.5]}})
    assert found.output.units == ("oxide_wt_pct",)
    assert RunConfig.from_dict(found.to_dict()) == found
    assert config().output.units == ()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"output": {"units": ["oxide"]}}, r"`output.units` must be one of .* but is \"oxide\""),
        ({"output": {"units": "wt_pct"}}, r"`output.units` must be a list of units"),
        ({"output": {"unit": ["wt_pct"]}}, r"`output.unit` must be one of units, .* but is an unknown key"),
        (
            {"output": {"oxygens": {"Ol": 4}}},
            r"`output.oxygens` must name phases of the sample: Brg, Fp, but holds \"Ol\"",
        ),
        ({"output": {"oxygens": 0}}, r"`output.oxygens` must lie between 0.1 and 1000, but is 0"),
        ({"output": {"ferric": 2}}, r"`output.ferric` must lie between 0 and 1"),
        ({"output": {"ferric": {"Ol": 0.1}}}, r"`output.ferric` must name phases of the sample"),
        ({"output": {"valences": {"Fe": 0}}}, r"`output.valences.Fe` must lie between 0.5 and 8"),
        (
            {"output": {"units": ["apfu"]}, "sample": {"oxygen": "none"}},
            r"`output.units` must be one of at_frac, wt_pct where `sample.oxygen` is \"none\"",
        ),
        (
            {"output": {"units": ["oxide_wt_pct"]}, "sample": {"elements": ["Mg", "Ar"]}},
            r"must be asked of elements that have an oxide, but Ar has no valence",
        ),
        ({"sample": {"bulk_wt_pct": {"Nd": 0.3}}}, r"`sample.bulk_wt_pct.Nd` must name one of Mg, Si, Fe"),
    ],
)
def test_configuration_that_cannot_be_used(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**tables)

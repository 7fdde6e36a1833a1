"""Odd configurations and damaged folders, of the kinds that once ended in a traceback, a hang or a page of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.core.output_folder import checksums_of, write_record
from bayesunmix.data.masks import flagged_pixels
from bayesunmix.results.earlier_layouts import FORMAT
from bayesunmix.results.record import DamagedError, RunRecord
from bayesunmix.results.result import open_result
from bayesunmix.results.saved import check_tree
from bayesunmix.xray import LineTable

GOOD = """
[sample]
elements = ["Mg", "Si", "Fe"]
[[phases]]
name = "A"
[[phases]]
name = "B"
"""


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        RunConfig.from_toml(path)
    text = str(caught.value)
    assert len(text) < 900
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("a=" + "[" * 5000, "`config`"),
        ("x=" + "9" * 5000, "`config`"),
        ("d = 2026-02-31", "`config`"),
        (GOOD.encode("utf-16"), "`config`"),
        (b"\x00" * 1000, "`config`"),
        ("#" * 1_000_000, "`config`"),
        (GOOD + '[sample]\nelements = ["Mg"]', "`config`"),
        (GOOD.replace('"A"', '""'), "`phases.name`"),
        (GOOD.replace('"A"', f'"{"é" * 300}"'), "`phases.name`"),
        (GOOD.replace('"A"', '"\\u202eabc"'), "`phases.name`"),
        (GOOD.replace('"A"', '"a\\nb"'), "`phases.name`"),
        (GOOD.replace('"A"', "2026-11-28"), "`phases.name`"),
        (GOOD.replace('"A"', "9" * 4000), "`phases.name`"),
        (GOOD.replace('"Fe"]', '"H"]'), "`sample.elements`"),
        (GOOD.replace('"Fe"]', '"Fe"' + ', "Mg"' * 20_000 + "]"), "`sample.elements`"),
        (GOOD + f'stoichiometry = "{"A1" * 20_000}"', "`phases.B.stoichiometry`"),
        (GOOD + f'stoichiometry = "A{"9" * 150}BO3"', "`phases.B.stoichiometry`"),
        (GOOD.replace('"A"', '"A"\nabsent = ["Mg"]') + 'absent = ["Mg"]', "`phases.absent`"),
        (
            '[sample]\nelements = ["Mg", "Fe"]\n'
            '[[phases]]\nname = "A"\nabsent = ["Mg"]\n[[phases]]\nname = "C"\n'
            '[[phases]]\nname = "B"\nabsent = ["Mg"]\n',
            "`phases.B.absent`",
        ),
        ("phases = 21\n[sample]\nelements = ['Mg']", "`phases`"),
        ("phases = 1\n[sample]\nelements = ['Mg']\nthickness_nm = [1e300, 1]", "`sample.thickness_nm`"),
        ("phases = 1\n[sample]\nelements = ['Mg']\nthickness_nm = [nan, 1]", "`sample.thickness_nm`"),
        (
            f"phases = 1\n[sample]\nelements = ['Mg']\nthickness_nm = [{'9' * 400}, 1]",
            "`sample.thickness_nm`",
        ),
        (
            "phases = 1\n[sample]\nelements = ['Mg']\n[xray]\nk_factors = {Fe_K = [1e300, 1]}",
            "`xray.k_factors.Fe_K`",
        ),
        (
            "phases = 1\n[sample]\nelements = ['Mg']\n[xray]\nk_factors = {Fe_K = [1, 2]}",
            r"`xray.k_factors.Fe_K (sd)`",
        ),
        ("phases = 1\n[sample]\nelements = ['Mg']\n[map]\nenergy_range = [6.39, 6.41]", "`map.energy_range`"),
        *(
            (f"phases = 1\n[sample]\nelements = ['Mg']\n[inference]\n{key} = {value}", f"`inference.{key}`")
            for key in ("starts", "draws", "chains", "warmup", "max_overlap")
            for value in ("1_000_000_000", "9" * 400, "nan", "true", '"x"', "[1]", "2026-11-28")
        ),
    ],
)
def test_one_short_line_that_names_the_field(tmp_path: Path, content: str | bytes, field: str) -> None:
    assert refusal(tmp_path / "run.toml", content).startswith(field)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_what_editors_add_is_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.toml").write_bytes(content)
    assert RunConfig.from_toml(tmp_path / "run.toml").sample.elements == ("Mg", "Si", "Fe")


LINE = {"line": "KL3", "family": "K", "energy_keV": 1.25, "strength": 1e-22}


@pytest.mark.parametrize(
    "table",
    [
        "[" * 100_000,
        '{"Mg": [{"line": "KL3", "family": "K", "energy_keV": 1e999, "strength": 1}]}',
        f'{{"Mg": [{{"line": "KL3", "family": "K", "energy_keV": {"9" * 4000}, "strength": 1}}]}}',
        *(
            json.dumps({"Mg": [{**LINE, key: value}]})
            for key, values in {
                "strength": [float("nan"), -1, 1e300, None, True, [1], "x"],
                "energy_keV": [float("nan"), 0, -1, 1e6, None, "1.25"],
                "family": [None, ["K"], {"K": 1}, "N", 1],
                "line": [None, "", 3, []],
            }.items()
            for value in values
        ),
    ],
)
def test_line_tables_that_cannot_be_used(tmp_path: Path, table: str) -> None:
    (tmp_path / "lines.json").write_text(table)
    with pytest.raises(InputError, match=r"`xray.table") as caught:
        LineTable.from_json(tmp_path / "lines.json")
    assert len(str(caught.value)) < 900


def saved() -> tuple[xr.DataTree, dict[str, Any]]:
    """Return what a folder holds, as far as is looked at."""
    dims = ("chain", "draw", "phase", "element")
    draws = np.full((1, 4, 2, 2), 0.5)
    posterior = xr.Dataset(
        {"composition": (dims, draws), "composition_counting": (dims, draws)},
        {"phase": ["A", "B"], "element": ["Mg", "Si"]},
    )
    by_phase, grid = (("phase", "y", "x"), np.full((2, 1, 1), 0.5)), (("y", "x"), np.zeros((1, 1)))
    bins, by_bin = ("energy_bin", [1.0]), (("phase", "energy_bin"), np.ones((2, 1)))
    abundances = {f"abundance_{name}": by_phase for name in ("mean", "sd", "lower", "upper")}
    groups = {
        "maps": xr.Dataset({**abundances, "pure_probability": by_phase, "label": grid}),
        "endmembers": xr.Dataset(
            {name: (("phase", "energy"), np.ones((2, 3))) for name in ("mean", "lower", "upper")}
        ),
        "fit": xr.Dataset(
            {name: bins for name in ("energy_low", "energy_high", "observed", "expected", "continuum")}
            | {name: by_bin for name in ("expected_by_phase", "segment_observed", "segment_expected")}
        ),
        "constant_data": xr.Dataset({"calibration_sd": ("element", [0.1, 0.1]), "total_counts": grid}),
    }
    run: dict[str, Any] = {
        "format": FORMAT,
        "method": "laplace",
        "verdict": "good",
        "findings": [],
        "config": {"inference": {"level": 0.95}, "phases": [{"name": "A"}, {"name": "B", "absent": ["Si"]}]},
    }
    return xr.DataTree.from_dict({"posterior": posterior, **groups}), run


def config(**parts: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a record's configuration with some parts of another kind."""
    return {"config": {**saved()[1]["config"], **parts}}


def damage(tree: xr.DataTree, run: object) -> str:
    """Return what is said of a folder that holds this; empty when all is well."""
    try:
        check_tree(tree, RunRecord.of(run))
    except DamagedError as error:
        return str(error)
    return ""


def test_what_is_whole_is_not_damaged() -> None:
    assert damage(*saved()) == ""


def test_a_folder_of_an_earlier_version_opens(tmp_path: Path) -> None:
    tree, run = saved()
    loose = [{"phase": "B", "other": "A", "share": 0.4}]
    tree.to_netcdf(tmp_path / "posterior.nc", engine="h5netcdf")
    earlier = {"method": "laplace", "config": run["config"], "problems": [], "identifiability": loose}
    (tmp_path / "run.json").write_text(json.dumps(earlier))
    record = open_result(tmp_path).record
    assert record.format == FORMAT
    assert record.identifiability is not None
    (pair,) = record.identifiability.non_identifiable
    assert (pair.phase, pair.other, pair.share) == ("B", "A", 0.4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"warnings": None}, "warnings of run.json is not a list"),
        ({"warnings": [1]}, "warnings[1] of run.json is not a text"),
        ({"method": 3}, "method of run.json is not 'nuts', 'laplace', 'svi' or 'map'"),
        ({"config": []}, "config of run.json is not a table"),
        ({"config": {}}, "config of run.json has no inference"),
        (config(inference={"level": True}), "config.inference.level of run.json is not a number"),
        (config(inference={"level": 1.5}), "config.inference.level of run.json is not less than 1"),
        (config(phases="auto"), "config.phases of run.json is not a list"),
        (config(phases=[]), "config.phases of run.json is empty"),
        (config(phases=[{}]), "config.phases[1] of run.json has no name"),
        (config(phases=[{"name": "A", "absent": 3}]), "config.phases[1].absent of run.json is not a list"),
        (config(phases=[{"name": "A"}]), "name different phases"),
        (config(sample={"elements": ["Mg"]}), "name different elements"),
        (config(sample={"thickness_nm": [1.0]}), "config.sample.thickness_nm of run.json is not a list of 2"),
        (config(xray={"k_factors": {"Fe_Ka": [1.0, "x"]}}), "k_factors.Fe_Ka[2] of run.json is not a number"),
        ({"starts": {}}, "starts of run.json is not a list"),
        ({"starts": [{"objective": 0.0}]}, "starts[1] of run.json has no same_mode"),
        (
            {"starts": [{"objective": 0.0, "same_mode": True, "composition": [[1.0]]}]},
            "not one of all phases and elements",
        ),
        ({"diagnostics": []}, "diagnostics of run.json is not a table"),
        ({"identifiability": 3}, "identifiability of run.json is not a table"),
        ({"binning": {"bins": 3}}, "binning of run.json has no block_side"),
        ({"second_maximum_share": [None]}, "second_maximum_share of run.json is not a number"),
        ({"supports": None}, "supports of run.json is not a list"),
        ({"seed": -1}, "seed of run.json is not greater than or equal to 0"),
        ({"seed": 1.5}, "seed of run.json is not a whole number"),
        ({"verdict": "fine"}, "verdict of run.json is not 'good', 'reservations' or 'distrust'"),
        ({"findings": None}, "findings of run.json is not a list"),
        ({"findings": [{}]}, "findings[1] of run.json has no severity"),
        ({"fit": {"residuals": {}}}, "fit.residuals of run.json has no threshold_sigma"),
        ({"unmodelled_regions": {"regions": []}}, "unmodelled_regions of run.json has no threshold"),
        (
            {"unmodelled_regions": {"regions": [], "threshold": 4.0}},
            "posterior.nc has no misfit in a group maps",
        ),
        ({"checksums": {"/etc/passwd": "0"}}, "checksums of run.json has an unknown /etc/passwd"),
        ({"map": {"name": "\ud800"}}, "run.json holds what cannot be read"),
    ],
)
def test_a_damaged_record_is_told_as_such(change: dict[str, Any], said: str) -> None:
    tree, run = saved()
    assert said in damage(tree, {**run, **change})


@pytest.mark.parametrize("run", [[], 1, None, "x", {}])
def test_a_record_that_is_none(run: object) -> None:
    assert "run.json" in damage(saved()[0], run)


@pytest.mark.parametrize("group", ["posterior", "maps", "endmembers", "fit"])
def test_a_posterior_that_lacks_a_group(group: str) -> None:
    tree, run = saved()
    del tree[group]
    assert group in damage(tree, run)


@pytest.mark.parametrize(
    "name", ["maps/abundance_sd", "maps/abundance_lower", "maps/label", "fit/expected", "endmembers/upper"]
)
def test_a_posterior_that_lacks_a_variable_or_holds_words(name: str) -> None:
    tree, run = saved()
    group, variable = name.split("/")
    held = tree[group].to_dataset()
    tree[group] = xr.DataTree(held.drop_vars(variable))
    assert f"has no {variable} in a group {group}" in damage(tree, run)
    tree[group] = xr.DataTree(held.assign({variable: held[variable].astype(str)}))
    assert f"{name} of posterior.nc is no array of numbers" in damage(tree, run)


@pytest.mark.parametrize("content", [b"", b"no file of this kind", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "posterior.nc").write_bytes(content)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=f"`DIR` must .*{tmp_path.name}.* cannot be read"):
        open_result(tmp_path)


CHANGES: list[dict[str, Any]] = [
    {"second_maximum_share": 0.2},
    {"supports": ["A"]},
    {"verdict": "reservations"},
    {"fit": {"deviance_per_dof_total": 9.0}},
    {"warnings": ["another sentence"]},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_that_was_changed_is_told_as_such(tmp_path: Path, change: dict[str, Any]) -> None:
    """Whatever was changed: what reads the record relies on all of it."""
    tree, run = saved()
    tree.to_netcdf(tmp_path / "posterior.nc", engine="h5netcdf")
    parts = {
        "second_maximum_share": 0.1,
        "fit": {"deviance_per_dof_total": 1.0},
        "supports": [],
    }
    write_record(tmp_path, {**run, **parts})
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert open_result(tmp_path).record == RunRecord.of({**run, **parts})
    (tmp_path / "run.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(
        InputError, match=r"run.json .* was changed after it was written. Where .* delete checksum"
    ):
        open_result(tmp_path)
    del record["checksum"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert open_result(tmp_path).record == RunRecord.of({**run, **parts})


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_posterior_that_was_changed_is_told_as_such(tmp_path: Path, place: float) -> None:
    tree, run = saved()
    tree.to_netcdf(tmp_path / "posterior.nc", engine="h5netcdf")
    sums = checksums_of(tmp_path, "posterior.nc")
    write_record(tmp_path, {**run, "checksums": sums})
    assert open_result(tmp_path).record.checksums == sums
    content = bytearray((tmp_path / "posterior.nc").read_bytes())
    content[int(place * len(content))] ^= 0x10
    (tmp_path / "posterior.nc").write_bytes(content)
    for read in (open_result, flagged_pixels):
        with pytest.raises(InputError, match=r"was changed after it was written|cannot be read|is damaged"):
            read(tmp_path)

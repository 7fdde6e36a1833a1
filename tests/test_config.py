"""Configuration: what is read, what is assumed, and every mistake refused by the name of its field."""

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayesunmix.config.inference import InferenceConfig
from bayesunmix.config.map import MapConfig
from bayesunmix.config.phase import Phase
from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.sample import DEFAULT_DENSITY_G_CM3, DEFAULT_THICKNESS_NM, SampleConfig
from bayesunmix.config.simulation import SimulatedPhase
from bayesunmix.config.xray import DEFAULT_ABSORPTION_SD
from bayesunmix.core.errors import InputError

TOML = """
[map]
energy_range = [1.0, 19.9]
[sample]
elements = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"]
stray = ["Cu", "Ga", "Pt", "Zr"]
oxygen = "stoichiometry"
thickness_nm = [100, 30]
[instrument]
beam_energy_keV = 200
takeoff_angle_deg = 22
[xray]
table = "lines.json"
k_factors = {Fe_K = [1.21, 0.03]}
[[phases]]
name = "Brg"
matrix = true
stoichiometry = "ABO3"
composition = {Mg = 0.40, Al = 0.05, Si = 0.48, Fe = 0.07}
fraction = 0.8
[[phases]]
name = "Fp"
absent = ["Si", "Ca"]
composition = {Mg = 0.8, Fe = 0.2}
fraction = 0.1
[[phases]]
name = "CaPv"
absent = ["Mg"]
composition = {Ca = 0.5, Si = 0.5}
fraction = 0.1
[inference]
method = "nuts"
chains = 2
draws = 500
warmup = 500
level = 0.95
[simulate]
shape = [40, 50]
counts_per_pixel = 108
"""


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    tables = tomllib.loads(TOML)
    del tables["xray"]["table"]
    return tables


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    (tmp_path / "lines.json").write_text("{}")
    path = tmp_path / "run.toml"
    path.write_text(TOML)
    return path


def test_every_key_of_the_contract_is_read(toml: Path) -> None:
    config = RunConfig.from_toml(toml)
    assert config.map.energy_range == (1.0, 19.9)
    assert config.sample.elements[:3] == ("Mg", "Al", "Si")
    assert config.sample.stray == ("Cu", "Ga", "Pt", "Zr")
    assert config.sample.thickness_prior_nm == (100.0, 30.0)
    assert config.instrument.beam_energy_keV == 200.0
    assert config.instrument.resolution_eV is None
    assert config.xray.table == toml.parent / "lines.json"
    assert config.xray.k_factors == {"Fe_K": (1.21, 0.03)}
    assert config.xray.absorption_sd == DEFAULT_ABSORPTION_SD
    assert config.phases == (
        Phase("Brg", matrix=True, stoichiometry="ABO3"),
        Phase("Fp", absent=("Si", "Ca")),
        Phase("CaPv", absent=("Mg",)),
    )
    assert config.inference == InferenceConfig(method="nuts", chains=2, draws=500, warmup=500, level=0.95)
    (density,) = config.assumptions()
    assert "4 ± 1 g/cm3" in density


def test_truth_of_a_simulation(toml: Path) -> None:
    plan, phases = RunConfig.from_toml(toml).truth()
    assert plan.shape == (40, 50)
    assert plan.counts_per_pixel == 108.0
    assert [phase.fraction for phase in phases] == [0.8, 0.1, 0.1]
    assert phases[1].composition == {"Mg": 0.8, "Fe": 0.2}


def test_composition_is_scaled_to_one() -> None:
    phase = SimulatedPhase("Fp", {"Mg": 0.8, "Fe": 0.196}, 1.0)
    assert sum(phase.composition.values()) == pytest.approx(1.0, abs=1e-15)


def test_plain_values_read_back(toml: Path) -> None:
    config = RunConfig.from_toml(toml)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unnamed_and_counted_phases(data: dict[str, Any]) -> None:
    config = RunConfig.from_dict(data | {"phases": 3})
    assert config.phases == (Phase("phase 1"), Phase("phase 2"), Phase("phase 3"))
    assert RunConfig.from_dict(config.to_dict()) == config
    config = RunConfig.from_dict(data | {"phases": "auto"})
    assert config.phases == "auto"
    assert RunConfig.from_dict(config.to_dict()) == config


def test_unknown_thickness_and_density_are_assumptions() -> None:
    config = RunConfig.from_dict({"sample": {"elements": ["Mg"]}, "phases": 1})
    assert config.sample.thickness_prior_nm == DEFAULT_THICKNESS_NM
    assert config.sample.density_prior_g_cm3 == DEFAULT_DENSITY_G_CM3
    thickness, density = config.assumptions()
    assert "100 ± 50 nm" in thickness
    assert "4 ± 1 g/cm3" in density
    known = {"elements": ["Mg"], "thickness_nm": [80, 10], "density_g_cm3": [3.6, 0.1]}
    assert RunConfig.from_dict({"sample": known, "phases": 1}).assumptions() == ()


@pytest.mark.parametrize("sample", [{"elements": ["Mg", "O"]}, {"elements": ["Mg"], "oxygen": "measured"}])
def test_measured_oxygen_is_an_element(sample: dict[str, Any]) -> None:
    config = RunConfig.from_dict({"sample": sample, "phases": 1})
    assert config.sample.elements == ("Mg", "O")
    assert config.sample.oxygen == "measured"


# Path of the value to change (a number is an index), the bad value, and what the message must say.
BAD = [
    ("map.energy_range", [19.9, 1.0], r"`map.energy_range` must be two energies in keV.*is \[19.9, 1\]"),
    ("map.energy_range", [1.0], "`map.energy_range` must be two energies"),
    ("map.energy_range", ["1", "2"], "`map.energy_range` must be two energies"),
    ("map.energy_range", [False, True], "`map.energy_range` must be two energies"),
    ("map.energy_range", [-1.0, 2.0], "`map.energy_range` must be two energies"),
    ("map.energy_range", [float("nan"), 2.0], "`map.energy_range` must be two energies"),
    ("map.energy_rnge", [1, 2], '`map.energy_rnge` must be one of energy_range.*Did you mean "energy_range"'),
    ("map", 3, "`map` must be a table"),
    ("sample.elements", ["Mg", "Xx"], '`sample.elements` must be a chemical symbol.*is "Xx"'),
    ("sample.elements", ["mg"], 'Did you mean "Mg"'),
    ("sample.elements", "Mg", "`sample.elements` must be a list of chemical symbols"),
    ("sample.elements", ["Mg", "Mg"], "`sample.elements` must name each element once, but repeats Mg"),
    ("sample.elements", ["Mg", 12], "`sample.elements` must be a chemical symbol.*is 12"),
    ("sample.elements", [], "`sample.elements` must name at least one element"),
    ("sample.elements", ["Mg", "O"], "`sample.elements` must not hold O where `sample.oxygen`"),
    (
        "sample.stray",
        ["Mg"],
        "`sample.stray` must name elements that are not in `sample.elements`, but holds Mg",
    ),
    ("sample.oxygen", "stoichiometric", '`sample.oxygen` must be one of.*Did you mean "stoichiometry"'),
    ("sample.thickness_nm", 100, r"`sample.thickness_nm` must be \[value, sd\], but is 100"),
    ("sample.thickness_nm", [0, 10], "`sample.thickness_nm` must be positive"),
    ("sample.thickness_nm", [100, -3], r"`sample.thickness_nm \(sd\)` must be zero or positive"),
    ("sample.density_g_cm3", [-4, 1], "`sample.density_g_cm3` must be positive"),
    ("sample.colour", "red", "`sample.colour` must be one of elements, stray"),
    ("instrument.beam_energy_keV", 200000, "`instrument.beam_energy_keV` must lie between 1 and 3000"),
    ("instrument.beam_energy_keV", "200", "`instrument.beam_energy_keV` must lie between"),
    ("instrument.takeoff_angle_deg", 120, "`instrument.takeoff_angle_deg` must lie between 0 and 90"),
    ("instrument.resolution_eV", 0.13, "`instrument.resolution_eV` must lie between 1 and 1000"),
    ("instrument.beam_energy", 200, 'Did you mean "beam_energy_keV"'),
    ("xray.table", "nowhere.json", "`xray.table` must be an existing JSON file"),
    ("xray.table", 3, "`xray.table` must be the name of a JSON file"),
    (
        "xray.absorption_sd",
        -0.1,
        r"`xray.absorption_sd` must lie between 0 and 1, but is -0.1. Give 0.06 for 6 %",
    ),
    ("xray.absorption_sd", 6, "`xray.absorption_sd` must lie between 0 and 1"),
    ("xray.k_factors", [1], "`xray.k_factors` must be a table such as"),
    ("xray.k_factors", {"Zn_Ka": [1.2, 0.1]}, "`xray.k_factors.Zn_Ka` must be of the elements declared"),
    ("xray.k_factors", {"H_Ka": [500, 9]}, "`xray.k_factors.H_Ka` must be of the elements declared"),
    ("xray.k_factors", {"Fe": [1.2, 0.1]}, '`xray.k_factors` must name an element and a family.*holds "Fe"'),
    ("xray.k_factors", {"Xx_K": [1.2, 0.1]}, "`xray.k_factors` must name an element and a family"),
    ("xray.k_factors", {"Fe_Kb": [1.2, 0.1]}, "or its alpha line, such as Fe_Ka, but holds"),
    ("xray.k_factors", {"Si_Ka": [1.1, 0.1]}, "`xray.k_factors.Si_Ka` must be 1"),
    ("xray.k_factors", {"Fe_K": 1.2}, r"`xray.k_factors.Fe_K` must be \[value, sd\]"),
    ("xray.k_factors", {"Fe_K": [0, 0.1]}, "`xray.k_factors.Fe_K` must be positive"),
    ("xray.k_factors", {"Fe_K": ["a", 0.1]}, r"`xray.k_factors.Fe_K` must be \[value, sd\]"),
    ("xray.k_factors", {"Si_K": [1.1, 0.1]}, "`xray.k_factors.Si_K` must be 1"),
    ("phases", 0, "`phases` must be a whole number from 1 to 20"),
    ("phases", True, r"`phases` must be \[\[phases\]\] tables"),
    ("phases", "many", r"`phases` must be \[\[phases\]\] tables"),
    ("phases", [], "`phases` must hold at least one phase"),
    ("phases", [{"matrix": True}], r"`phases\[1\].name` must be given"),
    (
        "phases",
        [{"name": "a"}, {"name": "a"}],
        '`phases.name` must differ from phase to phase, but "a" appears twice',
    ),
    ("phases", [{"name": " "}], "`phases.name` must be a text of one line"),
    ("phases", [{"name": "a\nb"}], "`phases.name` must be a text of one line"),
    ("phases", [{"name": 3}], "`phases.name` must be a text"),
    ("phases.1.absnt", ["Si"], '`phases.Fp.absnt` must be one of.*Did you mean "absent"'),
    ("phases.1.absent", "Si", "`phases.Fp.absent` must be a list"),
    ("phases.1.absent", ["Xx"], "`phases.Fp.absent` must be a chemical symbol"),
    ("phases.1.absent", ["K"], "`phases.Fp.absent` must name elements of `sample.elements`, but holds K"),
    (
        "phases.1.absent",
        ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"],
        "`phases.Fp.absent` must leave at least one element in the phase",
    ),
    ("phases.0.matrix", 1, "`phases.Brg.matrix` must be true or false, but is 1"),
    ("phases.0.stoichiometry", "perovskite", "`phases.Brg.stoichiometry` must be a chemical formula"),
    ("phases.0.stoichiometry", 3, "`phases.Brg.stoichiometry` must be a chemical formula"),
    ("phases.0.absent", ["Si", "Al", "Hf"], "`phases.Brg.stoichiometry` must have an element.*on the B site"),
    ("phases.0.composition", {"Mg": 0.5}, "`phases.Brg.composition` must sum to 1, but sums to 0.5"),
    ("phases.0.composition", {}, "`phases.Brg.composition` must be given"),
    ("phases.0.composition", {"Xx": 1.0}, "`phases.Brg.composition` must be a chemical symbol"),
    ("phases.0.composition", {"Mg": 1.5, "Si": -0.5}, "`phases.Brg.composition.Si` must be zero or positive"),
    ("phases.0.composition", {"K": 1.0}, "`phases.Brg.composition.K` must be one of `sample.elements`"),
    (
        "phases.1.composition",
        {"Si": 1.0},
        "`phases.Fp.composition.Si` must be 0, since Si is declared absent",
    ),
    ("phases.0.fraction", 2, "`phases.Brg.fraction` must lie between 0 and 1"),
    (
        "inference.method",
        "mcmc",
        '`inference.method` must be one of "nuts", "laplace", "svi", "map", but is "mcmc"',
    ),
    (
        "inference.level",
        95,
        r"`inference.level` must lie between 0 and 1, but is 95. Give 0.95 for a 95 % interval",
    ),
    ("inference.level", "0.95", "`inference.level` must lie between 0 and 1"),
    ("inference.draws", -500, "`inference.draws` must be a whole number of at least 4, but is -500"),
    ("inference.draws", 0, "`inference.draws` must be a whole number"),
    ("inference.draws", 10.5, "`inference.draws` must be a whole number"),
    ("inference.draws", "500", "`inference.draws` must be a whole number"),
    ("inference.draws", True, "`inference.draws` must be a whole number"),
    ("inference.warmup", 0, "`inference.warmup` must be a whole number"),
    ("inference.chains", 0, "`inference.chains` must be a whole number of at least 1"),
    ("inference.starts", 0, "`inference.starts` must be"),
    ("inference.max_overlap", 0, "`inference.max_overlap` must be"),
    ("inference.chain", 2, 'Did you mean "chains"'),
    ("simulate.shape", [40], "`simulate.shape` must be two whole numbers"),
    ("simulate.shape", [40, 0], "`simulate.shape` must be a whole number"),
    ("simulate.counts_per_pixel", 0, "`simulate.counts_per_pixel` must be positive"),
    ("simulate.layout", "grain", 'Did you mean "grains"'),
    ("simulate.seed", -1, "`simulate.seed` must be a whole number"),
    ("simulate.calibration_error", "yes", "`simulate.calibration_error` must be true or false"),
    ("infernce", {}, '`infernce` must be one of.*Did you mean "inference"'),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_bad_value_is_refused(data: dict[str, Any], path: str, value: object, message: str) -> None:
    tables = copy.deepcopy(data)
    *parents, last = path.split(".")
    place: Any = tables
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[last] = value
    with pytest.raises(InputError, match=message) as caught:
        RunConfig.from_dict(tables)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("sample", "`sample` must be given"),
        ("phases", "`phases` must be given"),
        ("sample.elements", "`sample.elements` must be given"),
        ("phases.0.fraction", r"`phases.Brg.composition.Mg` must be \[mean, sd\] unless a `fraction`"),
    ],
)
def test_missing_key_is_refused(data: dict[str, Any], missing: str, message: str) -> None:
    *parents, last = missing.split(".")
    place: Any = data
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    del place[last]
    with pytest.raises(InputError, match=message):
        RunConfig.from_dict(data)


def test_simulation_needs_the_whole_truth(data: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r'`phases` must be tables.*is "auto"'):
        RunConfig.from_dict(data | {"phases": "auto"}).truth()
    partial = copy.deepcopy(data)
    del partial["phases"][1]["composition"], partial["phases"][1]["fraction"]
    with pytest.raises(InputError, match=r"`phases.Fp.composition` must be given to simulate"):
        RunConfig.from_dict(partial).truth()
    data["phases"][0]["fraction"] = 0.5
    with pytest.raises(InputError, match=r"`phases.fraction` must sum to 1.*sums to 0.7"):
        RunConfig.from_dict(data).truth()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[sample\nelements = 3", "`config` must be valid TOML"),
        (b"elements = [", "`config` must be valid TOML"),
        (b"\xff\xfe\x00", "`config` must be a TOML text in UTF-8"),
        (b"", "`sample` must be given"),
    ],
)
def test_broken_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        RunConfig.from_toml(path)
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`config` must be a readable file.*No such file"):
        RunConfig.from_toml(tmp_path / "run.toml")
    with pytest.raises(InputError, match=r"`config` must be a readable file.*Is a directory"):
        RunConfig.from_toml(tmp_path)


def test_tables_built_in_python_are_checked_too() -> None:
    with pytest.raises(InputError, match=r"`inference.level`"):
        InferenceConfig(level=95)
    with pytest.raises(InputError, match=r"`map.energy_range`"):
        MapConfig(energy_range=(2.0, 1.0))
    with pytest.raises(InputError, match=r"`sample.stray`"):
        SampleConfig(elements=("Mg",), stray=("Mg",))
    with pytest.raises(InputError, match=r"`phases.Fp.absent`"):
        Phase("Fp", absent=["Si", "Si"])


def test_phases_may_be_names_and_must_stand_above_the_tables(tmp_path: Path) -> None:
    names = RunConfig.from_dict({"sample": {"elements": ["Mg"]}, "phases": ["Brg", {"name": "Fp"}]}).phases
    assert [phase.name for phase in names if not isinstance(phase, str)] == ["Brg", "Fp"]
    (tmp_path / "run.toml").write_text('[sample]\nelements = ["Mg"]\nphases = 2\n')
    with pytest.raises(
        InputError, match=r"`phases` must be given, but stands in \[sample\]\. Write it above"
    ):
        RunConfig.from_toml(tmp_path / "run.toml")


def test_lists_in_thousands_of_lists_are_refused() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(InputError, match=r"`sample.elements` must"):
        RunConfig.from_dict({"sample": {"elements": nested}, "phases": 1})


def test_arrays_are_lists_and_bytes_are_none() -> None:
    given = {"sample": {"elements": np.array(["Mg", "Si"])}, "phases": np.int64(2)}
    assert RunConfig.from_dict(given).sample.elements == ("Mg", "Si")
    with pytest.raises(InputError, match=r"`sample.elements` must"):
        RunConfig.from_dict({"sample": {"elements": b"abc"}, "phases": 1})
    with pytest.raises(InputError, match=r"`xray.table` must be the name of a file"):
        RunConfig.from_dict({"sample": {"elements": ["Mg"]}, "phases": 1, "xray": {"table": 300 * "a"}})

"""Methods with their settings, as Python takes them and as the file has them; and the file's JSON Schema."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import warnings
from pathlib import Path
from typing import Any, get_args

import pytest

import bayesunmix as bu
from bayesunmix.arguments import configuration
from bayesunmix.config.inference import InferenceConfig
from bayesunmix.config.methods import METHOD_TYPES, Method
from bayesunmix.config.names import METHODS
from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.schema import FILE, described, schema_text
from bayesunmix.core.errors import BayesUnmixWarning, InputError

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.toml"))
TOML = """
phases = 2
[sample]
elements = ["Mg", "Si"]
[inference]
method = "laplace"
draws = 40
warmup = 30
guide = "flow"
"""


def config(method: object, **inference: object) -> RunConfig:
    return configuration(["Mg", "Si"], 2, (), method, {"inference": inference})


@pytest.mark.parametrize(
    "method",
    [
        bu.Nuts(chains=3, draws=50, warmup=60),
        bu.Laplace(draws=40, resample=True),
        bu.Svi(guide="flow", chains=1),
        bu.Map(),
    ],
)
def test_a_method_reaches_the_engine_as_it_was_given(method: Method) -> None:
    made = config(method, level=0.9)
    assert made.inference.engine == method
    assert made.inference.level == 0.9
    assert RunConfig.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize("name", METHODS)
def test_a_name_is_the_method_with_the_keys_of_the_table(name: str) -> None:
    assert type(config(name).inference.engine) is METHOD_TYPES[name]
    engine = config(name, draws=80, chains=3).inference.engine
    keys = {entry.name for entry in dataclasses.fields(engine)} & {"draws", "chains"}
    assert {key: getattr(engine, key) for key in keys} == {
        key: {"draws": 80, "chains": 3}[key] for key in keys
    }


def test_every_name_has_a_method_whose_settings_are_those_of_the_table() -> None:
    assert tuple(METHOD_TYPES) == METHODS
    assert set(METHOD_TYPES.values()) == set(get_args(Method))
    for kind in METHOD_TYPES.values():
        for setting in dataclasses.fields(kind):
            own = InferenceConfig.__dataclass_fields__[setting.name]
            assert (setting.type, setting.default) == (own.type, own.default)
            assert described(kind)[setting.name]


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (bu.Nuts, {"draws": 2}, "`Nuts.draws` must be a whole number of at least 4, but is 2"),
        (bu.Nuts, {"warmup": 1e9}, "`Nuts.warmup` must be a whole number of at most 100000"),
        (bu.Nuts, {"drawz": 5}, '`Nuts.drawz` must be one of chains, draws.*Did you mean "draws"'),
        (bu.Nuts, {"guide": "flow"}, "`Nuts.guide` must be one of chains, draws, warmup, but is an unknown"),
        (bu.Laplace, {"warmup": 5}, "`Laplace.warmup` must be one of chains, draws, resample"),
        (bu.Laplace, {"resample": 1}, "`Laplace.resample` must be true or false"),
        (bu.Svi, {"guide": "flaw"}, '`Svi.guide` must be one of "mean_field".*Did you mean "flow"'),
        (bu.Map, {"draws": 5}, "`Map.draws` must be"),
    ],
)
def test_a_setting_that_a_method_cannot_use_is_refused(
    kind: type, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        kind(**settings)
    with pytest.raises(TypeError):
        kind(5)


def test_settings_are_given_once() -> None:
    with pytest.raises(InputError, match=r"`inference.draws` must be left out .* Write bu.Nuts\(draws=...\)"):
        config(bu.Nuts(draws=50), draws=60)


def test_a_number_of_draws_that_nobody_writes_is_told(tmp_path: Path) -> None:
    said = "`output.pixel_draws_number` has no effect without `output.pixel_draws = true`"
    file = tmp_path / "run.toml"
    plain = '[sample]\nelements = ["Mg"]\n[[phases]]\nname = "Fp"\n[output]\npixel_draws_number = 20\n'
    file.write_text(plain)
    for method in (None, "laplace"):
        with pytest.warns(BayesUnmixWarning, match=said):
            RunConfig.from_toml(file, method)
    with pytest.warns(BayesUnmixWarning, match=said), pytest.raises(InputError, match="existing file"):
        bu.unmix("none.hspy", elements=["Mg"], phases=1, output={"pixel_draws_number": 20})
    file.write_text(plain + "pixel_draws = true\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RunConfig.from_toml(file).output.pixel_draws_number == 20


def test_a_key_that_the_method_does_not_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(TOML)
    with pytest.warns(BayesUnmixWarning) as told:
        made = RunConfig.from_toml(file)
    assert [str(one.message).split(" has")[0] for one in told] == ["`inference.warmup`", "`inference.guide`"]
    assert made.inference.engine == bu.Laplace(draws=40)
    # The file is for another method than the one that the command line asks for.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RunConfig.from_toml(file, "svi").inference.engine == bu.Svi(draws=40, guide="flow")
    with pytest.warns(BayesUnmixWarning, match='`inference.resample` .* the method "nuts" does not read it'):
        with pytest.raises(InputError, match="`image` must be an existing file"):
            bu.unmix("none.hspy", elements=["Mg"], phases=1, inference={"resample": True})


def test_the_schema_is_that_of_the_types() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), (
        "write it anew: python -m bayesunmix.config.schema"
    )


def properties(schema: dict[str, Any], table: str) -> dict[str, Any]:
    place = schema["properties"][table]["$ref"].rpartition("/")[2]
    found: dict[str, Any] = schema["$defs"][place]["properties"]
    return found


def test_the_schema_says_what_the_documentation_says() -> None:
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    assert set(schema["properties"]) == {
        entry.name for entry in dataclasses.fields(RunConfig) if entry.name != "simulated_phases"
    }
    draws = properties(schema, "inference")["draws"]
    assert (draws["minimum"], draws["maximum"], draws["default"]) == (4, 100_000, 500)
    for table in set(schema["properties"]) - {"phases"}:
        for name, entry in properties(schema, table).items():
            assert entry["description"], f"{table}.{name}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_editors_find_the_schema_of_the_examples(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    named = text.partition("\n")[0].removeprefix("#:schema ")
    assert (example.parent / named).resolve() == FILE.resolve()
    validator = pytest.importorskip("jsonschema").Draft202012Validator(json.loads(FILE.read_text()))
    assert not list(validator.iter_errors(tomllib.loads(text)))


@pytest.mark.parametrize(
    "change",
    [
        {"inference": {"draws": 3}},
        {"inference": {"drawz": 30}},
        {"inference": {"level": 1.0}},
        {"sample": {"elements": "Mg"}},
        {"phases": 21},
        {"phases": [{"matrix": True}]},
        {"simulate": {"shape": [4]}},
        {"map": {"mask": 3}},
        {"simulated_phases": []},
    ],
)
def test_the_schema_refuses_what_the_program_refuses(change: dict[str, Any]) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(json.loads(FILE.read_text()))
    good = {
        "sample": {"elements": ["Mg"]},
        "phases": ["A", {"name": "B", "composition": {"Mg": 1.0}, "fraction": 1}],
    }
    assert not list(validator.iter_errors(good))
    assert list(validator.iter_errors({**good, **change}))
    with pytest.raises(InputError):
        RunConfig.from_dict({**good, "phases": 2, **change})

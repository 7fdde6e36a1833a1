"""The Python front door: whatever a caller hands over is taken or refused in words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bayesunmix as bu
from bayesunmix.arguments import configuration, image_of
from bayesunmix.cli import main
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.io import save
from bayesunmix.results.result import Result

COUNTS = np.random.default_rng(0).poisson(0.2, (3, 4, 200)).astype(np.uint8)
ENERGY = 0.5 + 0.02 * np.arange(200)
FACTS = {"beam_energy_keV": 200.0, "takeoff_angle_deg": 20.0}


def config(
    elements: object = ("Mg", "Si"),
    phases: object = 2,
    stray: object = (),
    **tables: Any,  # noqa: ANN401
) -> RunConfig:
    return configuration(elements, phases, stray, "nuts", tables)


def test_phases_in_every_form() -> None:
    mixed = config(phases=["A", {"name": "B", "absent": np.array(["Si"])}, bu.Phase("C", matrix=True)])
    assert [phase.name for phase in mixed.phases] == ["A", "B", "C"]
    assert mixed.phases[1].absent == ("Si",)
    assert mixed.phases[2].matrix
    assert len(config(phases=np.int64(3)).phases) == 3
    assert config(phases="auto").phases == "auto"
    assert [phase.name for phase in config(phases=iter(("A", "B"))).phases] == ["A", "B"]


def test_elements_in_every_form() -> None:
    for elements in (["Mg", "Si"], ("Mg", "Si"), np.array(["Mg", "Si"]), (e for e in ("Mg", "Si"))):
        assert config(elements).sample.elements == ("Mg", "Si")


def test_numbers_of_numpy() -> None:
    made = config(
        map={"energy_range": np.array([1.0, 3.0])},
        sample={"thickness_nm": np.array([100, 30])},
        inference={"draws": np.int32(40), "level": np.float32(0.5)},
    )
    assert made.map.energy_range == (1.0, 3.0)
    assert (made.inference.draws, made.inference.level) == (40, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"draws": 200}, r"`draws` must stand in its table, inference.*: inference=\{'draws': 200\}\."),
        ({"thickness_nm": [100, 30]}, r"It belongs to sample: sample=\{'thickness_nm': \[100, 30\]\}"),
        ({"drawz": 200}, "`drawz` must be one of .*unknown keyword"),
        ({"instrumen": {}}, 'Did you mean "instrument"'),
        ({"inference": 200}, "`inference` must be a dictionary .* is 200"),
        ({"inference": {"drawz": 3}}, "`inference.drawz` must be one of"),
        ({"sample": None}, "`sample` must be a dictionary"),
        ({"elements": "Mg"}, "`sample.elements` must be a list"),
        ({"elements": None}, "`sample.elements` must be a list"),
        ({"elements": 3}, "`sample.elements` must be a list"),
        ({"elements": [1, 2]}, "`sample.elements` must be a chemical symbol"),
        ({"stray": {"Cu": 1}}, "`sample.stray` must be a list"),
        ({"phases": "Brg"}, "`phases` must be a list of phases"),
        ({"phases": bu.Phase("A")}, "`phases` must be a list of phases"),
        ({"phases": {"name": "A"}}, "`phases` must be a list of phases"),
        ({"phases": None}, "`phases` must be"),
        ({"phases": 2.5}, "`phases` must be"),
        ({"phases": True}, "`phases` must be"),
        ({"phases": [3]}, r"`phases\[1\]` must be a name"),
        ({"phases": [{"names": "A"}]}, r"`phases\[1\]\.name` must be given"),
        ({"phases": ["A", "A"]}, "appears twice"),
        ({"phases": [["A"]]}, r"`phases\[1\]` must be a name"),
        ({"phases": []}, "at least one phase"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**arguments)


def test_a_method_that_is_none() -> None:
    with pytest.raises(InputError, match=r"`inference.method`"):
        configuration(["Mg"], 1, (), 3, {})


@pytest.mark.filterwarnings("ignore:The map does not say")
def test_maps_in_every_form(tmp_path: Path) -> None:
    image = image_of((COUNTS, ENERGY), config(instrument=FACTS))
    assert image.acquisition.beam_energy_keV == 200.0
    assert image_of(image) is image
    save(image, tmp_path / "map.hspy")
    for name in (tmp_path / "map.hspy", str(tmp_path / "map.hspy")):
        assert (image_of(name).counts == COUNTS).all()


@pytest.mark.parametrize("value", [COUNTS, 3, None, (COUNTS,), {"counts": COUNTS}, b"map.hspy", object()])
def test_what_is_no_map(value: object) -> None:
    with pytest.raises(InputError, match="`image` must be a map"):
        image_of(value)


@pytest.mark.parametrize(
    "pair", [(COUNTS, None), (None, ENERGY), ("a", "b"), (COUNTS, ENERGY[:-1]), (COUNTS.astype(str), ENERGY)]
)
def test_a_pair_that_is_no_map(pair: Any) -> None:  # noqa: ANN401
    with pytest.raises(InputError):
        image_of(pair)


def test_unmix_refuses_before_it_reads() -> None:
    with pytest.raises(InputError, match="`draws` must stand in its table"):
        bu.unmix("none.hspy", elements=["Mg"], phases=2, draws=200)
    with pytest.raises(InputError, match="`image` must be an existing file"):
        bu.unmix("none.hspy", elements=["Mg"], phases=1)
    with pytest.raises(InputError, match="`seed` must be a whole number"):
        bu.unmix("none.hspy", elements=["Mg"], phases=1, seed="x")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:The")
def test_inspect_and_prepare(tmp_path: Path) -> None:
    image = image_of((COUNTS, ENERGY), config(instrument=FACTS))
    save(image, tmp_path / "map.hspy")
    said = bu.inspect(image, ["Mg"])
    of_file = bu.inspect(tmp_path / "map.hspy", ["Mg"])
    assert of_file.startswith(f"File      {tmp_path / 'map.hspy'}\n")
    counted = [line for line in said.splitlines() if line.startswith(("Energy", "Counts"))]
    assert len(counted) == 2
    assert set(counted) <= set(of_file.splitlines())
    assert repr(said) == said
    assert "<pre" in said._repr_html_()
    ran = CliRunner().invoke(main, ["inspect", str(tmp_path / "map.hspy"), "--elements", "Mg"])
    assert ran.output == f"{of_file}\n"
    axis = {"energy_offset_keV": 0.5, "energy_scale_keV": 0.012}
    moved = [bu.inspect(one, ["Mg"], **axis) for one in (image, tmp_path / "map.hspy")]
    assert "12 eV, 0.5 to" in moved[0]
    assert "12 eV, 0.5 to" in moved[1]
    with pytest.raises(InputError, match="`energy_scale_keV` must lie between"):
        bu.inspect(image, energy_scale_keV=20.0)
    with pytest.raises(InputError, match="`image` must be an existing file"):
        bu.inspect("none.hspy")
    with pytest.raises(InputError, match=r"`instrument.beam_energy_keV` must be known"):
        bu.prepare((COUNTS, ENERGY), elements=["Mg", "Si"], phases=2)
    with pytest.raises(InputError, match="`elements` must be a chemical symbol"):
        bu.inspect(image, ["Xx"])


def test_a_warning_shows_the_line_of_the_user(made_result: Callable[..., Result], tmp_path: Path) -> None:
    """However deep it arose, and through whatever of other libraries it went."""
    file = tmp_path / "map.hspy"
    holed = COUNTS.astype(float)
    holed[0, 0] = np.nan
    old = [made_result(np.full((1, 9, 1, 2), 0.5), ("a",), ("Mg", "Si")) for _ in range(2)]
    for result in old:
        result.tree["posterior"] = result.tree["posterior"].to_dataset().drop_vars("log_calibration")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        image = bu.SpectrumImage.from_array(holed, ENERGY).replace_facts(**FACTS)
        bu.SpectrumImage.from_array(COUNTS, ENERGY).rebin(3)
        save(image, file)
        bu.load(file)
        bu.prepare(file, elements=["Mg", "Si"], phases=2)
        bu.compare(old)
    texts = [str(one.message) for one in said if one.category is BayesUnmixWarning]
    for part in ("hold NaN", "are cut off", "film thickness was not given", "no calibration factors"):
        assert any(part in text for text in texts), part
    assert {one.filename for one in said if one.category is BayesUnmixWarning} == {__file__}
    assert len({one.lineno for one in said if one.category is BayesUnmixWarning}) >= 4

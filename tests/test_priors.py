"""The widths of the priors are settings: checked, documented, recorded, and they do what they say."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayesunmix as bu
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.models.abundance import abundance_prior
from bayesunmix.xray.lines import LineTable
from bayesunmix.xray.spectrometer import N_BEND, N_SOFT, RESPONSE_NAMES
from bayesunmix.xray.spread import strength_spread

PAGE = Path(__file__).resolve().parents[1] / "docs" / "priors.md"
SMALL: dict[str, Any] = {"sample": {"elements": ["Mg", "Si"]}, "phases": 1}


def test_the_page_has_every_prior_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: float(value) for name, value in rows} == dataclasses.asdict(bu.Priors())


@pytest.mark.parametrize("entry", dataclasses.fields(bu.Priors), ids=lambda entry: entry.name)
@pytest.mark.parametrize("value", [-1.0, float("nan"), "wide", None, True])
def test_what_is_no_width_is_refused(entry: dataclasses.Field[float], value: object) -> None:
    with pytest.raises(InputError, match=f"`priors.{entry.name}` must"):
        bu.Priors(**{entry.name: value})  # type: ignore[arg-type]


def test_a_width_of_zero_leaves_nothing_to_infer() -> None:
    with pytest.raises(InputError, match=r"`priors\.site_balance_sd` must .* is 0"):
        bu.Priors(site_balance_sd=0.0)


def test_the_table_of_a_configuration_is_recorded() -> None:
    config = RunConfig.from_dict({**SMALL, "priors": {"fano_sd": 0.02}})
    assert config.priors == bu.Priors(fano_sd=0.02)
    assert config.to_dict()["priors"]["fano_sd"] == 0.02


def test_an_unknown_prior_is_named() -> None:
    with pytest.raises(InputError, match=r"site_balance_sd"):
        RunConfig.from_dict({**SMALL, "priors": {"site_balance": 0.1}})


def test_strengths_take_their_widths_from_the_table() -> None:
    table = dataclasses.replace(LineTable.built_in(200.0, ["Fe"]), priors=bu.Priors(line_strength_k_sd=0.5))
    assert table.calibration_sd("Fe", "K") == pytest.approx(0.5, rel=0.01)
    own = np.hypot(bu.Priors().line_strength_k_sd, strength_spread("Fe", "K"))
    assert LineTable.built_in(200.0, ["Fe"]).calibration_sd("Fe", "K") == pytest.approx(own)


def test_widths_of_the_spectrometer_are_in_the_order_of_its_parameters() -> None:
    given = dict.fromkeys((entry.name for entry in dataclasses.fields(bu.Priors)), 1.0)
    for number, name in enumerate(RESPONSE_NAMES):
        field = {
            "gain": "gain_sd",
            "fano": "fano_sd",
            "escape": "escape_sd",
            "pile_up_added": "pile_up_added_sd",
        }
        if name in field:
            widths = bu.Priors(**{**given, field[name]: 7.0}).spectrometer_sd(N_BEND, N_SOFT)
            assert np.flatnonzero(widths == 7.0).tolist() == [number]


def test_wider_log_odds_make_a_wider_prior_of_abundances() -> None:
    points, spectra = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), np.array([[0.9, 0.1], [0.2, 0.8]])
    matrix = np.array([True, False])
    made = [
        abundance_prior(points, spectra, 100.0, matrix, bu.Priors(abundance_log_odds_sd=sd))
        for sd in (1.0, 3.0)
    ]
    narrow, wide = (prior.factor @ prior.factor.T for prior in made)
    np.testing.assert_allclose(wide[1, 1] - 1e-4, 9.0 * (narrow[1, 1] - 1e-4))
    assert made[0].mean.tolist() == [bu.Priors().abundance_matrix_log_odds, 0.0, 0.0]

"""A whole run with free-form endmembers and neighbours, from a map to its output folder."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest

import bayesunmix as bu
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.pipeline import run_image
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import simulate_map


@pytest.mark.slow
def test_a_run_reads_compositions_off_free_endmembers(tmp_path: Path) -> None:
    config = phantom_config()
    assert config.simulate is not None
    assert not isinstance(config.phases, str)
    plan = dataclasses.replace(config.simulate, shape=(24, 24), counts_per_pixel=600.0)
    told = dataclasses.replace(
        config,
        map=dataclasses.replace(config.map, energy_range=(1.0, 8.0)),
        phases=tuple(dataclasses.replace(phase, absent=(), stoichiometry=None) for phase in config.phases),
        inference=dataclasses.replace(
            config.inference, method="laplace", endmembers="free", spatial=True, draws=50, starts=2
        ),
    )
    simulated = simulate_map(dataclasses.replace(config, simulate=plan), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        result = run_image(simulated.image, told, tmp_path / "out", seed=0, progress=False)
    table = result.summary().set_index(["phase", "element"])
    # The matrix has pure pixels, which pin it; 5 % of calibration error is in its intervals.
    for element in ("Mg", "Si", "Fe"):
        row = table.loc[("Brg", element)]
        true = simulated.truth.composition[0, simulated.truth.elements.index(element)]
        assert abs(row["mean"] - true) < 4.0 * row["sd"] < 0.3 * true
    loose = {pair.phase for pair in result.record.identifiability.non_identifiable}
    assert "Brg" not in loose
    assert loose
    spectra = result.tree["endmembers"]
    inside = np.isfinite(spectra["mean"].values)
    assert (spectra["lower"].values[inside] <= spectra["upper"].values[inside]).all()
    np.testing.assert_allclose(np.nansum(spectra["mean"].values, axis=1), 1.0)
    assert result.record.to_dict()["config"]["inference"]["endmembers"] == "free"
    assert bu.open_result(tmp_path / "out").phases == result.phases
    assert (tmp_path / "out" / "report.html").is_file()

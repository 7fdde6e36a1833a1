"""Measured spectra of known specimens, which exSpy brings along: composition with k-factors, energies and resolution.

Spectra of known composition taken on thin films are rare in public: of the two that come with the installed packages,
one is of nanoparticles, whose composition is known as far as the published k-factors and windows give it; the other is
of a thick layer on silicon in an SEM, whose composition a thin-film model cannot give, and which serves for the
detector.
"""

from __future__ import annotations

import functools
from typing import Any

import exspy
import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import curve_fit

import bayesunmix
from bayesunmix import Phase
from bayesunmix.config.run_config import RunConfig
from bayesunmix.data.image import SpectrumImage
from bayesunmix.fit.preparation import prepare
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

# Documentation of exspy.signals.EDSTEMSpectrum.quantification: factors of these lines, and what intensities of windows
# less the background beside them give. The particles are those of Rossouw et al., Nano Lett. 15 (2015) 2716,
# doi:10.1021/acs.nanolett.5b00449.
K_FACTORS = {"Fe_Ka": 1.450226, "Pt_La": 5.075602}
PUBLISHED_IRON = 0.1541
# Calculated factors, as these are, have errors of the size of K 5 %, L 10 %; a user who measured them would say 5 %.
FACTOR_SD = 0.05

PARTICLES = {
    "elements": ["Fe", "Pt"],
    "phases": [Phase("FePt")],
    # Grid, support and column.
    "stray": ["Cu", "Si", "Co", "Zr"],
    "method": "laplace",
    "progress": False,
    "map": {"energy_range": [1.0, 19.9]},
    "sample": {"oxygen": "none", "thickness_nm": [10, 5], "density_g_cm3": [18, 2]},
    "inference": {"further_phase": False},
}


# What looks like a trace of aluminium, which nobody declared, is found in the spectrum.
ALUMINIUM = pytest.mark.filterwarnings(
    "ignore:What the declared elements leave:bayesunmix.core.errors.BayesUnmixWarning"
)


@functools.cache
def particles(*, with_factors: bool) -> Result:
    image = SpectrumImage.from_signal(exspy.data.EDS_TEM_FePt_nanoparticles())
    factors = {line: [k, FACTOR_SD * k] for line, k in K_FACTORS.items()}
    tables: dict[str, Any] = {"xray": {"k_factors": factors}} if with_factors else {}
    return bayesunmix.unmix(image, **PARTICLES, **tables)


@pytest.mark.slow
@ALUMINIUM
def test_iron_in_the_particles() -> None:
    result = particles(with_factors=True)
    assert not result.problems
    iron = result.summary().set_index("element").loc["Fe"]
    assert iron["lower"] < PUBLISHED_IRON < iron["upper"]
    # The same counts and factors: only what the two count as iron and platinum differs, by a few per cent.
    assert iron["mean"] == pytest.approx(PUBLISHED_IRON, rel=0.06)


@pytest.mark.slow
@ALUMINIUM
def test_the_interval_of_iron_is_as_wide_as_its_errors() -> None:
    """Two factors of 5 % each, and counting: nothing else may widen it."""
    result = particles(with_factors=True)
    draws, counting = (
        result.tree["posterior"][name].sel(element="Fe").values
        for name in ("composition", "composition_counting")
    )
    share = draws.mean()
    assert 0.01 < counting.std() / share < 0.03
    factors = np.sqrt(2.0) * FACTOR_SD * (1.0 - share)
    assert draws.std() / share == pytest.approx(np.hypot(factors, counting.std() / share), rel=0.08)


@pytest.mark.slow
@ALUMINIUM
def test_calculated_strengths_agree_with_the_factors() -> None:
    """Without any factor the interval is wider, and holds the published value too."""
    calculated, measured = (
        particles(with_factors=given).summary().set_index("element").loc["Fe"] for given in (False, True)
    )
    assert calculated["lower"] < PUBLISHED_IRON < calculated["upper"]
    assert calculated["sd"] > 1.3 * measured["sd"]


@pytest.mark.slow
@ALUMINIUM
def test_the_particles_are_fitted_fairly() -> None:
    """Deviance near 1.25 per channel at 200 000 counts: no line is missing, and none that decides is off."""
    result = particles(with_factors=True)
    assert result.record.fit.deviance_per_dof_total < 1.6
    fit = result.tree["fit"].dataset
    around_iron = ((fit.energy_low > 6.2) & (fit.energy_high < 6.6)) | (
        (fit.energy_low > 9.2) & (fit.energy_high < 9.7)
    )
    observed, expected = (float(fit[name].values[around_iron].sum()) for name in ("observed", "expected"))
    # The two lines that decide: their sum within four counting errors.
    assert abs(observed - expected) < 4 * np.sqrt(expected)


@pytest.fixture(scope="module")
def layer() -> SpectrumImage:
    """Carbon, Al, Mn, Cu and Zr, 6 µm on silicon: standard EDS-TM002 of the BAM, 10 kV."""
    with pytest.warns(bayesunmix.core.errors.BayesUnmixWarning, match="thin film"):
        return SpectrumImage.from_signal(exspy.data.EDS_SEM_TM002())


def manganese(
    energy: FloatArray, area: float, centre: float, sd: float, level: float, slope: float
) -> FloatArray:
    """Mn Kα1 and Kα2, 11.1 eV apart and 2 : 1 in strength, on a line (Hölzer et al. 1997)."""
    peaks = [
        share * np.exp(-0.5 * ((energy - centre - shift) / sd) ** 2)
        for share, shift in ((2.0, 0.0037), (1.0, -0.0074))
    ]
    return np.asarray(area * sum(peaks) + level + slope * (energy - centre))


@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_axis_and_resolution_of_an_sem_detector(layer: SpectrumImage) -> None:
    """Fitted to the whole spectrum, they agree with a fit of the Mn Kα peak alone, by which resolution is defined."""
    config = RunConfig.from_dict(
        {
            "map": {"energy_range": [1.2, 9.8]},
            "sample": {"elements": ["Al", "Mn", "Cu", "Zr"], "stray": ["Si", "Ar"], "oxygen": "none"},
            "phases": 1,
        }
    )
    response = prepare(layer, config).spectrum.response
    energy, counts = layer.energy_keV, layer.sum_spectrum().astype(float)
    near = (energy > 5.70) & (energy < 6.10)
    start = (counts[near].max() / 3, 5.895, 0.055, 250.0, 0.0)
    found, covariance = curve_fit(manganese, energy[near], counts[near], start, sigma=np.sqrt(counts[near]))
    # The weighted mean of Mn Kα1 (5898.8 eV) and Kα2 (5887.7 eV), Hölzer et al., Phys. Rev. A 56 (1997) 4554,
    # doi:10.1103/PhysRevA.56.4554.
    fitted = float(response.apparent_keV(5.8951))
    assert fitted == pytest.approx(found[1], abs=max(4 * np.sqrt(covariance[1, 1]), 0.001))
    assert float(response.fwhm_keV(5.895)) == pytest.approx(2.3548 * found[2], rel=0.02)
    # What the file says of the detector, to the precision with which makers state it.
    assert float(response.fwhm_keV(5.895)) == pytest.approx(0.130, abs=0.004)
    lines = np.array([1.487, 2.042, 5.895, 8.046])
    np.testing.assert_allclose(response.apparent_keV(lines), lines, atol=layer.energy_step_keV)

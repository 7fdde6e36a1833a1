"""Pixels that are declared to hold a phase alone: from the configuration to the likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import bayesunmix as bu
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.fit.known_pixels import known_pixels
from bayesunmix.fit.model_data import Blocks
from bayesunmix.fit.preparation import prepare
from bayesunmix.inference.mixture import chunked, confined, corners, relative_likelihood, with_all_points
from bayesunmix.inference.pooling import pooled_alike
from bayesunmix.models.pixels import pixel_log_likelihood
from bayesunmix.report.words import assumptions

RNG = np.random.default_rng(5)
POINTS = np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.3], [0.3, 0.7]])
SPECTRA = RNG.dirichlet(np.full(12, 2.0), 2)
LOG_MIXED = np.log(POINTS @ SPECTRA)
LOG_PI = np.log([0.4, 0.1, 0.3, 0.2])
COUNTS = RNG.multinomial(60, np.exp(LOG_MIXED)[RNG.integers(0, 4, 300)]).astype(np.float32)
# A phase for some pixels, and nothing for most.
KNOWN = np.where(RNG.random(300) < 0.1, RNG.integers(0, 2, 300), -1)


def expected() -> float:
    """Sum the log-likelihood pixel by pixel: those that are known at their corner, the others anywhere."""
    joint = COUNTS.astype(float) @ LOG_MIXED.T + LOG_PI
    at_corner = joint[np.arange(len(KNOWN)), np.maximum(KNOWN, 0)]
    return float(np.where(KNOWN < 0, logsumexp(joint, axis=1), at_corner).sum())


def total(pixels: Any) -> float:  # noqa: ANN401
    """Return what the model's program makes of it, baselines added."""
    present = pixels.present[..., None] * pixels.counts
    baseline = float((present.sum(axis=1, dtype=np.float64) * pixels.baseline).sum())
    return float(pixel_log_likelihood(jnp.asarray(LOG_MIXED), jnp.asarray(LOG_PI), pixels)) + baseline


def test_known_pixels_are_at_their_corner_alone() -> None:
    known = corners(POINTS, KNOWN)
    likelihood = confined(relative_likelihood(COUNTS, LOG_MIXED), known)
    share = likelihood / likelihood.sum(axis=1, keepdims=True)
    assert total(chunked(COUNTS, share, LOG_MIXED, known)) == pytest.approx(expected(), abs=0.05)
    pixels = with_all_points(COUNTS, len(POINTS), LOG_MIXED.mean(axis=0), known=known)
    assert total(pixels) == pytest.approx(expected(), abs=0.05)
    # Without it something else comes out.
    assert abs(total(with_all_points(COUNTS, len(POINTS), LOG_MIXED.mean(axis=0))) - expected()) > 10.0


def test_numbers_of_pooled_pixels_stay_with_their_rows() -> None:
    number = RNG.integers(1, 9, len(COUNTS)).astype(float)
    known = corners(POINTS, KNOWN)
    joint = COUNTS.astype(float) @ LOG_MIXED.T + LOG_PI
    at_corner = joint[np.arange(len(KNOWN)), np.maximum(KNOWN, 0)]
    each = np.where(KNOWN < 0, logsumexp(joint, axis=1), at_corner)
    pixels = with_all_points(COUNTS, len(POINTS), LOG_MIXED.mean(axis=0), number, known)
    assert total(pixels) == pytest.approx(float(number @ each), rel=1e-6)


def test_known_pixels_are_pooled_by_phase() -> None:
    groups = pooled_alike(COUNTS, COUNTS, 20, KNOWN)
    assert groups.known is not None
    assert groups.known[-2:].tolist() == [0, 1]
    assert (groups.known[:-2] == -1).all()
    assert groups.number[-2:].tolist() == [(KNOWN == 0).sum(), (KNOWN == 1).sum()]
    np.testing.assert_allclose(groups.sums[-1], COUNTS[KNOWN == 1].sum(axis=0), rtol=1e-5)
    assert groups.number.sum() == len(COUNTS)


def configured(**region: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the configuration of a small map of two phases, of one of which a region is declared."""
    return {
        "sample": {
            "elements": ["Mg", "Si", "Fe"],
            "oxygen": "none",
            "thickness_nm": [80, 20],
            "density_g_cm3": [4.0, 0.3],
        },
        "instrument": {"beam_energy_keV": 200, "takeoff_angle_deg": 22, "resolution_eV": 130},
        "phases": [{"name": "A", "region": region} if region else {"name": "A"}, {"name": "B"}],
    }


@pytest.fixture(scope="module")
def image() -> bu.SpectrumImage:
    """Draw 24 x 24 pixels, the first rows of which are a phase alone and the others mixtures."""
    told = configured()
    for phase, made in zip(told["phases"], ({"Mg": 0.7, "Si": 0.3}, {"Si": 0.4, "Fe": 0.6}), strict=True):
        phase |= {"composition": made, "fraction": 0.5}
    abundance = np.full((24, 24), 0.5)
    abundance[:6] = 1.0
    abundances = np.stack([abundance, 1.0 - abundance], axis=-1)
    plan = {"counts_per_pixel": 120, "channels": 1000, "offset_keV": 0.5, "shape": [24, 24]}
    return bu.simulate.simulate_map({**told, "simulate": plan}, seed=1, abundances=abundances).image


def test_a_region_reaches_the_blocks_that_lie_inside_it(image: bu.SpectrumImage) -> None:
    setup = prepare(image, RunConfig.from_dict(configured(rows=[0, 5])))
    assert setup.known is not None
    assert (setup.known[:5] == 0).all()
    assert (setup.known[5:] == -1).all()
    blocks = Blocks.of(setup)
    inside = np.array(
        [(setup.known[setup.blocks.block_index == one] == 0).all() for one in range(len(blocks.counts))]
    )
    np.testing.assert_array_equal(blocks.known == 0, inside)
    assert blocks.pure.tolist() == [True, False]
    assert not blocks.matrix.any()
    assert blocks.every(3).known is not None


def test_a_region_pins_its_phase(image: bu.SpectrumImage) -> None:
    """The other phase is nowhere alone, and may hold any share of the first: the first holds none of it."""
    told = configured(rows=[0, 6])
    result = bu.unmix(
        image,
        elements=told["sample"]["elements"],
        sample={key: value for key, value in told["sample"].items() if key != "elements"},
        instrument=told["instrument"],
        phases=[bu.Phase("A", region={"rows": [0, 6]}), bu.Phase("B")],
        method="laplace",
        inference={"further_phase": False},
        progress=False,
    )
    assert result.abundances()["mean"].sel(phase="A").values[:6].mean() > 0.93
    table = result.summary().set_index(["phase", "element"])
    assert table.loc[("A", "Fe"), "upper_bound"] < 0.03
    assert table.loc[("A", "Mg"), "lower"] < 0.7 < table.loc[("A", "Mg"), "upper"]
    assert "Pixels of rows 0:6 hold A alone (declared)." in assumptions(result)
    assert "declared to hold A alone" not in " ".join(one.text for one in result.verdict.findings)


@pytest.mark.parametrize(
    ("region", "match"),
    [
        ({"rows": [0, 99]}, r"phases\.A\.region\.rows.*lie within the map's 24 rows"),
        ({"rows": [3, 1]}, r"phases\.A\.region\.rows"),
        ({"file": "nowhere.npy"}, r"phases\.A\.region.*be a file"),
        ({"rows": [0, 3], "file": "x.npy"}, r"phases\.A\.region.*both"),
        ({"row": [0, 3]}, r"phases\.A\.region\.row.*unknown"),
    ],
)
def test_what_is_no_region_is_refused(image: bu.SpectrumImage, region: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        prepare(image, RunConfig.from_dict(configured(**region)))


def test_regions_that_share_pixels_or_hold_none_are_refused(image: bu.SpectrumImage, tmp_path: Path) -> None:
    both = [bu.Phase("A", region={"rows": [0, 3]}), bu.Phase("B", region={"columns": [0, 3]})]
    with pytest.raises(InputError, match=r"phases\.B\.region.*share no pixel with that of A.*shares 9"):
        known_pixels(image, both)
    np.save(tmp_path / "none.npy", np.zeros((24, 24), bool))
    with pytest.raises(InputError, match="holds none"):
        known_pixels(image, [bu.Phase("A", region=str(tmp_path / "none.npy"))])

"""The log-likelihood of tiles: that of the model, on bins, blocks and tiles that depend on the map alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from bayesunmix.checks.map_tiles import LEAST_BLOCKS, MapTiles
from bayesunmix.checks.tile_likelihood import TileLikelihood, tile_likelihood
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.shares import shares_of
from bayesunmix.data.map_bins import SPAN, map_bins, map_hash
from bayesunmix.fit.draws import read_draws
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.set_aside import without_pixels
from bayesunmix.fit.setup import Setup
from bayesunmix.inference.compilation import counted_programs
from bayesunmix.inference.laplace import laplace_draws
from bayesunmix.inference.mixture import DROPPED_SHARE
from bayesunmix.models.thickness import answered, counted
from bayesunmix.models.unmixing import log_likelihood, thickness_parameters
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import simulate_map

CHAINS, DRAWS = 2, 20


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """Return that of `small_fit`."""
    config = phantom_config()
    assert config.simulate is not None
    return dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=(36, 36)))


@pytest.fixture(scope="module")
def setup(config: RunConfig) -> Setup:
    return prepare(simulate_map(config, 1).image, config)


@pytest.fixture(scope="module")
def drawn(small_fit: FittedPosterior) -> Drawn:
    positive = small_fit.model.places["line_units"]
    estimate = small_fit.estimate
    z = laplace_draws(estimate.z, estimate.hessian, positive, chains=CHAINS, draws=DRAWS, seed=3)
    return Drawn(draws=read_draws(small_fit, z), statistics={}, z=z)


@pytest.fixture(scope="module")
def judged(setup: Setup, small_fit: FittedPosterior, drawn: Drawn) -> TileLikelihood:
    """Return the likelihood on the fitted bins, which other code can compute."""
    found = tile_likelihood(setup, small_fit, drawn, boundaries=setup.blocks.boundaries)
    assert found is not None
    return found


def own_spectra(judged: TileLikelihood) -> np.ndarray[Any, Any]:
    """Log-likelihood of the tiles if every pixel had its tile's spectrum, (tile,)."""
    counts = judged.counts.astype(float)
    return np.asarray((counts * np.log(np.where(counts > 0, shares_of(counts), 1.0))).sum(axis=1))


def test_the_tiles_add_up_to_the_likelihood_of_the_model(
    small_fit: FittedPosterior, drawn: Drawn, judged: TileLikelihood
) -> None:
    """The density that the engines see, chunk by chunk in another order and from other spectra."""
    data, pixels = small_fit.data, small_fit.data.pixels
    rows = pixels.counts.astype(np.float64) * pixels.present[:, :, None]
    baseline = np.einsum("npc,nc->", rows, pixels.baseline)
    for chain, draw in ((0, 0), (1, 7)):
        assert drawn.z is not None
        latents = small_fit.model.constrain(drawn.z[chain, draw])
        eta = data.prior.mean + data.prior.factor @ latents["abundance_xi"]
        whole = log_likelihood(
            data,
            jnp.asarray(drawn.draws.spectra[chain, draw]),
            jnp.asarray(eta - logsumexp(eta)),
            *thickness_parameters(data, latents),
        )
        expected = float(whole) + baseline - own_spectra(judged).sum()
        # The model drops support points that hold next to nothing of a pixel.
        dropped = DROPPED_SHARE * data.pixels.present.sum()
        assert judged.fitted[chain, draw].sum() == pytest.approx(expected, abs=dropped + 0.02)


def test_every_tile_is_a_sum_over_its_own_blocks(
    setup: Setup, small_fit: FittedPosterior, drawn: Drawn, judged: TileLikelihood
) -> None:
    """By `scipy`, in double precision, with all support points."""
    tiles, data = MapTiles.of(setup, setup.blocks.boundaries), small_fit.data
    assert drawn.z is not None
    points = data.prior.support_points
    scale, exponent = (getattr(drawn.draws, name)[1, 4] for name in ("absorption_scale", "stray_exponent"))
    log_mixed = answered(points @ drawn.draws.spectra[1, 4], points, data.effect, scale, exponent)
    eta = data.prior.mean + data.prior.factor @ drawn.z[1, 4][small_fit.model.places["abundance_xi"]]
    rows = counted(setup.blocks.counts, setup.thickness.blocks, data.effect).astype(np.float64)
    by_block = logsumexp(rows @ np.asarray(log_mixed).T + (eta - logsumexp(eta)), axis=1)
    label = tiles.label[tiles.label >= 0]
    expected = np.bincount(label, weights=by_block) - own_spectra(judged)
    np.testing.assert_allclose(judged.fitted[1, 4], expected, atol=0.02)
    assert np.bincount(label).min() >= LEAST_BLOCKS // 2


@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_bins_blocks_and_tiles_are_those_of_the_map(setup: Setup, config: RunConfig) -> None:
    image = simulate_map(config, 1).image
    tables = {key: table for key, table in config.to_dict().items() if key != "simulate"}
    tables["sample"] = {**tables["sample"], "elements": ["Mg", "Si", "Fe"], "stray": []}
    other = prepare(image, RunConfig.from_dict({**tables, "phases": [{"name": "one"}, {"name": "two"}]}))
    assert len(other.blocks.boundaries) != len(setup.blocks.boundaries)
    first, second = MapTiles.of(setup), MapTiles.of(other)
    assert first.hash == second.hash
    assert setup.map_hash == other.map_hash == map_hash(image)
    table = dataclasses.replace(config.map, rows=(0, 30))
    part = prepare(image, dataclasses.replace(config, map=table))
    assert part.map_hash == setup.map_hash
    assert MapTiles.of(part).hash != first.hash
    assert map_hash(simulate_map(config, 2).image) != setup.map_hash


def test_bins_cover_the_axis_and_are_about_half_a_line_wide(setup: Setup) -> None:
    limits = map_bins(setup.image)
    assert (limits[0], limits[-1]) == (0, setup.image.n_channels)
    assert np.isin(np.arange(0, setup.image.n_channels, SPAN), limits).all()
    width = setup.image.energy_step_keV * np.diff(limits)
    fwhm = setup.forward.response.fwhm_keV(setup.image.channel_edges_keV[limits[:-1]])
    assert np.median(width / fwhm) == pytest.approx(0.45, abs=0.1)
    assert (width / fwhm).max() < 0.7


def test_a_tile_says_where_it_lies(setup: Setup, judged: TileLikelihood) -> None:
    totals, bounds = setup.image.total_counts, judged.bounds
    held = [totals[top:bottom, left:right].sum() for top, bottom, left, right in bounds]
    np.testing.assert_array_equal(judged.counts.sum(axis=1), held)
    assert judged.counts.sum() == totals.sum()


def test_what_was_set_aside_is_data_all_the_same(
    setup: Setup, small_fit: FittedPosterior, drawn: Drawn, judged: TileLikelihood
) -> None:
    mask = np.zeros(setup.image.shape[:2], bool)
    mask[4:10, 3:12] = True
    aside = without_pixels(setup, mask)
    found = tile_likelihood(aside, small_fit, drawn, boundaries=setup.blocks.boundaries)
    assert found is not None
    assert found.aside is not None
    assert found.hash == judged.hash
    assert found.aside_counts.sum() == setup.image.total_counts[mask].sum()
    np.testing.assert_array_equal(found.counts, judged.counts)
    whole = found.aside_counts == found.counts.sum(axis=1)
    free = found.aside_counts == 0
    assert whole.any()
    # A tile that is aside as a whole has nothing that was fitted, and the same density but for the mean dose.
    assert not found.fitted[:, :, whole].any()
    np.testing.assert_allclose(found.aside[:, :, whole], judged.fitted[:, :, whole], atol=0.5)
    np.testing.assert_allclose(found.fitted[:, :, free], judged.fitted[:, :, free], atol=0.5)
    assert not found.aside[:, :, free].any()


def test_nothing_is_compiled_and_a_point_has_none(
    setup: Setup, small_fit: FittedPosterior, drawn: Drawn
) -> None:
    with counted_programs() as programs:
        assert tile_likelihood(setup, small_fit, drawn) is not None
    assert programs == []
    assert drawn.z is not None
    assert tile_likelihood(setup, small_fit, dataclasses.replace(drawn, z=drawn.z[:1, :1])) is None
    assert tile_likelihood(setup, small_fit, dataclasses.replace(drawn, z=None)) is None

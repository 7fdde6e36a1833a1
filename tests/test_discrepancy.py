"""A discrepancy learned from residuals: none where the model fits, wide enough where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.checks.discrepancy import Hats, moved, regions_of
from bayesunmix.config.run_config import RunConfig
from bayesunmix.inference.discrepancy import Discrepancy, Linearised, learn
from bayesunmix.inference.laplace import TruncatedGaussian
from bayesunmix.pipeline import run_image
from bayesunmix.results.result import Result
from bayesunmix.simulation.simulate import Source, simulate_map
from bayesunmix.xray import Response

FloatArray = npt.NDArray[np.float64]

# A flat continuum with a line in the middle; four bins to a width.
N_BINS, PER_WIDTH, LEVEL, LINE = 160, 4, 2e4, 3e3
WIDTHS = (np.arange(N_BINS) + 0.5) / PER_WIDTH
SHAPE = np.exp(-0.5 * ((WIDTHS - 20.0) * 2.3548) ** 2)
CONTINUUM = LEVEL * np.ones(N_BINS)
MEAN = CONTINUUM + LINE * SHAPE
# What is fitted: the line, and level and slope of the continuum.
DESIGN = np.stack([LINE * SHAPE, CONTINUUM, CONTINUUM * (WIDTHS / 20.0 - 1.0)], axis=1)


def hats() -> Hats:
    places = np.arange(0.5, N_BINS / PER_WIDTH, 0.5)
    return Hats(
        values=np.maximum(1.0 - np.abs(WIDTHS - places[:, None]) / 0.5, 0.0),
        energy_keV=places,
        places=places,
    )


def fitted(counts: FloatArray) -> tuple[FloatArray, Linearised]:
    """Parameters of a weighted fit less the truth, and the model around them."""
    covariance = np.linalg.inv(DESIGN.T @ (DESIGN / MEAN[:, None]))
    change = covariance @ (DESIGN.T @ ((counts - MEAN) / MEAN))
    phi = hats().values
    return change, Linearised(
        residual=phi @ (counts - MEAN - DESIGN @ change),
        known=(phi * MEAN) @ phi.T,
        cross=(phi @ DESIGN).T,
        covariance=covariance,
    )


def noisy(mean: FloatArray, generator: np.random.Generator) -> FloatArray:
    return mean + np.sqrt(mean) * generator.standard_normal(N_BINS)


def test_residuals_have_the_noise_that_the_fit_leaves() -> None:
    generator = np.random.default_rng(0)
    told = np.concatenate([fitted(noisy(MEAN, generator))[1].told()[1] for _ in range(200)])
    # Five standard errors.
    assert np.mean(told**2) == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / told.size))
    root, _ = fitted(MEAN)[1].told()
    # Nothing is told of what the fit takes up: the line itself.
    on_line = np.linalg.lstsq(hats().values.T, DESIGN[:, 0] / MEAN, rcond=None)[0]
    at = fitted(MEAN)[1]
    assert np.sum((root.T @ on_line) ** 2) < 0.1 * on_line @ at.known @ on_line


def test_a_model_that_fits_has_no_discrepancy() -> None:
    generator = np.random.default_rng(1)
    families = hats().pieces(MEAN, CONTINUUM)
    found = [learn(fitted(noisy(MEAN, generator))[1], families) for _ in range(300)]
    # One in a hundred may; ten of 300 have a probability of 0.1 % then.
    assert sum(one is not None for one in found) < 10


@pytest.mark.parametrize("relative", [0.03, 0.1])
def test_intervals_hold_a_continuum_that_is_off(relative: float) -> None:
    generator = np.random.default_rng(2)
    families = hats().pieces(MEAN, CONTINUUM)
    prior = np.exp(-0.5 * ((WIDTHS[:, None] - WIDTHS) / 3.0) ** 2) + 1e-9 * np.eye(N_BINS)
    root = np.linalg.cholesky(prior)
    before, after, wider = [], [], []
    for _ in range(100):
        off = relative * root @ generator.standard_normal(N_BINS)
        change, at = fitted(noisy(MEAN + off * CONTINUUM, generator))
        sd = float(np.sqrt(at.covariance[0, 0]))
        found = learn(at, families)
        assert found is not None
        shift, spread = -at.response @ found.mean, -at.response @ found.root
        total = np.sqrt(sd**2 + (spread[0] ** 2).sum())
        before.append(change[0] / sd)
        after.append((change[0] + shift[0]) / total)
        wider.append(total / sd)
    assert np.mean(np.abs(before) < 1.96) < 0.8
    assert np.mean(np.abs(after) < 1.96) >= 0.88
    # ... and are not wider than that takes.
    assert np.std(after) > 0.6


def test_draws_are_moved_as_the_joint_posterior_has_it() -> None:
    generator = np.random.default_rng(3)
    target = TruncatedGaussian(np.array([0.5, 40.0, 0.1]), np.diag([1.0, 4.0, 0.5]) ** 2)
    at = Linearised(
        residual=np.zeros(2),
        known=np.eye(2),
        cross=np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 8.0]]),
        covariance=target.covariance,
    )
    found = Discrepancy(
        amplitude=np.ones(1), mean=np.array([0.3, -0.2]), root=0.4 * np.eye(2), prior_sd=np.ones(2)
    )
    y = target.mean + generator.standard_normal((200_000, 3)) @ np.sqrt(target.covariance)
    y = y[(y[:, 1:] > 0.0).all(axis=1)]
    z = y.copy()
    z[:, 1:] += np.log(-np.expm1(-y[:, 1:]))
    after = moved(z[None], target, at, found, slice(1, 3), generator)[0]
    after[:, 1:] = np.logaddexp(0.0, after[:, 1:])
    mean = target.mean - at.response @ found.mean
    sd = np.sqrt(np.diag(target.covariance) + 0.16 * (at.response**2).sum(axis=1))
    np.testing.assert_allclose(after[:, :2].mean(axis=0), mean[:2], atol=0.05)
    np.testing.assert_allclose(after[:, :2].std(axis=0), sd[:2], rtol=0.01)
    # The one at its bound is a normal truncated there.
    there = mean[2] + sd[2] * generator.standard_normal(1_000_000)
    there = there[there > 0.0]
    wanted = np.quantile(there, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(np.quantile(after[:, 2], [0.1, 0.5, 0.9]), wanted, rtol=0.02)


def test_regions_are_stretches_with_an_amplitude() -> None:
    prior = np.zeros(len(hats().places))
    prior[[3, 4, 10]] = 0.02, 0.05, 0.01
    found = Discrepancy(
        amplitude=np.ones(1), mean=np.zeros(len(prior)), root=np.zeros((len(prior), 1)), prior_sd=prior
    )
    regions = regions_of(found, hats())
    assert [(region.low_keV, region.high_keV) for region in regions] == [(2.0, 2.5), (5.5, 5.5)]
    assert [region.percent for region in regions] == pytest.approx([5.0, 1.0])


class LinearWidth(Response):
    """Peaks that widen in proportion to the energy."""

    def fwhm_keV(self, energy_keV: npt.ArrayLike) -> FloatArray:
        return 0.05 + 0.016 * np.maximum(np.asarray(energy_keV, dtype=np.float64), 0.0)


def configuration() -> dict[str, Any]:
    return {
        "sample": {
            "elements": ["S", "Fe", "Ni"],
            "oxygen": "none",
            "thickness_nm": [60.0, 10.0],
            "density_g_cm3": [4.5, 0.3],
        },
        "map": {"energy_range": [1.0, 10.0]},
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 20.0, "resolution_eV": 130.0},
        "phases": [{"name": "host", "matrix": True}, {"name": "grain", "absent": ["Ni"]}],
        "inference": {"method": "laplace", "further_phase": False, "draws": 300, "starts": 2},
    }


def unmixed(*, right: bool) -> Result:
    data = configuration()
    for phase, composition in zip(
        data["phases"], ({"S": 0.5, "Fe": 0.45, "Ni": 0.05}, {"S": 0.3, "Fe": 0.7}), strict=True
    ):
        phase |= {"composition": composition, "fraction": 0.5}
    data["simulate"] = {"shape": [24, 24], "counts_per_pixel": 2000.0, "channels": 1000}

    def departed(source: Source) -> Source:
        changed = vars(source) | {"response": LinearWidth(**vars(source.response))}
        return source if right else Source(**changed)

    simulated = simulate_map(data, 4, departure=departed)
    return run_image(simulated.image, RunConfig.from_dict(configuration()), None, progress=False)


@pytest.mark.calibration
@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_a_run_whose_line_shapes_are_wrong_says_so_and_is_wider() -> None:
    right, wrong = unmixed(right=True), unmixed(right=False)
    assert right.record.discrepancy is not None
    assert right.record.discrepancy.regions == ()
    assert (right.tables.uncertainty_budget()["share_misfit"] == 0.0).all()
    assert wrong.record.discrepancy is not None
    assert wrong.record.discrepancy.regions
    assert max(one.sd_ratio for one in wrong.record.discrepancy.quantities) > 1.1
    assert wrong.tables.uncertainty_budget()["share_misfit"].max() > 0.0
    # The model's own intervals stand beside them.
    assert "composition_model" in wrong.draws
    assert "composition_model" not in right.draws

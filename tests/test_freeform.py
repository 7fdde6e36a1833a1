"""Free-form endmembers: the model's pieces, recovery with intervals, and what stays open without pure pixels."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

import bayesunmix as bu
from bayesunmix.analysis.free_unmixing import FreeUnmixing, hidden_room, open_rotations
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.fit import free_posterior
from bayesunmix.fit.free_endmembers import read_spectra
from bayesunmix.fit.free_posterior import FreePosterior, fit_free
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.freeform import FreeData, correlation_factor, free_endmembers, mean_spectrum

FloatArray = npt.NDArray[np.float64]

SHAPE = (20, 20)
AXIS = np.arange(24.0)


def peaks(places: list[float], heights: list[float]) -> FloatArray:
    """Smooth background with peaks, unit sum."""
    spectrum = 1.0 / (4.0 + AXIS)
    for place, height in zip(places, heights, strict=True):
        spectrum = spectrum + height * np.exp(-0.5 * ((AXIS - place) / 1.2) ** 2)
    return np.asarray(spectrum / spectrum.sum())


# Each has a peak of its own and one in common.
SPECTRA = np.stack([peaks([5, 12], [0.5, 0.3]), peaks([19, 12], [0.6, 0.2])])


def drawn(
    most: float, counts: float, seed: int, first: float = -0.4
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Draw counts (y, x, energy) and return them with the share of the second phase, which reaches `most`."""
    rng = np.random.default_rng(seed)
    x = np.broadcast_to(np.linspace(first, 1.4, SHAPE[1]), SHAPE)
    share = most * np.clip(x, 0.0, 1.0)
    mixed = (1 - share)[..., None] * SPECTRA[0] + share[..., None] * SPECTRA[1]
    return rng.poisson(counts * mixed), share


def unmix(counts: npt.NDArray[np.int64], phases: object) -> FreeUnmixing:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        return bu.unmix_free(counts, phases, draws=200)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pure() -> tuple[FreeUnmixing, FloatArray]:
    counts, share = drawn(1.0, 400.0, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            free_posterior,
            "fit_free",
            lambda *given, **named: FITTED.append(fit_free(*given, **named)) or FITTED[-1],
        )
        return unmix(counts, ["left", "right"]), share


# Posteriors behind the results, for a look at the mode.
FITTED: list[FreePosterior] = []


@pytest.fixture(scope="module")
def embedded() -> FreeUnmixing:
    """Unmix a map whose second phase never exceeds 60 % of a pixel and holds all lines of the first."""
    counts, _ = drawn(0.6, 400.0, 1, first=-2.0)
    return unmix(counts, [bu.Phase("matrix", matrix=True), bu.Phase("grain")])


def test_contrast_is_correlated_along_the_axis() -> None:
    position = np.cumsum(np.random.default_rng(0).uniform(0.2, 2.0, 15))
    factor = correlation_factor(position, 1.5)
    expected = np.exp(-np.abs(position[:, None] - position) / 1.5)
    np.testing.assert_allclose(factor @ factor.T, expected, atol=1e-12)
    assert not np.triu(factor, 1).any()


def test_no_contrast_is_the_spectrum_of_the_map() -> None:
    mean = mean_spectrum(np.random.default_rng(0).poisson(3.0, (50, 24)))
    data = FreeData(None, None, np.log(mean), correlation_factor(AXIS, 4.0))  # type: ignore[arg-type]
    latents = {"contrast": jnp.zeros((2, 24)), "contrast_sd": jnp.zeros(())}
    np.testing.assert_allclose(np.asarray(free_endmembers(data, latents)), np.tile(mean, (2, 1)), rtol=1e-5)
    bent = np.asarray(free_endmembers(data, {**latents, "contrast": jnp.ones((2, 24)) * 30.0}))
    np.testing.assert_allclose(bent.sum(axis=1), 1.0)
    assert (bent > 0).all()


@pytest.mark.slow
def test_pure_pixels_pin_spectra_and_maps(pure: tuple[FreeUnmixing, FloatArray]) -> None:
    result, share = pure
    found = result.endmembers
    distance = ((np.sqrt(found["mean"].values)[:, None] - np.sqrt(SPECTRA)) ** 2).sum(axis=2)
    order = list(distance.argmin(axis=0))
    assert sorted(order) == [0, 1]
    assert distance[order, [0, 1]].max() < 2e-3
    inside = (found["lower"].values[order] <= SPECTRA) & (SPECTRA <= found["upper"].values[order])
    # 48 correlated intervals of 95 %; a channel's value is known to a few per cent.
    assert inside.mean() > 0.85
    width = (found["upper"] - found["lower"]).values[order] / SPECTRA
    assert np.median(width) < 0.3
    estimate = result.abundances.values[order[1]]
    assert np.sqrt(((estimate - share) ** 2).mean()) < 0.08
    held = (result.maps["lower"].values[order[1]] <= share + 0.01) & (
        result.maps["upper"].values[order[1]] >= share - 0.01
    )
    assert held.mean() > 0.9
    assert (result.pure_pixels > 40).all()
    assert "pure pixels" in repr(result)
    assert result.labels.shape == SHAPE
    assert result.draws.dims == ("draw", "phase", "bin")


@pytest.mark.slow
def test_without_pure_pixels_the_result_says_what_is_open(embedded: FreeUnmixing) -> None:
    assert embedded.room.sel(phase="matrix").values.max() == 0.0
    # What may hide must not be less than what does: the brightest grain is 40 % matrix.
    spectrum = embedded.endmembers["mean"].sel(phase="grain").values
    hidden = np.linalg.lstsq(SPECTRA.T, spectrum, rcond=None)[0][0]
    assert 0.1 < hidden < 0.5
    assert float(embedded.room.sel(phase="grain", other="matrix")) > hidden - 0.02
    (note,) = [note for note in embedded.notes if "grain" in note]
    assert "identifiable only where pixels of it are pure" in note
    matrix = embedded.endmembers.sel(phase="matrix")
    inside = (matrix["lower"].values <= SPECTRA[0]) & (SPECTRA[0] <= matrix["upper"].values)
    assert inside.mean() > 0.8


def test_room_is_what_may_be_taken_out() -> None:
    first, second = np.r_[np.full(10, 0.1), np.zeros(10)], np.full(20, 0.05)
    first = first + 1e-9
    room = hidden_room(np.stack([first, second])[None], 0.95)
    assert room[0, 1] == pytest.approx(0.0, abs=1e-6)  # the first lacks half of the second
    assert room[1, 0] == pytest.approx(0.5, rel=1e-6)  # half of the second may be the first
    assert (np.diag(room) == 0).all()
    assert len(open_rotations(["a", "b"], room)) == 1


@pytest.mark.slow
def test_the_mode_is_one(pure: tuple[FreeUnmixing, FloatArray]) -> None:
    (fitted,) = FITTED
    assert fitted.estimate.converged
    assert fitted.objectives[0] == 0.0
    assert np.linalg.eigvalsh(fitted.estimate.hessian)[0] > 0.0
    assert not fitted.coarse_grid
    draws = fitted.spectra(fitted.draw(2, 30, 0))
    assert draws.shape == (2, 30, 2, 24)
    np.testing.assert_allclose(draws.sum(axis=-1), 1.0)


def test_the_line_model_reads_what_it_would_draw() -> None:
    templates = np.stack([np.roll(np.r_[1.0, 2.0, 1.0, np.zeros(21)], shift) / 4.0 for shift in (3, 10, 17)])
    continuum = np.stack([np.linspace(2, 0, 24), np.linspace(0, 2, 24)]) / 24.0
    basis = EndmemberBasis(
        allowed=np.array([[True, True, True], [True, False, True]]),
        family_templates=np.stack([templates, templates]),
        family_owner=np.array([0, 0, 1]),
        family_ratio=np.array([[1.0, 0.5, 1.0]] * 2),
        ratio_sd=np.array([0.0, 0.1, 0.0]),
        continuum_templates=np.stack([continuum, continuum]),
        continuum_area=np.full((2, 2), 0.5),
        floor=np.full(24, 1 / 24),
    )
    weights = np.array([[0.3, 0.2], [0.4, 0.0]])
    pieces = np.array([[0.25, 0.1], [0.2, 0.2]])
    families = weights[:, basis.family_owner] * basis.family_ratio
    spectra = families @ templates + pieces @ continuum
    read = read_spectra(spectra[None, None], basis)
    np.testing.assert_allclose(read.weights[0, 0, :, :2], weights, atol=1e-9)
    np.testing.assert_allclose(read.weights[0, 0, :, 2], pieces.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(read.family_counts[0, 0], families, atol=1e-9)
    np.testing.assert_allclose(read.continuum[0, 0], pieces, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"phases": [bu.Phase("a"), "b"]}, "`phases` must be all names or all Phase objects"),
        ({"phases": 2, "draws": 1}, "`draws` must be a whole number of at least 2"),
        ({"phases": 2, "smooth": 0}, "`smooth` must be positive"),
        ({"phases": 2, "level": 1.0}, "`level` must lie between 0 and 1"),
        ({"phases": 9}, "`phases` must be a whole number from 1 to 8"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(bu.InputError, match=said):
        bu.unmix_free(np.ones((3, 3, 5), int), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inference", "phase", "said"),
    [
        ({"endmembers": "fre"}, {}, '`inference.endmembers` must be one of "physics", "free"'),
        ({"endmembers": "free"}, {}, '`inference.method` must be "laplace" or "map"'),
        ({"spatial": 1}, {}, "`inference.spatial` must be true or false"),
        (
            {"endmembers": "free", "method": "laplace"},
            {"absent": ["Si"]},
            "`phases.A.absent` must be left out",
        ),
        (
            {"endmembers": "free", "method": "map"},
            {"stoichiometry": "ABO3"},
            "`phases.A.stoichiometry` must be left out",
        ),
    ],
)
def test_configurations_that_contradict_themselves_are_refused(
    inference: dict[str, object], phase: dict[str, object], said: str
) -> None:
    declared = {
        "sample": {"elements": ["Mg", "Si"]},
        "phases": [{"name": "A", **phase}],
        "inference": inference,
    }
    with pytest.raises(bu.InputError, match=said):
        RunConfig.from_dict(declared)

"""The one front of clustering, NMF, constrained least squares and the Bayesian mixture."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest

import bayesunmix as bu
from bayesunmix.analysis.segmentation import SEGMENTATION_METHODS
from bayesunmix.data.plain_map import PlainMap

FloatArray = npt.NDArray[np.float64]
SHAPE = (24, 30)
SPECTRA = np.stack([np.roll(np.r_[[12.0, 8.0, 4.0], np.ones(21)], shift) for shift in (0, 8, 16)])
SPECTRA = SPECTRA / SPECTRA.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def share() -> FloatArray:
    """Three stripes with soft borders, (phase, y, x): pure inside."""
    x = np.broadcast_to(np.arange(SHAPE[1]), SHAPE)
    first, last = np.clip((12 - x) / 4, 0, 1), np.clip((x - 18) / 4, 0, 1)
    return np.stack([first, 1 - first - last, last])


@pytest.fixture(scope="module")
def counts(share: FloatArray) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).poisson(400 * np.einsum("kyx,kc->yxc", share, SPECTRA))


def matched(found: bu.Segmentation, share: FloatArray) -> tuple[FloatArray, list[int]]:
    values = found.abundances.values
    order = min(permutations(range(3)), key=lambda p: float(((values[list(p)] - share) ** 2).sum()))
    return values[list(order)], list(order)


@pytest.mark.parametrize(
    ("method", "given", "spatial"),
    [
        ("clustering", False, False),
        ("clustering", False, True),
        ("nmf", False, False),
        ("fcls", False, False),
        ("fcls", True, False),
        ("bayes", True, False),
        ("bayes", True, True),
    ],
)
def test_all_methods_find_the_stripes_in_the_same_words(
    method: str, given: bool, spatial: bool, share: FloatArray, counts: npt.NDArray[np.int64]
) -> None:
    known = SPECTRA if given else None
    found = bu.segment(counts, ["a", "b", "c"], method=method, endmembers=known, spatial=spatial)
    assert found.method == method
    assert found.labels.dims == ("y", "x")
    assert found.labels.shape == SHAPE
    assert found.abundances.dims == ("phase", "y", "x")
    assert found.endmembers.dims == ("phase", "energy")
    assert list(found.abundances["phase"].values) == list(found.endmembers["phase"].values) == ["a", "b", "c"]
    np.testing.assert_allclose(found.abundances.sum("phase"), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.endmembers.sum("energy"), 1.0)
    values, order = matched(found, share)
    pure = share.max(axis=0) == 1.0
    assert (np.array(order)[share.argmax(axis=0)] == found.labels.values)[pure].mean() > 0.98
    if method != "clustering":
        # Without its own purity prior NMF may stay a little rotated.
        assert np.sqrt(((values - share) ** 2).mean()) < (0.12 if method == "nmf" else 0.06)
    assert method in repr(found)


def test_bayes_has_intervals_that_hold_and_neighbours_narrow_them(
    share: FloatArray, counts: npt.NDArray[np.int64]
) -> None:
    dim = np.random.default_rng(1).binomial(counts, 0.2)
    alone, together = (bu.segment(dim, endmembers=SPECTRA, spatial=spatial) for spatial in (False, True))
    for found in (alone, together):
        inside = (found.maps["lower"].values <= share + 0.01) & (found.maps["upper"].values >= share - 0.01)
        assert inside.mean() > 0.93
    error = [((found.abundances.values - share) ** 2).mean() for found in (alone, together)]
    assert error[1] < 0.7 * error[0]


def test_draws_of_endmembers_widen_the_intervals(counts: npt.NDArray[np.int64]) -> None:
    rng = np.random.default_rng(2)
    draws = SPECTRA * np.exp(0.3 * rng.standard_normal((12, *SPECTRA.shape)))
    sharp = bu.segment(counts, endmembers=draws.mean(axis=0))
    wide = bu.segment(counts, endmembers=draws)
    assert float(wide.maps["sd"].mean()) > 1.1 * float(sharp.maps["sd"].mean())


def test_channels_are_merged_and_spread_again(counts: npt.NDArray[np.int64]) -> None:
    plain = PlainMap.of(counts, bins=7, energy=np.arange(24) * 0.5)
    assert plain.counts.shape == (720, 6)
    assert plain.counts.sum() == counts.sum()
    total = counts.sum(axis=(0, 1))
    np.testing.assert_allclose(plain.on_channels(plain.counts.sum(axis=0, dtype=float)), total)
    np.testing.assert_allclose(plain.in_bins(total.astype(float)), plain.counts.sum(axis=0, dtype=float))
    blocks = plain.blocks(5)
    assert blocks.shape == (5 * 6, 6)
    assert blocks.sum() == counts.sum()
    np.testing.assert_array_equal(blocks[0], plain.counts.reshape(*SHAPE, 6)[:5, :5].sum(axis=(0, 1)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"phases": 3, "method": "kmeans"}, "`method` must be one of"),
        ({"phases": 0}, "`phases` must be a whole number from 1 to 8"),
        ({}, "`phases` must be a number or names"),
        ({"phases": ["a", "a"]}, "`phases` must be a number or different names"),
        ({"phases": 2, "endmembers": SPECTRA}, "`phases` must be as many as the 3 endmembers"),
        ({"phases": 3, "method": "nmf", "spatial": True}, "`spatial` must be false"),
        ({"phases": 3, "method": "nmf", "endmembers": SPECTRA}, "`endmembers` must be left out"),
        ({"endmembers": SPECTRA[:, :5]}, r"`endmembers` must have shape \(phase, 24\)"),
        ({"endmembers": -SPECTRA}, "`endmembers` must be finite"),
        ({"endmembers": SPECTRA, "energy": [1.0]}, "`energy` must hold one value"),
        ({"phases": 3, "level": 95}, "`level` must lie between 0 and 1"),
        ({"phases": 3, "bins": 1}, "`bins` must be a whole number of at least 2"),
        ({"phases": 3, "image": np.ones(5, int)}, r"`image` must be a map or counts \(y, x, energy\)"),
        ({"phases": 3, "image": np.full((4, 4, 6), 0.5)}, "`counts` must be whole numbers"),
        (
            {"phases": 8, "method": "clustering", "image": np.full((9, 9, 6), 3)},
            "`phases` must be at most the number",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(
    options: dict[str, object], said: str, counts: npt.NDArray[np.int64]
) -> None:
    given = {"image": counts, "phases": None, **options}
    with pytest.raises(bu.InputError, match=said):
        bu.segment(given.pop("image"), given.pop("phases"), **given)  # type: ignore[arg-type]


def test_methods_are_documented_in_the_table() -> None:
    import bayesunmix.analysis.segmentation as module

    assert all(f"``{method}``" in str(module.__doc__) for method in SEGMENTATION_METHODS)

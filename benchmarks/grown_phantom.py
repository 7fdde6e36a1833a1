"""Phantoms whose phases are not what the inference believes: a grain that nobody declared, a hole, a zoned matrix.

Physics and layout are those of the embedded phantom (or the abundance maps of the 71 GPa sample, where the folder of
measured maps holds them). A zoned matrix has, in each pixel, its own shares of Al and Fe: smooth fields scale both
by up to a given part, independently of each other, and the other elements make room.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.simulation import SimulateConfig
from bayesunmix.data.image import SpectrumImage
from bayesunmix.simulation.phantom import grain_layout, smooth_field
from bayesunmix.simulation.simulate import Source

FloatArray = npt.NDArray[np.float64]

ABUNDANCES = "maps_71GPa_like.npz"
SILICA = {"Si": 1.0}
ZONED = ("Al", "Fe")
# Width of the zones relative to the side of the map.
ZONE_WIDTH = 0.08
THICKNESS_WIDTH, THICKNESS_VARIATION = 0.15, 0.1


@dataclass(frozen=True)
class Departures:
    """What the inference is not told.

    Parameters
    ----------
    grain
        Pixels of a grain of silica that goes through the whole film; 0 for none.
    hole
        Pixels of a hole in the film; 0 for none.
    zoning
        Largest relative departure of Al and Fe of the matrix from their means.
    """

    grain: int = 0
    hole: int = 0
    zoning: float = 0.0


@dataclass(frozen=True)
class GrownMap:
    """A drawn map and what is true of it.

    Parameters
    ----------
    image
        The map.
    composition
        Mean composition of each phase over the map, weighted by atoms, shape (phase, element).
    centre
        Row and column of the grain's middle.
    """

    image: SpectrumImage
    composition: FloatArray
    centre: tuple[float, float]


def grow(
    config: RunConfig, seed: int, departures: Departures, abundances: FloatArray | None = None
) -> GrownMap:
    """Draw a map.

    Parameters
    ----------
    config
        Phases with composition and fraction, the first of them the matrix.
    seed
        Seed of layout, thickness, calibration error and counts.
    departures
        What the map has besides.
    abundances
        Shares of the phases in the atoms, shape (y, x, phase); drawn where it is left out.
    """
    plan, truths = config.truth()
    elements = config.sample.elements
    layout, depth, errors, photons, places = (
        np.random.default_rng(part) for part in np.random.SeedSequence([seed, 77]).spawn(5)
    )
    if abundances is None:
        matrix = [truth.name == truths[0].name for truth in truths]
        abundances = grain_layout(plan.shape, [truth.fraction for truth in truths], matrix, layout)
    shape = abundances.shape[:2]
    pure = np.array([[truth.composition.get(element, 0.0) for element in elements] for truth in truths])
    thickness = np.maximum(1.0 + THICKNESS_VARIATION * smooth_field(shape, depth, THICKNESS_WIDTH), 0.05)
    grain, centre = _disc(abundances, departures.grain, places)
    hole, _ = _disc(abundances, departures.hole, places)
    thickness = np.where(hole, 0.03 * thickness, thickness)
    ends = [element for element in ZONED if element in elements]
    # What a pixel is made of: the phases, the silica, and for each zoned element the enriched matrix less the matrix.
    rows = np.vstack([pure, [SILICA.get(element, 0.0) for element in elements]])
    rows = np.vstack([rows, *(_enriched(pure[0], elements.index(element), 1.0) for element in ends)])
    shares = np.concatenate(
        [np.where(grain[..., None], 0.0, abundances), grain[..., None].astype(float)], axis=2
    )
    fields = [_field(shape, places) * departures.zoning * shares[..., 0] for _ in ends]
    steps = np.stack([_step(pure[0], elements.index(element)) for element in ends])
    amounts = [field / step for field, step in zip(fields, steps, strict=True)]
    matrix_share = shares[..., 0] - sum(amounts)
    atoms = (
        np.concatenate(
            [matrix_share[..., None], shares[..., 1:], *(amount[..., None] for amount in amounts)], axis=2
        )
        * thickness[..., None]
    )
    source = Source.of(config, plan)
    source = source.with_errors(errors) if plan.calibration_error else source
    per_atom = source.counts_per_atom(rows, atoms.mean(axis=(0, 1)), plan)
    expected = atoms.reshape(-1, len(rows)) @ per_atom
    scale = plan.counts_per_pixel / expected.sum(axis=1).mean()
    counts = np.empty(expected.shape, np.uint16)
    for first in range(0, len(counts), 2048):
        counts[first : first + 2048] = photons.poisson(scale * expected[first : first + 2048])
    composition = pure.copy()
    total = atoms.sum(axis=(0, 1))
    weights = np.concatenate([[total[0]], total[len(pure) + 1 :]])
    composition[0] = weights @ rows[[0, *range(len(pure) + 1, len(rows))]] / weights.sum()
    image = _image(config, plan, counts.reshape(*shape, -1), seed)
    return GrownMap(image, composition, centre)


def _enriched(composition: FloatArray, index: int, by: float) -> FloatArray:
    """Composition with one element raised by the factor 1 + `by`, the others making room."""
    raised = composition.copy()
    raised[index] *= 1.0 + by
    return np.asarray(raised / raised.sum())


def _step(composition: FloatArray, index: int) -> float:
    """Relative rise of the element itself in `_enriched` by 1."""
    return float(_enriched(composition, index, 1.0)[index] / composition[index] - 1.0)


def _field(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Smooth field from -1 to 1, about even over that range."""
    raw = smooth_field(shape, rng, ZONE_WIDTH)
    return np.asarray(np.argsort(np.argsort(raw.ravel())).reshape(shape) / (raw.size - 1) * 2.0 - 1.0)


def _disc(
    abundances: FloatArray, pixels: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], tuple[float, float]]:
    """Disc of so many pixels that lies inside the map, anywhere."""
    rows, columns = abundances.shape[:2]
    y, x = np.mgrid[:rows, :columns]
    margin = np.sqrt(max(pixels, 1) / np.pi) + 2.0
    centre = rng.uniform(margin, rows - 1 - margin), rng.uniform(margin, columns - 1 - margin)
    distance = np.hypot(y - centre[0], x - centre[1]).ravel()
    inside = np.zeros(rows * columns, bool)
    inside[np.argsort(distance, kind="stable")[:pixels]] = True
    return inside.reshape(rows, columns), centre


def _image(
    config: RunConfig, plan: SimulateConfig, counts: npt.NDArray[np.uint16], seed: int
) -> SpectrumImage:
    """Wrap counts in the image of the same axis and facts as a simulated map."""
    from bayesunmix.simulation.simulate import simulate_map

    small = dataclasses.replace(config, simulate=dataclasses.replace(plan, shape=(2, 2)))
    like = simulate_map(small, seed).image
    return dataclasses.replace(like, counts=counts, name=f"grown, seed {seed}")


def measured_abundances(folder: Path, side: int | None = None) -> FloatArray:
    """Abundance maps of the 71 GPa sample, (y, x, phase), cut to a square from the upper left where asked."""
    maps = np.load(folder / ABUNDANCES)["abundance"].astype(float)
    maps = maps / maps.sum(axis=2, keepdims=True)
    return maps if side is None else maps[:side, :side]

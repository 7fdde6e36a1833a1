"""Made-up samples of known truth: how phases lie over a map, and the sample that the demonstration unmixes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq

from bayesunmix.config.run_config import RunConfig

FloatArray = npt.NDArray[np.float64]

# Width of a grain's flank relative to the side of the map.
GRAIN_WIDTH = 0.06
# Largest share of the atoms that grains embedded in a matrix reach, unless they must fill most of the map; as in
# abundance maps of the 71 GPa sample (https://github.com/adriente/espm, experiments/*_ab_map.hspy in its history).
EMBEDDED_MOST = 0.77
# How strongly a grain keeps away from those already there, in standard deviations of its field.
AVOIDANCE = 2.0
# Flank of a grain over its height: from cones to plateaus, tried in this order until enough matrix stays pure.
FLANKS = (1.0, 0.7, 0.5, 0.3, 0.15)
# Share of the matrix atoms that must lie in pure pixels.
LEAST_PURE = 0.5
# Sharpness of the boundary between grains that fill the map, and the share below which a phase counts as absent.
BOUNDARY = 0.15
TRACE = 0.03
MOST_ROUNDS = 30
MEAN_TOLERANCE = 0.003


def smooth_field(shape: tuple[int, int], rng: np.random.Generator, width: float = GRAIN_WIDTH) -> FloatArray:
    """Return a smooth random field of mean 0 and sd 1 that wraps around; zeros on a single pixel.

    Parameters
    ----------
    shape
        Pixels along y and x.
    rng
        Source of randomness.
    width
        Standard deviation of the smoothing, relative to the geometric mean of the sides.
    """
    noise = rng.standard_normal(shape)
    smooth = gaussian_filter(noise, max(1.0, width * float(np.sqrt(shape[0] * shape[1]))), mode="wrap")
    smooth = smooth - smooth.mean()
    spread = float(smooth.std())
    return np.asarray(smooth / spread if spread > 0.0 else smooth)


def grain_layout(
    shape: tuple[int, int], fractions: Sequence[float], matrix: Sequence[bool], rng: np.random.Generator
) -> FloatArray:
    """Spread phases over a map as rounded grains that overlap along the beam.

    With a matrix phase the others are embedded in it: the matrix keeps pure regions and no embedded phase is ever pure.
    Without one, grains fill the map and reach purity.

    Parameters
    ----------
    shape
        Pixels along y and x.
    fractions
        Abundance of each phase averaged over the map, adding up to 1; met to about a percent where the map is large
        enough to hold several grains.
    matrix
        Which phases have pure regions by declaration.
    rng
        Source of randomness.

    Returns
    -------
    (y, x, phase)
        Abundances, adding up to 1 in every pixel.
    """
    wanted = np.asarray(fractions, dtype=np.float64) / np.sum(fractions)
    is_matrix = np.asarray(matrix, dtype=bool) if any(matrix) else np.ones(len(wanted), dtype=bool)
    fields = np.stack([smooth_field(shape, rng) for _ in wanted])
    if shape[0] * shape[1] == 1:
        return np.asarray(wanted.reshape(1, 1, -1))
    result = np.zeros((len(wanted), *shape))
    result[~is_matrix] = _embedded(fields[~is_matrix], wanted[~is_matrix])
    room = np.maximum(1.0 - result.sum(axis=0), 0.0)
    result[is_matrix] = room * _filling(fields[is_matrix], wanted[is_matrix], room)
    return np.ascontiguousarray(np.moveaxis(result, 0, -1))


def _embedded(fields: FloatArray, fractions: FloatArray) -> FloatArray:
    """Return abundances (phase, y, x) of grains in a matrix, with the softest flanks that leave some of it pure."""
    total = float(fractions.sum())
    most = max(EMBEDDED_MOST, 0.5 * (1.0 + total))
    grains = np.zeros_like(fields)
    for flank in FLANKS:
        grains = _with_means(fields, fractions, most, flank)
        pure = float(np.mean(grains.sum(axis=0) == 0.0))
        if pure >= LEAST_PURE * (1.0 - total):
            break
    return grains


def _with_means(fields: FloatArray, fractions: FloatArray, most: float, flank: float) -> FloatArray:
    """Return grains whose means are `fractions` after those that overlap have been pressed below `most` together."""
    targets = fractions.copy()
    grains = np.zeros_like(fields)
    for _ in range(MOST_ROUNDS):
        for phase, field in enumerate(fields):
            free = field - AVOIDANCE * grains[:phase].sum(axis=0) / most
            grains[phase] = _grain(free, float(targets[phase]), most, flank)
        pressed = grains / np.maximum(grains.sum(axis=0) / most, 1.0)
        means = pressed.mean(axis=(1, 2))
        present = fractions > 0.0
        if np.all(np.abs(means[present] / fractions[present] - 1.0) < MEAN_TOLERANCE):
            break
        targets[present] = np.minimum(targets[present] * fractions[present] / means[present], 0.98 * most)
    return np.asarray(pressed if len(fields) else grains)


def _grain(field: FloatArray, mean: float, most: float, flank: float) -> FloatArray:
    """Return the abundance of one phase: the field above the level that gives the wanted mean, cut at `most`."""
    if mean <= 0.0:
        return np.zeros_like(field)
    top, depth = float(field.max()), float(np.ptp(field))

    def profile(level: float) -> FloatArray:
        return np.asarray(most * np.clip((field - level) / (flank * (top - level)), 0.0, 1.0))

    lowest, highest = top - 1e3 * depth, top - 1e-6 * depth
    if profile(highest).mean() >= mean:
        return profile(highest)
    return profile(
        float(brentq(lambda level: float(profile(level).mean()) - mean, lowest, highest, xtol=1e-9))
    )


def _filling(fields: FloatArray, fractions: FloatArray, room: FloatArray) -> FloatArray:
    """Return shares (phase, y, x) of phases that fill the map: the highest field wins, boundaries overlap."""
    present = fractions > 0.0
    if len(fractions) == 1 or not present.any():
        return np.full_like(fields, 1.0 / len(fractions))
    offset = np.where(present, 0.0, -np.inf)
    wanted = fractions / fractions.sum()
    shares = np.zeros_like(fields)
    for _ in range(10 * MOST_ROUNDS):
        height = (fields + offset[:, None, None]) / BOUNDARY
        raw = np.exp(height - height.max(axis=0))
        cut = np.maximum(raw / raw.sum(axis=0) - TRACE, 0.0)
        shares = cut / cut.sum(axis=0)
        means = np.average(shares, axis=(1, 2), weights=np.broadcast_to(room, fields.shape[1:]))
        off = means[present] / wanted[present]
        if np.all(np.abs(off - 1.0) < MEAN_TOLERANCE):
            break
        offset[present] -= 0.5 * np.log(np.maximum(off, 1e-3))
    return np.asarray(shares)


def phantom_config() -> RunConfig:
    """Return the embedded phantom: what is declared of it, and its truth.

    It is like a map of pyrolite recrystallised at 71 GPa: bridgmanite as the matrix, ferropericlase and Ca-perovskite
    that are pure nowhere, 0.02 to 2 at% of five trace elements, 108 counts in a pixel, four stray elements. Its
    compositions are made up, near what such maps show; bridgmanite satisfies its site balance, and the traces of
    ferropericlase are true zeros.
    """
    return RunConfig.from_dict(
        {
            "sample": {
                "elements": ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"],
                "stray": ["Cu", "Ga", "Pt", "Zr"],
                "thickness_nm": [100.0, 30.0],
                "density_g_cm3": [4.5, 0.3],
            },
            "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
            "phases": [
                {
                    "name": "Brg",
                    "matrix": True,
                    "stoichiometry": "ABO3",
                    "composition": BRG,
                    "fraction": 0.9077,
                },
                {"name": "Fp", "absent": ["Si", "Ca"], "composition": FP, "fraction": 0.0685},
                {"name": "CaPv", "absent": ["Mg"], "composition": CAPV, "fraction": 0.0238},
            ],
            "simulate": {
                "shape": [96, 96],
                "counts_per_pixel": 108.0,
                "stray": {"Cu": 0.046, "Ga": 0.013, "Pt": 0.007, "Zr": 0.001},
            },
        }
    )


# Atom fractions among the cations.
BRG = {
    "Mg": 0.4020,
    "Al": 0.0500,
    "Si": 0.4735,
    "Ca": 0.0155,
    "Fe": 0.0560,
    "Nd": 0.0004,
    "Sm": 0.0005,
    "Lu": 0.0009,
    "Hf": 0.0010,
    "U": 0.0002,
}
FP = {"Mg": 0.8600, "Al": 0.0015, "Fe": 0.1385}
CAPV = {
    "Al": 0.0200,
    "Si": 0.4850,
    "Ca": 0.4370,
    "Fe": 0.0100,
    "Nd": 0.0200,
    "Sm": 0.0170,
    "Lu": 0.0040,
    "Hf": 0.0010,
    "U": 0.0060,
}

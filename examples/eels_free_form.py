"""Free-form unmixing of an EELS spectrum image: carbon, TiN and TiO2, simulated with exSpy's hydrogenic edges.

    python examples/eels_free_form.py --size 40 --counts 20000

Three phases lie over the map as grains that overlap along the beam, each pure somewhere. A phase's core-loss spectrum
is a power-law background and the edges of its elements (exSpy's `EELSCLEdge` with hydrogenic oscillator strengths,
200 kV, 10 mrad convergence, 20 mrad collection); counts are Poisson. bayesunmix is told the number of phases and
nothing else: no edge, no background. Printed are the error of the abundance maps and how often their intervals and
those of the endmembers hold the truth. At the end a person who knows the edges reads N to Ti and O to Ti ratios off
each posterior draw of the endmembers.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

import bayesunmix as bu

FloatArray = npt.NDArray[np.float64]

ENERGY_EV = np.arange(220.0, 700.0, 1.0)
EDGES = {"C": ("C_K",), "N": ("N_K",), "Ti": ("Ti_L3", "Ti_L2"), "O": ("O_K",)}
# Atoms of each element per formula unit, and the height of the background before the first edge.
PHASES = {
    "carbon": ({"C": 1.0}, 1.0),
    "TiN": ({"Ti": 0.5, "N": 0.5}, 3.0),
    "TiO2": ({"Ti": 1 / 3, "O": 2 / 3}, 2.0),
}
FRACTIONS = (0.5, 0.3, 0.2)
BACKGROUND_EXPONENT = 3.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, unmix, and print errors and coverage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=40, help="pixels along the sides of the map")
    parser.add_argument("--counts", type=float, default=20000.0, help="mean counts of a pixel")
    parser.add_argument("--bins", type=int, default=120, help="energy bins of the endmembers")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    counts, truth, share = simulate(chosen.size, chosen.counts, chosen.seed)
    result = bu.unmix_free(
        counts, list(PHASES), energy=ENERGY_EV, bins=chosen.bins, spatial=True, seed=chosen.seed
    )
    print(result)
    order = matched(result.endmembers["mean"].values, truth)
    inside = held(result.endmembers, truth, order)
    maps_inside = held(result.maps, share, order, slack=0.005)
    error = np.sqrt(((result.abundances.values[order] - share) ** 2).mean(axis=(1, 2)))
    for k, name in enumerate(PHASES):
        print(
            f"{name:<7} map rmse {error[k]:.3f}   intervals that hold: maps {maps_inside[k]:.2f}, "
            f"endmember {inside[k]:.2f}"
        )
    for name, element in (("TiN", "N"), ("TiO2", "O")):
        ratio = read_ratio(result, order[list(PHASES).index(name)], element)
        low, median, high = np.quantile(ratio, [0.025, 0.5, 0.975])
        true = PHASES[name][0][element] / PHASES[name][0]["Ti"]
        print(f"{element}/Ti in {name}: {median:.3f} [{low:.3f}, {high:.3f}], truth {true:.3f}")


def edge_spectra(energy_eV: FloatArray = ENERGY_EV) -> dict[str, FloatArray]:
    """Differential cross-section of each element's edges (energy,), per atom in a common unit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from exspy.components import EELSCLEdge

        spectra = {}
        for element, names in EDGES.items():
            total = np.zeros(len(energy_eV))
            for name in names:
                edge = EELSCLEdge(name, GOS="hydrogenic")
                edge.set_microscope_parameters(200.0, 10.0, 20.0, float(energy_eV[1] - energy_eV[0]))
                total += np.asarray(edge.function(energy_eV))
            spectra[element] = total
    return spectra


def simulate(size: int, counts: float, seed: int) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Return counts (y, x, energy), true endmembers (phase, energy) and true shares of counts (phase, y, x)."""
    edges = edge_spectra()
    scale = max(float(spectrum.max()) for spectrum in edges.values())
    background = (ENERGY_EV / ENERGY_EV[0]) ** -BACKGROUND_EXPONENT
    per_atom = np.array(
        [
            height * background + sum(amount * edges[element] for element, amount in atoms.items()) / scale
            for atoms, height in PHASES.values()
        ]
    )
    rng = np.random.default_rng(seed)
    abundances = bu.simulate.grain_layout((size, size), FRACTIONS, [False] * len(PHASES), rng)
    mean = abundances @ per_atom
    mean *= counts / mean.sum(axis=2).mean()
    share = np.moveaxis(abundances * per_atom.sum(axis=1), 2, 0)
    return (
        rng.poisson(mean),
        per_atom / per_atom.sum(axis=1, keepdims=True),
        share / share.sum(axis=0),
    )


def matched(spectra: FloatArray, truth: FloatArray) -> list[int]:
    """Order of the found endmembers in which they are nearest the truth."""
    distance = ((np.sqrt(spectra)[:, None] - np.sqrt(truth)) ** 2).sum(axis=2)
    orders = itertools.permutations(range(len(truth)))
    return list(min(orders, key=lambda order: float(distance[list(order), range(len(truth))].sum())))


def held(found: object, truth: FloatArray, order: list[int], slack: float = 0.0) -> FloatArray:
    """Share of the intervals of each phase that hold the truth; `slack` for ends of intervals at exactly 0 or 1."""
    lower, upper = (found[name].values[order] for name in ("lower", "upper"))  # type: ignore[index]
    inside = (lower <= truth + slack) & (truth - slack <= upper)
    return np.asarray(inside.reshape(len(truth), -1).mean(axis=1))


def read_ratio(result: bu.FreeUnmixing, phase: int, element: str) -> FloatArray:
    """Ratio of an element's atoms to titanium's in each posterior draw of one endmember, by the known edges."""
    spectra = result.draws.values[:, phase]
    merged = -(-len(ENERGY_EV) // spectra.shape[1])
    starts = np.arange(0, len(ENERGY_EV), merged)
    backgrounds = [(ENERGY_EV / ENERGY_EV[0]) ** -exponent for exponent in (2.0, 3.0, 4.0)]
    columns = np.array([*edge_spectra().values(), *backgrounds])
    design = np.add.reduceat(columns, starts, axis=1).T
    design = design / design.max(axis=0)
    weight = 1.0 / np.sqrt(spectra.mean(axis=0))
    amounts = np.array([nnls(design * weight[:, None], spectrum * weight)[0] for spectrum in spectra])
    heights = np.add.reduceat(columns, starts, axis=1).max(axis=1)
    atoms = dict(zip(EDGES, (amounts / heights).T, strict=False))
    return np.asarray(atoms[element] / np.maximum(atoms["Ti"], 1e-300))


if __name__ == "__main__":
    main()

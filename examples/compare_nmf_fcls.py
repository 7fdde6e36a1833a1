"""bayesunmix beside KL-NMF followed by fully constrained least squares, on a simulated map of known truth.

    python examples/compare_nmf_fcls.py --size 64 --counts 100

Printed per phase: the mean squared error of the abundance map (shares of atoms) and the angle between the estimated
and the true spectrum. The comparison is not between equals: bayesunmix is told the elements, what is absent from each
phase and which phase is the matrix, and the map is drawn from the line physics that it assumes. NMF is told how many
phases there are, and to turn its count shares into shares of atoms it is lent the true counts per atom.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

import bayesunmix as bu

FloatArray = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, estimate by both ways, and print the errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64, help="pixels along the sides of the map")
    parser.add_argument("--counts", type=float, default=100.0, help="mean counts of a pixel")
    parser.add_argument("--method", choices=("laplace", "nuts"), default="laplace")
    parser.add_argument("--draws", type=int, default=500, help="posterior draws in each of two chains")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)

    config = bu.simulate.phantom_config()
    assert config.simulate is not None
    plan = dataclasses.replace(
        config.simulate, shape=(chosen.size, chosen.size), counts_per_pixel=chosen.counts
    )
    simulated = bu.simulate.simulate_map(dataclasses.replace(config, simulate=plan), chosen.seed)

    begin = time.perf_counter()
    spectra, maps = nmf_fcls(simulated, chosen.seed)
    show("KL-NMF + FCLS", simulated, spectra, maps, time.perf_counter() - begin)

    begin = time.perf_counter()
    assert not isinstance(config.phases, str)
    methods = {
        "laplace": bu.Laplace(draws=chosen.draws),
        "nuts": bu.Nuts(draws=chosen.draws, warmup=chosen.draws),
    }
    result = bu.unmix(
        simulated.image,
        elements=config.sample.elements,
        phases=config.phases,
        stray=config.sample.stray,
        method=methods[chosen.method],
        seed=chosen.seed,
        sample={"thickness_nm": config.sample.thickness_nm, "density_g_cm3": config.sample.density_g_cm3},
        progress=False,
    )
    endmembers = result.tree["endmembers"]["mean"].values
    abundances = result.abundances()["mean"].transpose("y", "x", "phase").values
    show(f"bayesunmix ({chosen.method})", simulated, endmembers, abundances, time.perf_counter() - begin)


def nmf_fcls(simulated: bu.simulate.SimulatedMap, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return spectra (phase, energy) and atom-share maps (y, x, phase), phases in the order of the truth."""
    image, truth = simulated.image, simulated.truth
    found = bu.segment(image, len(truth.phases), method="nmf", bins=image.n_channels, seed=seed)
    spectra = found.endmembers.values
    angles = np.array([[angle(estimate, true) for true in truth.endmembers] for estimate in spectra])
    estimate, phase = linear_sum_assignment(angles)
    ordered = spectra[estimate[np.argsort(phase)]]
    fitted = bu.segment(
        image, truth.phases, method="fcls", endmembers=ordered, bins=image.n_channels
    ).abundances
    atoms = fitted.transpose("y", "x", "phase").values / truth.counts_per_atom
    return ordered, atoms / atoms.sum(axis=-1, keepdims=True)


def angle(first: FloatArray, second: FloatArray) -> float:
    """Angle between two spectra in degrees, over the channels that both have."""
    both = np.isfinite(first) & np.isfinite(second)
    a, b = first[both], second[both]
    return float(np.degrees(np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))))


def show(
    title: str, simulated: bu.simulate.SimulatedMap, spectra: FloatArray, maps: FloatArray, seconds: float
) -> None:
    """Print the errors of one estimate."""
    truth = simulated.truth
    print(f"{title}, {seconds:.0f} s")
    for k, phase in enumerate(truth.phases):
        error = float(np.mean((maps[..., k] - truth.abundances[..., k]) ** 2))
        degrees = angle(spectra[k], truth.endmembers[k])
        print(f"  {phase:<6} map MSE {error:.2e}   spectral angle {degrees:6.2f} deg")


if __name__ == "__main__":
    main()

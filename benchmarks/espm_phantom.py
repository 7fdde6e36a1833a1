"""The phantom of the espm paper, from espm's own simulator, beside KL-NMF + FCLS on the same draw of its noise.

The truth is the share of each phase in a pixel's expected counts. The maps of a result hold shares of atoms, so the
abundances compared here are shares of counts for both: the per-pixel pass with the result's endmembers, one support
point per count in every phase; and FCLS of the counts with the spectra of KL-NMF.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from bench import Options, Row

if TYPE_CHECKING:
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import KnownComposition

FloatArray = npt.NDArray[np.float64]
NAME = "espm_spheres_N293"
TABLE = "espm_lines_200keV.json"
NOISE_SEED = 42
# From below oxygen's K line, which the phantom holds, to above the L lines of hafnium and lutetium.
ENERGY_RANGE = (0.45, 15.0)
# KL-NMF from several starts, and the one that ends nearest the truth is compared with: which starts are good, its own
# measure does not tell.
NMF_STARTS = ("nndsvda", "random", "random", "random")

ELEMENTS = ["Mg", "Al", "Si", "Ca", "Ti", "Fe", "Nd", "Sm", "Lu", "Hf", "O"]
# What the truth allows to declare; the least that pins both embedded phases; and less than that: nothing then
# tells Ca-perovskite from its mixtures with bridgmanite.
DECLARED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "all that is absent": {
        "Brg": ["Ti", "Nd", "Sm", "Lu"],
        "Fp": ["Al", "Si", "Ca", "Ti", "Nd", "Sm", "Lu", "Hf"],
        "CaPv": ["Hf"],
    },
    "no Si, Ca in Fp, no Hf in CaPv": {"Brg": [], "Fp": ["Si", "Ca"], "CaPv": ["Hf"]},
    "no Si, Ca in Fp": {"Brg": [], "Fp": ["Si", "Ca"], "CaPv": []},
}


class Phantom(NamedTuple):
    """A draw of the phantom and its truth over the fitted channels."""

    counts: npt.NDArray[np.uint16]  # (y, x, energy), the whole axis
    energy_keV: FloatArray  # (energy,)
    fitted: npt.NDArray[np.bool_]  # (energy,) channels inside ENERGY_RANGE
    spectra: FloatArray  # (phase, energy) unit sum
    share: FloatArray  # (pixel, phase) of the pixel's expected counts on the fitted channels
    phases: tuple[str, ...]
    takeoff_angle_deg: float
    beam_energy_keV: float


class Errors(NamedTuple):
    """Distance from the truth, by phase."""

    mse: FloatArray
    angle_deg: FloatArray


def rows(options: Options) -> list[Row]:
    """Rows of the phantom: ours beside the others', by phase, for three amounts of declared knowledge."""
    phantom = draw(options)
    theirs = nmf_fcls(phantom)
    found = []
    for title, absent in DECLARED.items():
        result = bayesunmix_laplace(phantom, options, absent)
        endmembers = result.tree["endmembers"].to_dataset()["mean"]
        spectra = endmembers.values[:, phantom.fitted]
        ours = errors(phantom, spectra, count_share(phantom, spectra))
        found += _rows(title, phantom.phases, ours, theirs)
        found += [_composition_row(title, result, options), _verdict_row(title, result)]
    return found


def draw(options: Options, name: str = NAME) -> Phantom:
    """Draw a phantom's counts from its noise-free means."""
    with np.load(options.file(f"{name}.npz")) as file:
        stored = {
            name: np.asarray(file[name], dtype=np.float64) for name in ("phases", "weights", "energy_keV")
        }
    facts: dict[str, Any] = json.loads(options.file(f"{name}.json").read_text(encoding="utf-8"))
    spectra, weights = stored["phases"], stored["weights"]
    counts = np.random.default_rng(NOISE_SEED).poisson(weights @ spectra).astype(np.uint16)
    energy = stored["energy_keV"]
    fitted = (energy >= ENERGY_RANGE[0]) & (energy <= ENERGY_RANGE[1])
    # A phase's share counts what is seen of it, which is not quite the same part of every spectrum.
    seen = weights.reshape(-1, len(spectra)) * spectra[:, fitted].sum(axis=1)
    model = facts["model"]
    return Phantom(
        counts,
        energy,
        fitted,
        spectra,
        seen / seen.sum(axis=1, keepdims=True),
        tuple(facts["phases"]),
        float(model["params_dict"]["Abs"]["toa"]),
        float(model["E0"]),
    )


def nmf_fcls(phantom: Phantom) -> Errors:
    """Return the errors of KL-NMF's spectra and of the FCLS abundances with them, of the start nearest the truth."""
    from bayesunmix.inference.fcls import fcls
    from bayesunmix.inference.nmf import kl_nmf

    counts = phantom.counts[..., phantom.fitted].reshape(len(phantom.share), -1)
    found = []
    for seed, init in enumerate(NMF_STARTS):
        spectra = kl_nmf(counts, len(phantom.phases), init=init, seed=seed, max_iter=2000, tol=1e-7).spectra
        found.append(errors(phantom, spectra, fcls(counts, spectra)))
    return min(found, key=lambda error: float(error.mse.sum()))


def bayesunmix_laplace(phantom: Phantom, options: Options, absent: Mapping[str, Sequence[str]]) -> Result:
    """Unmix the phantom with what is declared of it."""
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.data.acquisition import Acquisition
    from bayesunmix.data.image import SpectrumImage
    from bayesunmix.pipeline import run_image

    phases = [
        {"name": name, "matrix": name == "Brg", "absent": list(absent[name])} for name in phantom.phases
    ]
    config = RunConfig.from_dict(
        {
            "map": {"energy_range": list(ENERGY_RANGE)},
            "sample": {
                "elements": ELEMENTS,
                "stray": ["Cu"],
                "oxygen": "measured",
                "thickness_nm": [100.0, 30.0],
                "density_g_cm3": [4.5, 0.5],
            },
            "xray": {"table": str(options.file(TABLE))},
            "phases": phases,
            "inference": {"method": "laplace"},
        }
    )
    facts = Acquisition(
        beam_energy_keV=phantom.beam_energy_keV,
        takeoff_angle_deg=phantom.takeoff_angle_deg,
        resolution_eV=130.0,
        microscope="TEM",
    )
    image = SpectrumImage(counts=phantom.counts, energy_keV=phantom.energy_keV, acquisition=facts, name=NAME)
    return run_image(image, config, None, seed=0, progress=False)


def count_share(phantom: Phantom, spectra: FloatArray, *, spatial: bool = False) -> FloatArray:
    """Posterior mean abundances in shares of counts, (pixel, phase)."""
    from bayesunmix.inference.pixel_posterior import pixel_posterior

    spectra = np.nan_to_num(spectra)
    counts = phantom.counts[..., phantom.fitted].reshape(len(phantom.share), -1)
    neighbours = phantom.counts.shape[:2] if spatial else None
    posterior = pixel_posterior(
        counts, spectra[None], np.ones((1, len(spectra))), level=0.95, neighbours=neighbours
    )
    return posterior.mean.astype(np.float64)


def errors(phantom: Phantom, spectra: FloatArray, share: FloatArray) -> Errors:
    """Return mean squared error of the maps and angle between spectra, after the best permutation by angle."""
    truth = phantom.spectra[:, phantom.fitted]
    norms = np.outer(np.linalg.norm(truth, axis=1), np.linalg.norm(spectra, axis=1))
    angle = np.degrees(np.arccos(np.clip(truth @ spectra.T / norms, -1.0, 1.0)))
    rows = np.arange(len(truth))
    orders = (list(order) for order in itertools.permutations(range(len(truth))))
    order = min(orders, key=lambda order: float(angle[rows, order].sum()))
    mse = ((share[:, order] - phantom.share) ** 2).mean(axis=0)
    return Errors(mse, angle[rows, order])


def _rows(title: str, phases: Sequence[str], ours: Errors, theirs: Errors) -> list[Row]:
    rows = []
    for k, phase in enumerate(phases):
        for what, name, form in (("MSE of the map", "mse", ".2e"), ("spectral angle", "angle_deg", ".2f")):
            one, other = (float(getattr(side, name)[k]) for side in (ours, theirs))
            unit = "°" if name == "angle_deg" else ""
            measured = f"{one:{form}}{unit} against {other:{form}}{unit}"
            rows.append(Row(f"{title}: {phase}, {what}", "below KL-NMF + FCLS", measured, one < other))
    return rows


def known_composition(options: Options, name: str = NAME) -> KnownComposition:
    """Return atom fractions of a phantom among the declared elements."""
    from bayesunmix.simulation.simulate import KnownComposition

    facts = json.loads(options.file(f"{name}.json").read_text(encoding="utf-8"))
    atoms = np.array([[given.get(e, 0.0) for e in ELEMENTS] for given in facts["elements_at_fraction"]])
    return KnownComposition(tuple(facts["phases"]), tuple(ELEMENTS), atoms / atoms.sum(axis=1, keepdims=True))


def _composition_row(title: str, result: Result, options: Options) -> Row:
    """How many of the intervals of composition hold the truth, which is another simulator's."""
    from bayesunmix.laboratory.maps import reported_intervals

    table = reported_intervals(result, known_composition(options))
    judged = table[table["quantity"] == "composition"]
    outside = [f"{row.phase} {row.element}" for row in judged.itertuples() if not row.inside]
    measured = f"{len(judged) - len(outside)} of {len(judged)}"
    measured += f" (not {', '.join(outside)})" if outside else ""
    return Row(f"{title}: intervals of composition that hold the truth", "", measured, None)


def _verdict_row(title: str, result: Result) -> Row:
    said = "; ".join(result.problems) or "trusted"
    fit = result.record.fit
    deviance = math.nan if fit is None else fit.deviance_per_dof_total
    return Row(f"{title}: own verdict", "", f"{said}; deviance per degree of freedom {deviance:.1f}", None)

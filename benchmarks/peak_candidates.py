"""How often `inspect` names the right source of a peak, and whether its probabilities can be taken at their word."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from rich.progress import track

from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.inspection.peak_reading import Reading, read_peaks
from bayesunmix.inspection.peak_sources import presence_prior
from bayesunmix.xray import (
    Detector,
    LineTable,
    Response,
    bremsstrahlung,
    mass_absorption_coefficient,
)
from bayesunmix.xray.lines import line_group
from bayesunmix.xray.satellites import escape_probability

FloatArray = npt.NDArray[np.float64]

# What the sample is made of and the user names.
SAMPLES = (
    ("Mg", "Al", "Si", "Ca", "Fe"),
    ("Na", "Al", "Si", "K"),
    ("Sr", "Ti"),
    ("Ba", "La", "Co"),
    ("Ni", "Cr", "Al", "Ti"),
    ("Ga", "As", "In"),
    ("Ca", "P", "Ce", "Nd", "Th"),
    ("Cu", "Zn", "Sn", "S"),
    ("Si", "Hf", "W"),
    ("Fe", "Pt"),
)
STEP_KEV, CHANNELS, BEAM_KEV = 0.01, 2000, 200.0
# Share of a peak that its source makes at least.
LEAST_MADE = 0.3
# Names of the artefacts among the sources, as `inspect` calls them.
PILE_UP, ESCAPE, UNKNOWN = "pile-up", "escape", "unknown"
SEEDS, EXOTIC_SEEDS = range(100, 140), range(200, 240)
BINS = (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 1.0)


@dataclass(frozen=True)
class Drawn:
    """A spectrum of one pixel and the expected counts of each source, by name, each (energy,)."""

    image: SpectrumImage
    parts: dict[str, FloatArray]
    named: tuple[str, ...]


def draw(rng: np.random.Generator, *, exotic: bool) -> Drawn:
    """Draw a sum spectrum: a sample that is named, and one to five elements that nobody names.

    The strengths of families and of line groups within them are off by the errors that tables have, every element's
    lines are absorbed as if from a source of its own depth, the axis is off, and the detector has tail, escape and
    pile-up.

    Parameters
    ----------
    exotic
        Draw the elements that nobody names from all of carbon to uranium alike, and not by the prior that `inspect`
        assumes.
    """
    table = LineTable.built_in(BEAM_KEV)
    first = float(rng.choice([0.2, 0.8]))
    edges = first + STEP_KEV * np.arange(CHANNELS + 1)
    named = SAMPLES[rng.integers(len(SAMPLES))]
    others = [e for e in table.elements if e not in named and e not in ("Li", "Be", "B")]
    prior = np.array([1.0 if exotic else presence_prior(element) for element in others])
    foreign = rng.choice(others, size=rng.integers(1, 6), replace=False, p=prior / prior.sum())
    detector = Detector.from_resolution()
    response = Response(
        gain=rng.normal(1.0, 1e-3),
        offset_keV=rng.normal(0.0, 5e-3),
        noise_eV=detector.response.noise_eV * rng.normal(1.0, 0.02),
        collection_depth_um=abs(rng.normal(0.0, 0.05)),
    )
    total = 10.0 ** rng.uniform(5.0, 7.0)
    parts: dict[str, FloatArray] = {}
    emitted: list[tuple[float, float]] = []
    for element in (*named, *foreign):
        share = rng.dirichlet(np.ones(len(named)))[0] if element in named else 10.0 ** rng.uniform(-3.5, -1.0)
        energy, area = _lines(table, detector, str(element), rng)
        if not np.any((energy > edges[0]) & (energy < edges[-1])):
            continue
        area = area * share * total / area[(energy > edges[0]) & (energy < edges[-1])].sum()
        parts[str(element)] = response.spectrum(energy, area, edges)
        emitted += zip(energy.tolist(), area.tolist(), strict=True)
    parts |= _artefacts(emitted, response, edges, total, rng)
    continuum = rng.uniform(0.1, 0.4) * total * bremsstrahlung(edges, BEAM_KEV, detector.efficiency)
    centres = 0.5 * (edges[1:] + edges[:-1])
    continuum = continuum * np.exp(rng.normal(0.0, 0.2) * np.log(centres / 3.0))
    counts = rng.poisson(sum(parts.values()) + continuum)
    facts = Acquisition(beam_energy_keV=BEAM_KEV, resolution_eV=130.0, microscope="TEM", elements=named)
    image = SpectrumImage(
        counts=counts.astype(np.uint32).reshape(1, 1, -1), energy_keV=centres, acquisition=facts
    )
    return Drawn(image, parts, named)


def _lines(
    table: LineTable, detector: Detector, element: str, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Energies and detected areas of an element's lines with the errors of a table and of a thick source."""
    lines = table.lines(element)
    energy = np.array([line.energy_keV for line in lines])
    area = np.array([line.strength for line in lines]) * detector.efficiency(energy)
    for family in dict.fromkeys(line.family for line in lines):
        area[[line.family == family for line in lines]] *= np.exp(
            rng.normal(0.0, table.calibration_sd(element, family))
        )
    keys = [(line.family, line_group(line)) for line in lines]
    for key in dict.fromkeys(keys):
        area[[other == key for other in keys]] *= np.exp(rng.normal(0.0, 0.1))
    depth = mass_absorption_coefficient("Cu", energy) * 10.0 ** rng.uniform(-6.0, -3.0)
    return energy, area * -np.expm1(-depth) / depth


def _artefacts(
    emitted: list[tuple[float, float]],
    response: Response,
    edges: FloatArray,
    total: float,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """Escape peaks and pile-up of the strong lines."""
    strong = sorted(emitted, key=lambda line: -line[1])[:40]
    energy = np.array([line[0] for line in strong])
    area = np.array([line[1] for line in strong])
    lost = area * escape_probability(energy) * np.exp(rng.normal(0.0, 0.3))
    rate = 10.0 ** rng.uniform(-4.5, -2.0) / total
    sums = (energy[:, None] + energy).ravel()
    pairs = 0.5 * rate * (area[:, None] * area).ravel()
    return {
        ESCAPE: response.spectrum(energy - 1.740, lost, edges),
        PILE_UP: response.spectrum(sums, pairs, edges),
    }


def judged(drawn: Drawn, reading: Reading) -> pd.DataFrame:
    """Return each candidate of each peak with its probability and whether it made most of the peak.

    Returns
    -------
    DataFrame
        Columns peak (keV), name, probability, right, rank (0 for the likeliest), named (a named element made the peak).
    """
    rows = []
    centres = drawn.image.energy_keV
    for peak in reading.spectrum.peaks:
        inside = np.abs(centres - peak.energy_keV) < 0.35 * reading.spectrum.fwhm_keV(peak.energy_keV)
        made = {name: float(part[inside].sum()) for name, part in drawn.parts.items()}
        best = max(made, key=lambda name: made[name])
        # A Gaussian has 59 % of its area there; what nothing makes is a bump of continuum or noise.
        truth = best if made[best] > LEAST_MADE * 0.59 * peak.net_counts else UNKNOWN
        listed = [(one.name, one.probability) for one in reading.candidates[peak]]
        listed += [(truth, 0.0)] if truth not in dict(listed) else []
        rows += [
            (peak.energy_keV, name, probability, name == truth, rank, truth in drawn.named)
            for rank, (name, probability) in enumerate(listed)
        ]
    return pd.DataFrame(rows, columns=["peak", "name", "probability", "right", "rank", "named"])


def rows(options: Options) -> list[Row]:
    """Rows of elements drawn by the prior and of all elements alike; their reliability is printed on the way."""
    found = []
    for exotic, seeds in ((False, SEEDS), (True, EXOTIC_SEEDS)):
        table = measure(seeds[: len(seeds) // 4] if options.quick else seeds, exotic=exotic)
        which = "all elements alike" if exotic else "elements by the prior"
        print(f"{which}\n{reliability(table).to_string()}\n", flush=True)
        for part, chosen in (
            ("all peaks", table),
            ("peaks of others than the named", table[~table["named"]]),
        ):
            top = chosen[chosen["rank"] == 0]
            right, stated = float(top["right"].mean()), float(top["probability"].mean())
            measured = f"{right:.3f} right, {stated:.3f} stated ({len(top)} peaks)"
            found.append(
                Row(f"{which}, {part}", "stated within 0.03 of right", measured, abs(right - stated) < 0.03)
            )
    return found


def measure(seeds: range, *, exotic: bool) -> pd.DataFrame:
    """Return the judged candidates of many spectra; each seed draws one."""
    tables = []
    for seed in track(seeds, description="spectra"):
        drawn = draw(np.random.default_rng([seed, exotic]), exotic=exotic)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            tables.append(judged(drawn, read_peaks(drawn.image)).assign(seed=seed))
    return pd.concat(tables, ignore_index=True)


def reliability(table: pd.DataFrame) -> pd.DataFrame:
    """Return for classes of the stated probability how many there are, its mean, and how many were right."""
    bins = pd.cut(table["probability"], list(BINS), include_lowest=True)
    grouped = table.groupby(bins, observed=True)
    return grouped.agg(number=("right", "size"), stated=("probability", "mean"), right=("right", "mean"))

"""How often `inspect` finds the axis and the elements of a spectrum whose axis is off, and leaves a right one alone."""

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
from bayesunmix.xray import Detector, LineTable, Response, bremsstrahlung

FloatArray = npt.NDArray[np.float64]

# Atoms of each element, beam energy in keV and first channel in keV.
SAMPLES: dict[str, tuple[dict[str, float], float, float]] = {
    "silicate": ({"O": 3, "Mg": 1, "Si": 1, "Fe": 0.3, "Ca": 0.2, "Al": 0.2, "Cu": 0.3}, 200.0, 0.0),
    "Ni-base alloy": ({"Ni": 3, "Cr": 0.5, "Al": 0.6, "Co": 0.4, "Ti": 0.2, "W": 0.05}, 200.0, -0.48),
    "catalyst": ({"C": 30, "Cu": 1, "Pt": 0.5, "Fe": 0.5, "O": 0.5}, 200.0, 0.0),
    "titanate": ({"Sr": 1, "Ti": 1, "O": 3, "Cu": 0.2}, 200.0, 0.2),
    "Al-Si alloy": ({"Al": 1, "Si": 0.2, "O": 0.1}, 200.0, -0.2),
    "wafer": ({"Si": 1, "O": 0.05}, 200.0, 0.0),
    "feldspar in SEM": ({"O": 3, "Na": 0.3, "Al": 0.5, "Si": 1.5, "K": 0.3, "Ca": 0.1, "C": 0.5}, 15.0, 0.0),
    "CdTe": ({"Cd": 1, "Te": 1, "S": 0.3, "Cu": 0.2}, 200.0, 0.0),
    "GaAs": ({"Ga": 1, "As": 1, "In": 0.2}, 300.0, 0.0),
}
OFFSETS_KEV = (-0.2, -0.15, -0.1, 0.095, 0.15, 0.2)
GAINS = (0.99, 1.0, 1.01)
STEP_KEV, CHANNELS = 0.01, 2000
# An axis is found when the strongest peak and the end of its lines are placed within this.
FOUND_KEV = 0.005
# An element with at least this share of the counts in lines must be found, and one that is not there must not be.
LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Drawn:
    """A spectrum of one pixel, the elements in it with their share of the counts in lines, and its response."""

    image: SpectrumImage
    shares: dict[str, float]
    response: Response


def draw(rng: np.random.Generator, sample: str, offset_keV: float, gain: float) -> Drawn:
    """Draw a sum spectrum of 10^4.5 to 10^6.5 counts on an axis that is off.

    Families are off by the errors of tables, every element is absorbed differently below 2 keV, widths by 3 %, and the
    detector has tails.
    """
    atoms, beam, first = SAMPLES[sample]
    table, detector = LineTable.built_in(beam, tuple(atoms)), Detector.from_resolution()
    edges = first + STEP_KEV * np.arange(CHANNELS + 1)
    response = Response(
        gain=gain,
        offset_keV=offset_keV,
        noise_eV=detector.response.noise_eV * rng.normal(1.0, 0.03),
        collection_depth_um=abs(rng.normal(0.0, 0.05)),
    )
    parts = {}
    for element, amount in atoms.items():
        lines = table.lines(element)
        energy = np.array([line.energy_keV for line in lines])
        area = amount * np.array([line.strength for line in lines]) * detector.efficiency(energy)
        area *= np.exp(-abs(rng.normal(0.0, 0.3)) / np.maximum(energy, 0.3) ** 2)
        for family in dict.fromkeys(line.family for line in lines):
            inside = [line.family == family for line in lines]
            area[inside] *= np.exp(rng.normal(0.0, table.calibration_sd(element, family)))
        parts[element] = response.spectrum(energy, area, edges)
    expected = np.sum(list(parts.values()), axis=0)
    total, share = 10.0 ** rng.uniform(4.5, 6.5), rng.uniform(0.1, 0.5)
    continuum = bremsstrahlung((edges - offset_keV) / gain, beam, detector.efficiency)
    mean = total * ((1.0 - share) * expected / expected.sum() + share * continuum)
    counts = rng.poisson(mean).astype(np.uint32).reshape(1, 1, -1)
    facts = Acquisition(beam_energy_keV=beam, resolution_eV=130.0, microscope="SEM" if beam < 40.0 else "TEM")
    image = SpectrumImage(counts=counts, energy_keV=0.5 * (edges[1:] + edges[:-1]), acquisition=facts)
    shares = {element: float(part.sum() / expected.sum()) for element, part in parts.items()}
    return Drawn(image, shares, response)


def judged(drawn: Drawn, reading: Reading) -> dict[str, bool]:
    """Return whether the axis was found, was moved, and whether the elements are right."""
    axis, truth = reading.axis, drawn.response
    at = np.array([axis.typical_keV])
    error = axis.offset_keV - truth.offset_keV + (axis.gain - truth.gain) * at
    main = {element for element, share in drawn.shares.items() if share > LEAST_SHARE}
    likely = {element for element in reading.elements if reading.certainty(element) > 0.5}
    return {
        "found": bool(np.all(np.abs(error) < FOUND_KEV)),
        "moved": axis.moved is not None,
        "missed": not main <= set(reading.elements),
        "wrong": not likely <= set(drawn.shares),
        "doubt": axis.rival is not None,
    }


def measure(repeats: int, *, named: bool, right: bool) -> pd.DataFrame:
    """Return one row for each drawn spectrum: every sample, `repeats` times, on an axis that is right or off."""
    rows = []
    cases = [(sample, repeat) for sample in SAMPLES for repeat in range(repeats)]
    for number, (sample, repeat) in track(list(enumerate(cases)), description="spectra"):
        rng = np.random.default_rng([number, named, right])
        if right:
            offset, gain = rng.normal(0.0, 0.01), rng.normal(1.0, 0.002)
        else:
            offset = OFFSETS_KEV[(repeat + 5 * (number % len(SAMPLES))) % len(OFFSETS_KEV)]
            gain = GAINS[(repeat + number) % len(GAINS)]
        drawn = draw(rng, sample, offset, gain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            reading = read_peaks(drawn.image, tuple(drawn.shares) if named else ())
        rows.append({"sample": sample, "offset": offset, "gain": gain, **judged(drawn, reading)})
    return pd.DataFrame(rows)


def rows(options: Options) -> list[Row]:
    """Rows of axes that are off and right ones, with and without the elements."""
    found = []
    for named in (False, True):
        which = "elements named" if named else "no elements named"
        for right in (False, True):
            table = measure(2 if options.quick else 6, named=named, right=right)
            print(f"{which}, axis {'right' if right else 'off'}\n{table.to_string()}\n", flush=True)
            placed, moved = float(table["found"].mean()), int(table["moved"].sum())
            missed, wrong = int(table["missed"].sum()), int(table["wrong"].sum())
            text = (
                f"within 5 eV {placed:.3f}, moved {moved} of {len(table)}, elements missed in {missed}, "
                f"wrong ones in {wrong}"
            )
            if right:
                found.append(Row(f"right axis, {which}", "none moved", text, moved == 0))
            else:
                found.append(Row(f"axis off, {which}", "0.9 within 5 eV", text, placed >= 0.9))
    return found

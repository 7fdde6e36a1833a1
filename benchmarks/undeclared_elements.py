"""How often the sum spectrum is said to show an element that is not there, and how often one that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from bench import Options, Row
from rich.progress import track

from bayesunmix.xray import (
    Detector,
    LineTable,
    Refinement,
    Response,
    bremsstrahlung,
    channel_edges,
    fit_axis,
    refine,
)
from bayesunmix.xray.lines import Line, line_group
from bayesunmix.xray.satellites import escape_probability

FloatArray = npt.NDArray[np.float64]

BEAM_KEV, CONTINUUM_SHARE = 200.0, 0.2
EDGES = channel_edges(0.205 + 0.01 * np.arange(1980))
DETECTOR = Detector.from_resolution(130.0)
# Shares of the counts of what is declared.
SAMPLES = {
    "steel": {"Fe": 0.66, "Cr": 0.18, "Ni": 0.10, "Mn": 0.03, "Si": 0.03},
    "superalloy": {"Ni": 0.5, "Cr": 0.14, "Co": 0.12, "Al": 0.06, "Ti": 0.04, "Re": 0.08, "Ta": 0.06},
    "silicates": {"O": 0.3, "Mg": 0.2, "Al": 0.08, "Si": 0.28, "Ca": 0.05, "Fe": 0.09},
    "solder": {"Sn": 0.7, "Ag": 0.15, "Cu": 0.15},
    "catalyst": {"C": 0.4, "Pt": 0.4, "O": 0.2},
    "nitrides": {"Ga": 0.5, "N": 0.15, "Al": 0.2, "In": 0.15},
    "perovskites": {"Sr": 0.35, "Ti": 0.25, "O": 0.2, "La": 0.2},
    "cathode": {"Ni": 0.35, "Mn": 0.2, "Co": 0.2, "O": 0.25},
}
OTHERS = ("Cu", "Pb", "Cl", "Co", "Zn", "S", "K", "Mo", "Au", "Fe", "W")
# Relative errors of single lines, and of their energies in keV; of the escape peaks.
LINE_SD, LINE_KEV, ESCAPE_SD = {"K": 0.05, "L": 0.05, "M": 0.05}, 0.002, 0.3
# A line is an element's own where no other line that matters beside it lies so near, in widths.
APART_FWHM, MATTERS = 1.5, 0.05
OWN_COUNTS = 500.0
TOTALS, SHARES = (3e5, 3e6), (0.01, 0.001)
SEEDS = range(4)
# Maps with line groups off by their priors: so many, of so many counts, with so much of another element in atoms.
OFF_MAPS, OFF_TOTAL, OFF_ATOMS = 40, 3e6, 0.003


@dataclass(frozen=True)
class Drawn:
    """A sum spectrum, and the counts of the largest line that the added element has to itself."""

    counts: FloatArray
    own: float


def draw(
    sample: str, added: str | None, share: float, total: float, seed: int, *, by_group: bool = False
) -> Drawn:
    """Draw a sum spectrum of a sample, with an element that nobody declares or without one.

    Strengths of single lines, or of groups of lines by their priors, energies, tail, escape, pile-up, axis, width and
    continuum are off.
    """
    rng = np.random.default_rng([seed, list(SAMPLES).index(sample)])
    shares = SAMPLES[sample] | ({added: share} if added else {})
    lines = {element: _lines(element, rng, by_group) for element in shares}
    lines = {e: (energy, area * shares[e] * total / area.sum()) for e, (energy, area) in lines.items()}
    energy, area = (np.concatenate(parts) for parts in zip(*lines.values(), strict=True))
    response = Response(
        gain=rng.normal(1.0, 1e-3),
        offset_keV=rng.normal(0.0, 4e-3),
        noise_eV=DETECTOR.response.noise_eV * rng.normal(1.0, 0.03),
        bend_eV=tuple(rng.normal(0.0, 2.0, 5)),
        collection_depth_um=abs(rng.normal(0.0, 0.08)),
        surface_collection=rng.uniform(0.3, 0.6),
    )
    spectrum = response.spectrum(energy, area, EDGES)
    plain = replace(response, collection_depth_um=0.0)
    escaping = area * escape_probability(energy) * np.exp(rng.normal(0.0, ESCAPE_SD))
    spectrum += plain.spectrum(energy - 1.74, escaping, EDGES)
    strong = np.argsort(-area)[:30]
    rate = 10.0 ** rng.uniform(-3.5, -2.3) / total
    sums = (energy[strong, None] + energy[strong]).ravel()
    spectrum += plain.spectrum(sums, 0.5 * rate * np.outer(area[strong], area[strong]).ravel(), EDGES)
    centre = 0.5 * (EDGES[1:] + EDGES[:-1])
    shape = bremsstrahlung(EDGES, BEAM_KEV, DETECTOR.efficiency)
    shape = shape * np.exp(rng.normal(0.0, 0.15) * np.log(centre / 3.0))
    spectrum += CONTINUUM_SHARE * total * shape / shape.sum()
    own = _own(added, lines) if added else 0.0
    return Drawn(rng.poisson(spectrum).astype(np.float64), own)


def _lines(element: str, rng: np.random.Generator, by_group: bool) -> tuple[FloatArray, FloatArray]:
    """Energies and detected areas of lines, off by what tables are off by."""
    table = LineTable.built_in(BEAM_KEV, [element])
    lines = [line for line in table.entries if line.energy_keV < EDGES[-1]]
    energy = np.array([line.energy_keV for line in lines])
    area = np.array([line.strength for line in lines]) * DETECTOR.efficiency(energy)
    if by_group:
        area = area * _off_by_priors(table, lines, area, rng)
    else:
        area = area * np.exp([rng.normal(0.0, LINE_SD[line.family]) for line in lines])
    return energy + rng.normal(0.0, LINE_KEV, len(lines)), area


def _off_by_priors(
    table: LineTable, lines: list[Line], area: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Factors on lines: each group of a family relative to the strongest one, off by its prior."""
    groups = [(line.element, line.family, line_group(line)) for line in lines]
    factor = {}
    for family in {key[1] for key in groups}:
        total = {
            key: sum(a for a, k in zip(area, groups, strict=True) if k == key)
            for key in dict.fromkeys(groups)
            if key[1] == family
        }
        strongest = max(total, key=total.__getitem__)
        for key in total:
            sd = table.ratio_sd(*key, strongest[2])
            factor[key] = 1.0 if key == strongest else float(np.exp(rng.normal(0.0, sd)))
    return np.array([factor[key] for key in groups])


def share_of_counts(sample: str, added: str, atoms: float) -> float:
    """Return the counts of an element in units of those of a sample, from its atom fraction."""
    strength = {}
    for element in (*SAMPLES[sample], added):
        lines = [x for x in LineTable.built_in(BEAM_KEV, [element]).entries if x.energy_keV < EDGES[-1]]
        efficiency = DETECTOR.efficiency(np.array([line.energy_keV for line in lines]))
        strength[element] = float(np.array([line.strength for line in lines]) @ efficiency)
    per_count = sum(share / strength[element] for element, share in SAMPLES[sample].items())
    return atoms / (1.0 - atoms) * strength[added] * per_count


def off_draws() -> Iterator[tuple[str, str, Drawn, Drawn]]:
    """Give samples whose line groups are off by their priors, an element, and spectra without it and with it.

    The element has a line of its own in the sample.
    """
    for number in range(OFF_MAPS):
        sample = list(SAMPLES)[number % len(SAMPLES)]
        for place in range(len(OTHERS)):
            added = OTHERS[(number + place) % len(OTHERS)]
            if added in SAMPLES[sample]:
                continue
            share = share_of_counts(sample, added, OFF_ATOMS)
            drawn = draw(sample, added, share, OFF_TOTAL, 1000 + number, by_group=True)
            if drawn.own >= OWN_COUNTS:
                plain = draw(sample, None, 0.0, OFF_TOTAL, 2000 + number, by_group=True)
                yield sample, added, plain, drawn
                break


def _own(added: str, lines: dict[str, tuple[FloatArray, FloatArray]]) -> float:
    """Return the counts of the largest peak of an element that no other line lies near."""
    energy, area = lines[added]
    others, others_area = (np.concatenate([lines[e][part] for e in lines if e != added]) for part in (0, 1))
    best = 0.0
    for at in energy:
        width = float(DETECTOR.response.fwhm_keV(at))
        counts = float(area[np.abs(energy - at) < 0.5 * width].sum())
        near = others_area[np.abs(others - at) < APART_FWHM * width]
        if near.sum() < MATTERS * counts:
            best = max(best, counts)
    return best


def read(sample: str, counts: FloatArray) -> Refinement:
    """Fit a sum spectrum with what is declared of the sample."""
    elements = list(SAMPLES[sample])
    table = LineTable.built_in(BEAM_KEV, elements)
    rough = fit_axis(counts, EDGES, table, elements, [], beam_energy_keV=BEAM_KEV, detector=DETECTOR)
    return refine(
        counts,
        EDGES,
        table,
        elements,
        [],
        rough,
        beam_energy_keV=BEAM_KEV,
        detector=DETECTOR,
        transmission=np.ones_like,
    )


def rows(options: Options) -> list[Row]:
    """Rows of spectra that hold nothing undeclared, and of those that do."""
    seeds = SEEDS[:1] if options.quick else SEEDS
    plain = [(sample, total, seed) for sample in SAMPLES for total in TOTALS for seed in seeds]
    false = [
        bool(read(sample, draw(sample, None, 0.0, total, seed).counts).shown)
        for sample, total, seed in track(plain, description="nothing undeclared")
    ]
    held, others = [], []
    every = [
        (sample, added, total, share)
        for sample in SAMPLES
        for added in OTHERS[:: 3 if options.quick else 1]
        for total in TOTALS
        for share in SHARES
        if added not in SAMPLES[sample]
    ]
    for number, (sample, added, total, share) in enumerate(track(every, description="an element more")):
        drawn = draw(sample, added, share, total, 100 + number)
        if drawn.own >= OWN_COUNTS:
            shown = read(sample, drawn.counts).shown
            held.append(added in shown)
            others.append(bool(set(shown) - {added}))
    off_false, off_held = [], []
    for sample, added, plain, drawn in track(list(off_draws()), description="line groups off by priors"):
        off_false.append(bool(read(sample, plain.counts).shown))
        off_held.append(added in read(sample, drawn.counts).shown)
    return [
        _row(
            "spectra with line groups off by their priors, said to show an element", "at most 0.05", off_false
        ),
        _row("elements of 0.3 at% in such spectra that are shown", "at least 0.95", off_held),
        _row("spectra said to show an element, none being there", "at most 0.05", false),
        _row("elements shown that have 500 counts on a line of their own", "at least 0.9", held),
        _row("of these spectra, said to show another one, too", "at most 0.05", others),
    ]


def _row(what: str, asked: str, found: list[bool]) -> Row:
    share, limit = float(np.mean(found)), float(asked.split()[-1])
    holds = share <= limit if "most" in asked else share >= limit
    return Row(what, asked, f"{share:.3f} ({sum(found)} of {len(found)})", holds)

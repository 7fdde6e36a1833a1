"""Regions of significant residual: where the declared phases do not explain the map, and what there is too much of.

`bayesunmix.inference.misfit` finds the regions; here they are outlined, summed up and named. A region's pixels are
those whose counts are likelier under the region's own spectrum than under the pixel's fitted mixture. The sum of their
counts is fitted twice: by a mixture of the phases, and element by element. What the second fit has beyond the first
is in excess.

Holes have no spectrum that could misfit: `bayesunmix.checks.holes` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bayesunmix.checks.holes import EVERYWHERE, find_holes
from bayesunmix.checks.outcomes import SetAside, UnmodelledRegions
from bayesunmix.checks.regions import MapRegion
from bayesunmix.core.disk_array import Rows, pieces
from bayesunmix.core.memory import held_in_memory
from bayesunmix.core.rounding import percent_text
from bayesunmix.core.severity import PLACES, Distrust, Reservation
from bayesunmix.core.shares import shares_of
from bayesunmix.data.counts import Growing
from bayesunmix.data.masks import bounding_box
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.setup import Setup, used_rows
from bayesunmix.fit.starts import component_templates
from bayesunmix.inference.misfit import Faultless, Scan, pooled_amounts, scan, scores
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.xray import LineTable
from bayesunmix.xray.atomic import USUAL

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.floating]

FALSE_ALARM = 0.01
# Neighbouring bins are pooled up to the width of a peak and this share of the map's counts.
LEAST_SHARE = 0.003
# An element is named when it is this many standard deviations and this factor off the mixture.
NAMED_SIGMAS, NAMED_FACTOR = 4.0, 1.2
# An element that nobody declared is named when its lines stand this far out of what is left.
FOUND_SIGMAS = 6.0
MOST_REGIONS = 20
MOST_SAID = 3
# An undeclared phase on 0.8 to 2.6 % of small maps left 0.15 to 0.4 of the 95 % intervals true (docs/verdict.md).
MUCH = 0.005
SWEEPS = 400


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """All regions of a map.

    Attributes
    ----------
    sigma : (y, x)
        Largest standardised residual around each pixel.
    threshold, false_alarm, spread
        See `bayesunmix.inference.misfit.Scan`.
    regions : tuple of MapRegion
        The strongest first.
    places : (y, x) int
        Number of the region that a pixel is of, from 0; -1 where it is of none.
    n_pixels : int
        Pixels that were looked at.
    faultless : Faultless, optional
        What the residuals were held against.
    """

    sigma: FloatArray
    threshold: float
    false_alarm: float
    spread: float
    regions: tuple[MapRegion, ...]
    places: npt.NDArray[np.int16]
    n_pixels: int
    faultless: Faultless | None = None

    @property
    def flagged(self) -> Mask:
        """Pixels (y, x) of the regions."""
        return np.asarray(self.places >= 0)

    @property
    def share(self) -> float:
        """Share of the pixels that hold something else than the declared phases; holes hold nothing."""
        odd = sum(region.pixels for region in self.regions if region.kind != "hole")
        return odd / max(self.n_pixels, 1)

    def warnings(self, aside: SetAside | None = None) -> list[str]:
        """Return one sentence, where there is a region.

        Parameters
        ----------
        aside
            What the endmembers were not fitted to for it.
        """
        if not self.regions:
            return []
        many, said = (
            len(self.regions),
            ". ".join(_capital(one.sentence()) for one in self.regions[:MOST_SAID]),
        )
        rest = f" The report lists {many - MOST_SAID} more." if many > MOST_SAID else ""
        shown = f"{_of_regions(many)} of significant residual. {said}.{rest}"
        if all(region.kind == "hole" for region in self.regions):
            return [Reservation(f"{shown} Leave holes out with `map.exclude_flagged`.", PLACES)]
        cover = f"An unmodelled phase is likely, on {percent_text(self.share)} % of the pixels"
        if aside is not None and aside.settled:
            text = (
                f"{shown} {cover}. With what is around {'it' if many == 1 else 'them'}, {aside.pixels} pixels "
                f"({percent_text(aside.share_of_counts)} % of the counts) were set aside, and the phases fitted to the "
                "others: what they hold does not bend the compositions. Declare the missing phase, or ask for one "
                "more, to learn its own."
            )
            return [Reservation(text, PLACES)]
        remedy = "Declare the missing phase, ask for one more, or leave these pixels out with `map.exclude_flagged`."
        if self.share <= MUCH:
            text = f"{shown} {cover}; intervals of the declared phases may be too narrow. {remedy}"
            return [Reservation(text, PLACES)]
        text = f"{shown} {cover}, enough to bias the composition of a declared phase. {remedy}"
        return [Distrust(text, PLACES)]

    def outcome(self) -> UnmodelledRegions:
        """Return what the record of the run holds: all but the maps."""
        return UnmodelledRegions(
            threshold=self.threshold,
            false_alarm=self.false_alarm,
            spread=self.spread,
            largest=float(self.sigma.max()),
            regions=self.regions,
        )


def find_misfit(
    setup: Setup,
    basis: EndmemberBasis,
    draws: Draws,
    count_share: Shares,
    mass_per_count: FloatArray,
    seed: int,
    faultless: Faultless | None = None,
) -> Misfit:
    """Find and name the regions that the declared phases do not explain.

    Parameters
    ----------
    setup, basis, draws
        The run's; mean endmembers are tested, and pixels that are set aside are looked at like the others.
    count_share : (pixel, phase)
        Abundances in shares of counts.
    mass_per_count : (phase,)
        Mass that a count of each phase stands for, in units of a mean count's; 0 for a support.
    seed : int
        Of the simulated maps that give the threshold.
    faultless : Faultless, optional
        What an earlier search of the map has learned from them.
    """
    shape = setup.image.shape[:2]
    spectra = draws.spectra.mean(axis=(0, 1))
    observed = np.add.reduceat(setup.image.sum_spectrum(), setup.blocks.boundaries[:-1]).astype(float)
    starts = pooled_bins(setup, observed)
    templates = component_templates(basis).mean(axis=0)
    pooled, own = (np.add.reduceat(values, starts, axis=1) for values in (spectra, templates))
    directions = np.concatenate([shares_of(own), np.eye(len(starts))])
    shares, kept = count_share.reshape(*shape, -1), setup.image.kept
    box = bounding_box(kept)
    grid = _pooled_counts(setup.pixel_counts, starts, shape, box)
    found = scan(
        grid,
        pooled,
        directions,
        shares[box],
        seed=seed,
        false_alarm=FALSE_ALARM,
        kept=kept[box],
        faultless=faultless,
    )
    cores = _cores(found, grid, shares[box], pooled)
    found = found.placed(box, shape)
    share = (draws.weights / draws.total[..., None]).mean(axis=(0, 1))
    regions: list[tuple[MapRegion, Mask]] = []
    for inside, place in cores:
        core = np.zeros(shape, bool)
        core[box] = inside
        peak = place[0] + box[0].start, place[1] + box[1].start
        region = _named(
            setup=setup,
            spectra=spectra,
            share=share,
            templates=templates,
            core=core,
            sigma=float(found.sigma[peak]),
        )
        if not region.excess and not region.lacking:
            names = dict.fromkeys(_of_direction(setup, int(found.direction[peak]), starts))
            more = found.sign[peak] > 0
            region = replace(region, excess=names) if more else replace(region, lacking=names)
        regions.append((region, core))
    # Only what emits little is judged by it: counts of a film, or of what nobody declared, stand for little mass.
    mass = np.asarray(shares @ np.maximum(mass_per_count, 1.0), np.float64)
    holes = []
    totals = setup.image.total_counts[box].astype(np.float64)
    of_supports = shares @ (mass_per_count == 0.0)
    # A pixel without a count takes no part whatever is there.
    for region, inside in find_holes(totals, mass[box], setup.image.used[box]):
        core = np.zeros(shape, bool)
        core[box] = inside
        # What was declared a film or a hole is no region that nobody declared.
        if of_supports[core].mean() > 0.5:
            continue
        moved = replace(region, y=region.y + box[0].start, x=region.x + box[1].start)
        holes.append((moved, core))
    hollow = np.any([core for _, core in holes], axis=0) if holes else np.zeros(shape, bool)
    solid = [(region, core) for region, core in regions if not hollow[round(region.y), round(region.x)]]
    ordered = sorted([*solid, *holes], key=lambda pair: -pair[0].sigma)[:MOST_REGIONS]
    places = np.full(shape, -1, np.int16)
    # Where two overlap, a pixel is of the stronger one.
    for number, (_, core) in reversed(list(enumerate(ordered))):
        places[core] = number
    said = tuple(region for region, _ in ordered)
    return Misfit(
        sigma=found.sigma,
        threshold=found.threshold,
        false_alarm=FALSE_ALARM,
        spread=found.spread,
        regions=said,
        places=places,
        n_pixels=int(kept.sum()),
        faultless=found.faultless,
    )


def pooled_bins(setup: Setup, total: FloatArray) -> npt.NDArray[np.int64]:
    """First bins of groups at least as wide as a peak, with at least a small share of the map's counts each."""
    edges, least = setup.blocks.edges_keV, LEAST_SHARE * total.sum()
    centre = 0.5 * (edges[1:] + edges[:-1])
    width = np.asarray(setup.forward.response.fwhm_keV(np.maximum(centre, 0.0)), dtype=np.float64)
    starts, held = [0], 0.0
    for number, counts in enumerate(total.tolist()):
        if held >= least and edges[number] - edges[starts[-1]] >= width[number]:
            starts.append(number)
            held = 0.0
        held += counts
    return np.array(starts, dtype=np.int64)


def _of_direction(setup: Setup, direction: int, starts: npt.NDArray[np.int64]) -> list[str]:
    """Name what the scan tested: elements, or an energy range."""
    n_components = len(setup.forward.components)
    if direction < n_components:
        return _names(setup, direction)
    edges = setup.blocks.edges_keV[[*starts, -1]]
    low, high = edges[direction - n_components : direction - n_components + 2]
    return [f"counts from {low:.2f} to {high:.2f} keV"]


def _pooled_counts(
    bins: Rows, starts: npt.NDArray[np.int64], shape: tuple[int, int], box: tuple[slice, slice]
) -> Rows:
    """Pool the counts of a part of a map, (y, x, group), on disk where memory does not take them with ease.

    Parameters
    ----------
    bins : (pixel, bin)
        Of all the map.
    starts : (group,)
        First bins.
    shape
        Rows and columns of the map.
    box
        Rows and columns of the part.
    """
    (rows, columns), width = (
        (range(*side.indices(size)) for side, size in zip(box, shape, strict=True)),
        shape[1],
    )
    wanted = (len(rows), len(columns), len(starts))
    pooled = Growing(wanted, on_disk=not held_in_memory(float(np.prod(wanted))))
    for part in pieces(bins, np.uint32, whole=width):
        first, last = max(part.start // width, rows.start), min(-(-part.stop // width), rows.stop)
        if first < last:
            read = bins[first * width : last * width].reshape(last - first, width, -1)[:, box[1]]
            own = np.add.reduceat(read, starts, axis=2, dtype=np.uint32)
            pooled.put((slice(first - rows.start, last - rows.start),), own)
    found: Rows = pooled.counts
    return found


def _cores(
    found: Scan, grid: Rows, shares: Shares, spectra: FloatArray
) -> list[tuple[Mask, tuple[int, int]]]:
    """Pixels of each region and the pixel of its largest residual, the strongest first.

    Parameters
    ----------
    found : Scan
    grid : (y, x, group)
    shares : (y, x, phase)
        Fitted abundances of each pixel in shares of counts.
    spectra : (phase, group)
    """
    label, _ = ndimage.label(found.sigma > found.threshold, EVERYWHERE)
    peaks = []
    for number, box in enumerate(ndimage.find_objects(label), start=1):
        within = np.where(label[box] == number, found.sigma[box], 0.0)
        place = np.unravel_index(int(within.argmax()), within.shape)
        peaks.append(tuple(int(index) + side.start for index, side in zip(place, box, strict=True)))
    peaks.sort(key=lambda peak: -found.sigma[peak])
    cores = []
    for y, x in peaks[:MOST_REGIONS]:
        half = int(found.side[y, x]) // 2
        window = np.zeros(label.shape, bool)
        window[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1] = True
        inside = label == label[y, x]
        core = _core(grid, shares, spectra, window, inside)
        # The peak itself is never left out; other pixels of its window may be.
        cores.append((core if core.any() else window & inside, (y, x)))
    return cores


def _core(grid: Rows, shares: Shares, spectra: FloatArray, window: Mask, inside: Mask) -> Mask:
    """Pixels of a flagged area whose counts are likelier under its own spectrum than under their fitted mixture."""
    core = window & inside
    for _ in range(3):
        counts = _sum_over(grid, core)
        own = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
        ratio = np.zeros(core.shape)
        for part, there in _bands_with(grid, inside):
            mixture = shares[part][there] @ spectra
            likelier_by = grid[part][there] * np.log(own / np.maximum(mixture, 1e-12))
            ratio[part][there] = likelier_by.sum(axis=1)
        likelier = (ndimage.uniform_filter(ratio, 3, mode="nearest") > 0.0) & inside
        label, _ = ndimage.label(likelier, EVERYWHERE)
        seen = label[core][label[core] > 0]
        if not seen.size:
            break
        core = label == np.bincount(seen).argmax()
    return core


def _sum_over(grid: Rows, mask: Mask) -> FloatArray:
    """Sum the counts of some pixels, (group,)."""
    found = np.zeros(grid.shape[2])
    for part, there in _bands_with(grid, mask):
        found += grid[part][there].sum(axis=0, dtype=np.float64)
    return found


def _bands_with(grid: Rows, mask: Mask) -> Iterator[tuple[slice, Mask]]:
    """Yield the bands of rows in which there are pixels of a mask, and the mask there."""
    for part in pieces(grid, np.float64):
        if mask[part].any():
            yield part, mask[part]


def _named(
    setup: Setup,
    spectra: FloatArray,
    share: FloatArray,
    templates: FloatArray,
    core: Mask,
    sigma: float,
) -> MapRegion:
    """Sum up a region and say which elements its best mixture misses.

    Parameters
    ----------
    spectra : (phase, energy)
    share : (phase, component)
        Counts in a component's main family per count of the phase.
    templates : (component, energy)
        Spectrum of one count in that family.
    """
    there = used_rows(setup.pixel_counts, core)
    counts = np.sum(
        [there[part].sum(axis=0, dtype=np.float64) for part in pieces(there, np.float64)], axis=0
    )[None]
    expected = (pooled_amounts(counts, spectra, SWEEPS) @ share)[0]
    amounts = pooled_amounts(counts, templates, SWEEPS)[0]
    mean = amounts @ templates + 1e-9
    information = (templates / mean) @ templates.T
    sd = np.sqrt(np.diag(np.linalg.pinv(information)))
    change = (amounts - expected) / np.maximum(sd, 1e-9)
    excess: dict[str, float | None] = {}
    lacking: dict[str, float | None] = {}
    for index in np.argsort(-np.abs(change)):
        ratio = float(amounts[index] / max(expected[index], 1e-9))
        names = _names(setup, int(index))
        if change[index] > NAMED_SIGMAS and ratio > NAMED_FACTOR:
            excess |= dict.fromkeys(names, ratio if expected[index] > 0.5 else None)
        elif change[index] < -NAMED_SIGMAS and ratio < 1.0 / NAMED_FACTOR:
            lacking |= dict.fromkeys(names, ratio)
    excess |= dict.fromkeys(_undeclared(setup, counts, templates))
    rows, columns = np.nonzero(core)
    around = ndimage.binary_dilation(core, EVERYWHERE, iterations=3) & ~core & setup.image.kept
    totals = setup.image.total_counts
    ratio = float(totals[core].mean() / max(totals[around].mean(), 1e-9)) if around.any() else 1.0
    return MapRegion(
        y=float(rows.mean()),
        x=float(columns.mean()),
        pixels=int(core.sum()),
        sigma=sigma,
        kind="spectrum",
        excess=excess,
        lacking=lacking,
        counts_ratio=ratio,
    )


def _names(setup: Setup, component: int) -> list[str]:
    """Elements of a component: of the undeclared ones those that the sum spectrum shows."""
    name = setup.forward.components[component]
    return sorted(setup.spectrum.shown) or ["undeclared signal"] if name == "undeclared" else [name]


def _undeclared(setup: Setup, counts: FloatArray, templates: FloatArray) -> list[str]:
    """Name the element that nobody declared whose lines stand out of a region's spectrum most, if any does."""
    forward = setup.forward
    known = {family.element for family in forward.families}
    others = [element for element in sorted(USUAL) if element not in known]
    table = LineTable.built_in(forward.beam_energy_keV, others)
    edges = forward.edges_keV
    seen = [element for element in others if element in table.elements]
    seen = [element for element in seen if table.families(element, edges[0], edges[-1])]
    lines = [[line for line in table.lines(element) if line.energy_keV > edges[0]] for element in seen]
    group = np.repeat(np.arange(len(seen)), [len(part) for part in lines])
    energy = np.array([line.energy_keV for part in lines for line in part])
    strength = np.array([line.strength for part in lines for line in part]) * forward.detector.efficiency(
        energy
    )
    area = forward.response.columns(energy, strength / strength.max(), group, len(seen), edges)
    z, _, _ = scores(counts, templates, area / np.maximum(area.sum(axis=1, keepdims=True), 1e-300))
    best = int(z[0].argmax())
    return [seen[best]] if z[0, best] > FOUND_SIGMAS else []


def _of_regions(many: int) -> str:
    """Count regions at the beginning of a sentence."""
    return "The map has one region" if many == 1 else f"The map has {many} regions"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

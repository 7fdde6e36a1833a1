"""The energy axis of a run: the file's, the configuration's, or the one that the lines of the map ask for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bayesunmix.config.map import MapConfig
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.severity import Reservation
from bayesunmix.data.image import SpectrumImage, on_axis
from bayesunmix.inspection.axis_search import ORDINARY_KEV, AxisCandidate, AxisSearch, likely_axis, rival_axis
from bayesunmix.xray import Detector, LineTable, Refinement
from bayesunmix.xray.refinement import merge_channels


@dataclass(frozen=True, kw_only=True)
class EnergyAxis:
    """Where the axis of a run comes from, and what its fit makes of it.

    Parameters
    ----------
    source
        ``file``; ``configuration``; or ``found``: the file's was off by more than a fit from there finds.
    gain, offset_keV
        Energy on the file's axis, or the configuration's, = offset + gain x true energy.
    shift_keV, at_keV
        By how much the strongest line of the map appears too high there, and its energy.
    first_keV, step_keV
        True energy of the first channel's centre, and width of a channel.
    """

    source: Literal["file", "configuration", "found"]
    gain: float
    offset_keV: float
    shift_keV: float
    at_keV: float
    first_keV: float
    step_keV: float

    def note(self) -> str | None:
        """Say that the axis was off, where it was by more than is ordinary."""
        if abs(self.shift_keV) <= ORDINARY_KEV:
            return None
        whose = "The configuration's" if self.source == "configuration" else "The file's"
        return Reservation(
            f"{whose} energy axis is off by {1e3 * self.shift_keV:+.0f} eV at {self.at_keV:.2f} keV (offset"
            f" {1e3 * self.offset_keV:+.0f} eV, gain {self.gain:.4f}) and was corrected. To settle it, set"
            f" `map.energy_offset_keV` = {self.first_keV:.5f} and `map.energy_scale_keV` = {self.step_keV:.7f}."
        )


def given_axis(image: SpectrumImage, config: MapConfig) -> SpectrumImage:
    """Put the configured energy of the first channel and channel width in the place of the map's."""
    offset, scale = config.energy_offset_keV, config.energy_scale_keV
    if offset is None and scale is None:
        return image
    first = float(image.energy_keV[0]) if offset is None else offset
    step = image.energy_step_keV if scale is None else scale
    return on_axis(image, first, step)


def searched_axis(
    image: SpectrumImage, config: RunConfig, beam_energy_keV: float, table: LineTable, detector: Detector
) -> tuple[SpectrumImage, AxisCandidate | None, list[str]]:
    """Look for an axis far from the map's; return the map on it, the axis, and what is to be said.

    Parameters
    ----------
    image, config
        The map, and the configuration: an axis that it gives is not doubted.
    beam_energy_keV, detector
        For the spectra.
    table
        Lines of the declared elements; all others are built in.
    """
    if config.map.energy_offset_keV is not None or config.map.energy_scale_keV is not None:
        return image, None, []
    built_in = LineTable.built_in(beam_energy_keV)
    own = set(table.elements)
    entries = (*table.entries, *(line for line in built_in.entries if line.element not in own))
    low, high = config.map.energy_range or (-np.inf, np.inf)
    first, last = np.searchsorted(image.energy_keV, (low, high))
    if last - first < 2:
        return image, None, []
    counts, edges = merge_channels(
        image.sum_spectrum()[first:last].astype(np.float64),
        image.channel_edges_keV[first : last + 1],
        detector.response,
    )
    named = (*config.sample.elements, *config.sample.stray)
    every = dataclasses.replace(built_in, entries=entries)
    fits = AxisSearch(
        counts=counts,
        edges_keV=edges,
        response=detector.response,
        table=every,
        beam_energy_keV=beam_energy_keV,
        efficiency=detector.efficiency,
        named=named,
    ).fits()
    moved = likely_axis(fits)
    rival = rival_axis(fits, moved)
    notes = [] if rival is None else [_doubt(rival)]
    if moved is None:
        return image, None, notes
    return dataclasses.replace(image, energy_keV=moved.corrected(image.energy_keV)), moved, notes


def _doubt(rival: AxisCandidate) -> str:
    return Reservation(
        f"Another energy axis, offset {1e3 * rival.offset_keV:+.0f} eV and gain {rival.gain:.4f}, explains the sum"
        f" spectrum nearly as well, with {', '.join(rival.elements)}. Check the axis, and set `map.energy_offset_keV`"
        " and `map.energy_scale_keV`."
    )


def fitted_axis(
    image: SpectrumImage, config: MapConfig, moved: AxisCandidate | None, refined: Refinement
) -> EnergyAxis:
    """Put the search and the fit of the response together.

    Parameters
    ----------
    image
        The whole map on its axis as it was moved.
    config, moved, refined
        What was given, found, and fitted.
    """
    response = refined.response
    gain, offset = response.gain, response.offset_keV
    strongest = max(refined.counts, key=lambda name: refined.counts[name]).split("+")[0]
    lines = refined.table.lines(*strongest.split("_"))
    at = max(lines, key=lambda line: line.strength).energy_keV
    if moved is not None:
        gain, offset = moved.gain * gain, moved.offset_keV + moved.gain * offset
    given = config.energy_offset_keV is not None or config.energy_scale_keV is not None
    return EnergyAxis(
        source="found" if moved is not None else "configuration" if given else "file",
        gain=gain,
        offset_keV=offset,
        shift_keV=offset + (gain - 1.0) * at,
        at_keV=at,
        first_keV=(float(image.energy_keV[0]) - response.offset_keV) / response.gain,
        step_keV=image.energy_step_keV / response.gain,
    )

"""A result as HyperSpy signals: what was fitted, pixel by pixel, what it leaves, abundances and endmembers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayesunmix.analysis.pixel_fit import expected_counts
from bayesunmix.analysis.signal_markers import add_line_labels, add_phase_names, exspy_names
from bayesunmix.core.errors import InputError, shown
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.counts import DaskArray
from bayesunmix.data.image import HyperSpySignal, SpectrumImage
from bayesunmix.data.io import eds_signal
from bayesunmix.data.stored_counts import StoredCounts
from bayesunmix.results.map_counts import AnyMap, unmixed_map
from bayesunmix.results.signal_axes import energy_axis, index_axis, spatial_axes

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_MAPS = {
    "abundances": "mean",
    "abundances_sd": "sd",
    "abundances_lower": "lower",
    "abundances_upper": "upper",
}
_SPECTRA = {"endmembers": "mean", "endmembers_lower": "lower", "endmembers_upper": "upper"}
_CUBES = ("map", "fit", "residuals")


@dataclass(frozen=True, eq=False, repr=False)
class ResultSignals(Summarised):
    """A result as HyperSpy signals, each made when it is asked for.

    ``map``, ``fit`` and ``residuals`` (y, x | energy) are exSpy's EDS spectra on the fitted energies, the last two
    lazy; ``endmembers``, ``endmembers_lower`` and ``endmembers_upper`` (phase | energy) are such spectra with unit sum;
    ``abundances``, ``abundances_sd``, ``abundances_lower`` and ``abundances_upper`` (phase | y, x) are pictures.

    Parameters
    ----------
    result
        Of a run.
    image
        The map, where its file is gone.
    """

    result: Result
    image: AnyMap | None = None

    def _summary(self) -> Summary:
        rows, columns = self.result.tree["maps"].dataset["label"].shape
        channels = len(self._energy_keV)
        cube = f"({columns}, {rows} | {channels})"
        phases = len(self.result.phases)
        said = {name: f"EDS spectra {cube}{', lazy' if name != 'map' else ''}" for name in _CUBES}
        said |= {name: f"EDS spectra ({phases} | {channels})" for name in _SPECTRA}
        said |= {name: f"Signal2D ({phases} | {columns}, {rows})" for name in _MAPS}
        return Summary("HyperSpy signals of a result", tuple(said.items()))

    @cached_property
    def map(self) -> HyperSpySignal:
        """Counts (y, x | energy) that were unmixed: fitted energies on the fitted axis, zero where pixels take no part.

        Raises
        ------
        InputError
            If the map is not there, or is another one.
        """
        counts = self._image.counts
        if isinstance(counts, StoredCounts):
            return self._cube("Counts", counts.to_dask(), lazy=True)
        return self._cube("Counts", counts, lazy=False)

    @cached_property
    def fit(self) -> HyperSpySignal:
        """Expected counts (y, x | energy), lazy: `bayesunmix.analysis.pixel_fit`.

        Raises
        ------
        InputError
            If an earlier version wrote the result.
        """
        signal = self._cube("Fit", self._expected, lazy=True)
        signal.navigator = self._navigator(self._totals)
        return signal

    @cached_property
    def residuals(self) -> HyperSpySignal:
        """Counts less the fit (y, x | energy), lazy.

        Raises
        ------
        InputError
            If the map is not there, or is another one.
        """
        counts, chunks = self._image.counts, self._expected.chunks
        in_parts = (
            counts.to_dask()
            if isinstance(counts, StoredCounts)
            else import_module("dask.array").asarray(counts)
        )
        left = in_parts.rechunk(chunks).astype(np.float32) - self._expected
        signal = self._cube("Residuals", left, lazy=True)
        signal.navigator = self._navigator(self._totals)
        return signal

    @cached_property
    def abundances(self) -> HyperSpySignal:
        """Mean abundance (phase | y, x) in shares of atoms, NaN where a pixel takes no part."""
        return self._picture("abundances")

    @cached_property
    def abundances_sd(self) -> HyperSpySignal:
        """Standard deviation of the abundance (phase | y, x)."""
        return self._picture("abundances_sd")

    @cached_property
    def abundances_lower(self) -> HyperSpySignal:
        """Lower end of the abundance's interval (phase | y, x)."""
        return self._picture("abundances_lower")

    @cached_property
    def abundances_upper(self) -> HyperSpySignal:
        """Upper end of the abundance's interval (phase | y, x)."""
        return self._picture("abundances_upper")

    @cached_property
    def endmembers(self) -> HyperSpySignal:
        """Mean endmember (phase | energy) in shares of counts, with the fitted lines for ``plot(xray_lines=True)``."""
        return self._spectra("endmembers")

    @cached_property
    def endmembers_lower(self) -> HyperSpySignal:
        """Lower end of the interval of every channel of the endmembers (phase | energy)."""
        return self._spectra("endmembers_lower")

    @cached_property
    def endmembers_upper(self) -> HyperSpySignal:
        """Upper end of the interval of every channel of the endmembers (phase | energy)."""
        return self._spectra("endmembers_upper")

    def plot(self, phase: str | None = None, **options: object) -> None:
        """Plot map, fit and residuals with one navigator, so that all show the spectrum of the same pixel.

        Parameters
        ----------
        phase
            Whose abundances are the navigator; the counts of each pixel where it is left out.
        **options
            Of `hyperspy.api.plot.plot_signals`.

        Raises
        ------
        InputError
            If the phase is unknown, or the map is not there.
        """
        if phase is None:
            values: npt.NDArray[Any] = self._totals
        else:
            if phase not in self.result.phases:
                must = f"be one of the phases {', '.join(self.result.phases)}"
                raise InputError("phase", must, f"is {shown(phase)}")
            values = self.result.abundances()["mean"].sel(phase=phase).values
        plot = import_module("hyperspy.api").plot
        cubes = [self.map, self.fit, self.residuals]
        plot.plot_signals(cubes, **{"navigator_list": [self._navigator(values)] * len(cubes), **options})

    @cached_property
    def _image(self) -> SpectrumImage:
        return unmixed_map(self.result, self.image)

    @cached_property
    def _endmembers(self) -> Any:  # noqa: ANN401 - a dataset of the fitted channels
        return self.result.endmembers()

    @property
    def _energy_keV(self) -> npt.NDArray[np.float64]:
        return np.asarray(self._endmembers["energy"].values, np.float64)

    @property
    def _totals(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.result.tree["constant_data"].dataset["total_counts"].values)

    @cached_property
    def _expected(self) -> DaskArray:
        return expected_counts(self.result)

    @property
    def _acquisition(self) -> Acquisition:
        known = {one.name for one in fields(Acquisition)} - {"sources"}
        facts = {name: value for name, value in self.result.record.map.acquisition if name in known}
        return Acquisition(**{**facts, "elements": tuple(self.result.elements)})

    def _metadata(
        self, title: str, quantity: str, n_pixels: int | None = None, *, eds: bool = True
    ) -> dict[str, Any]:
        facts = self._acquisition
        signal_type = ("EDS_SEM" if facts.microscope == "SEM" else "EDS_TEM") if eds else ""
        about = {
            "phases": self.result.phases,
            "level": self.result.level,
            "method": self.result.record.method,
        }
        general = {"title": ": ".join(filter(None, [self.result.record.map.name, title]))}
        named = {
            "General": general,
            "Signal": {"signal_type": signal_type, "quantity": quantity},
            "bayesunmix": about,
        }
        return {**facts.to_metadata(n_pixels), **named} if eds else named

    def _cube(self, title: str, data: Any, *, lazy: bool) -> HyperSpySignal:  # noqa: ANN401 - NumPy or dask
        axes = [*spatial_axes(self.result, navigate=True), energy_axis(self._energy_keV, binned=True)]
        n_pixels = int(np.prod(data.shape[:2]))
        entry = {"data": data, "axes": axes, "metadata": self._metadata(title, "X-rays (Counts)", n_pixels)}
        return self._with_lines(eds_signal(entry, self._acquisition.microscope, lazy=lazy))

    def _spectra(self, name: str) -> HyperSpySignal:
        statistic, result = _SPECTRA[name], self.result
        axes = [index_axis("phase", len(result.phases)), energy_axis(self._energy_keV, binned=True)]
        title = f"Endmembers, {_words(statistic, result.level)}"
        data = self._endmembers[statistic].values.astype(np.float32)
        entry = {"data": data, "axes": axes, "metadata": self._metadata(title, "Share of the counts")}
        signal = self._with_lines(eds_signal(entry, self._acquisition.microscope, lazy=False))
        add_phase_names(signal, result.phases)
        add_line_labels(signal, result.tree["lines"].dataset)
        return signal

    def _picture(self, name: str) -> HyperSpySignal:
        statistic, result = _MAPS[name], self.result
        title = f"Abundances, {_words(statistic, result.level)}"
        signal = import_module("hyperspy.api").signals.Signal2D(
            data=result.abundances()[statistic].values,
            axes=[index_axis("phase", len(result.phases)), *spatial_axes(result, navigate=False)],
            metadata=self._metadata(title, "Share of the atoms", eds=False),
        )
        add_phase_names(signal, result.phases)
        return signal

    def _navigator(self, values: npt.NDArray[Any]) -> HyperSpySignal:
        axes = spatial_axes(self.result, navigate=False)
        return import_module("hyperspy.api").signals.Signal2D(data=np.asarray(values, np.float32), axes=axes)

    def _with_lines(self, signal: HyperSpySignal) -> HyperSpySignal:
        """Name elements and fitted lines, as exSpy's functions look for them."""
        elements, lines = exspy_names(self.result)
        signal.metadata.set_item("Sample.elements", elements)
        signal.metadata.set_item("Sample.xray_lines", lines)
        return signal


def to_hyperspy(result: Result, image: AnyMap | None = None) -> ResultSignals:
    """Return a result as HyperSpy signals: fit, residuals, abundances and endmembers, with axes, lines and names.

    Parameters
    ----------
    result
        Of a run.
    image
        The map, where its file is gone: ``map``, ``residuals`` and ``plot()`` look at its counts.

    Examples
    --------
    >>> signals = result.to_hyperspy()  # doctest: +SKIP
    >>> signals.endmembers.plot(xray_lines=True)  # doctest: +SKIP
    >>> signals.plot(phase="CaPv")  # doctest: +SKIP
    """
    return ResultSignals(result, image)


def _words(statistic: str, level: float) -> str:
    words = {"mean": "mean", "sd": "standard deviation"}
    return words.get(statistic, f"{statistic} end of the {100.0 * level:g} % interval")

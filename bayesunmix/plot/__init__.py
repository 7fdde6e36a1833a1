"""Figures of a result, one file each; every function returns a `matplotlib.figure.Figure`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from bayesunmix.analysis.onuma import result_onuma
from bayesunmix.plot.budget import budget_figure
from bayesunmix.plot.compositions import compositions_figure
from bayesunmix.plot.element_maps import element_maps_figure
from bayesunmix.plot.fit import fit_figure
from bayesunmix.plot.integrated_spectra import integrated_spectra_figure
from bayesunmix.plot.maps import maps_figure
from bayesunmix.plot.mass_thickness import mass_thickness_figure
from bayesunmix.plot.misfit import misfit_figure
from bayesunmix.plot.onuma import onuma_figure
from bayesunmix.plot.partition import partition_figure
from bayesunmix.plot.phase_number import phase_number_figure
from bayesunmix.plot.profile import profile_figure
from bayesunmix.plot.region_spectra import region_spectra_figure
from bayesunmix.plot.segmentation import segmentation_figure
from bayesunmix.plot.spectra import spectra_figure

if TYPE_CHECKING:
    import xarray as xr

    from bayesunmix.results.result import Result

__all__ = ["FIGURES", "OPTIONAL_FIGURES", "ResultPlots"]

FIGURES = {
    "fit": fit_figure,
    "maps": maps_figure,
    "segmentation": segmentation_figure,
    "spectra": spectra_figure,
    "compositions": compositions_figure,
    "partition": partition_figure,
}
"""Every figure by the name of its file, in the order of the report."""

OPTIONAL_FIGURES = {
    "phase_number": (phase_number_figure, "phase_number"),
    "misfit": (misfit_figure, "unmodelled_regions"),
    "mass_thickness": (mass_thickness_figure, "mass_thickness"),
    "budget": (budget_figure, "budget"),
}
"""Figures of results whose record holds the field beside them."""


class ResultPlots:
    """The figures of one result, as ``result.plot``.

    Figures are made without pyplot: a script keeps its own state, and nothing needs closing. In a notebook one shows
    itself at the end of a cell; ``figure.savefig("maps.pdf")`` writes it.

    Parameters
    ----------
    result
        The result of a run.
    """

    def __init__(self, result: Result) -> None:
        self._result = result

    def fit(self, **options: Any) -> Figure:  # noqa: ANN401
        """Sum spectrum, fitted model with its parts, and residuals: see `bayesunmix.plot.fit.fit_figure`."""
        return fit_figure(self._result, **options)

    def maps(self, **options: Any) -> Figure:  # noqa: ANN401
        """Abundance of each phase and its standard deviation: see `bayesunmix.plot.maps.maps_figure`."""
        return maps_figure(self._result, **options)

    def segmentation(self) -> Figure:
        """Most probable phase of each pixel: see `bayesunmix.plot.segmentation.segmentation_figure`."""
        return segmentation_figure(self._result)

    def spectra(self, **options: Any) -> Figure:  # noqa: ANN401
        """Endmember spectra with their bands: see `bayesunmix.plot.spectra.spectra_figure`."""
        return spectra_figure(self._result, **options)

    def compositions(self, **options: Any) -> Figure:  # noqa: ANN401
        """Composition of every phase: see `bayesunmix.plot.compositions.compositions_figure`."""
        return compositions_figure(self._result, **options)

    def mass_thickness(self) -> Figure:
        """Mass thickness of each pixel: see `bayesunmix.plot.mass_thickness.mass_thickness_figure`.

        Raises
        ------
        InputError
            If the run had no zeta-factors.
        """
        self._result.tables.mass_thickness()
        return mass_thickness_figure(self._result)

    def budget(self) -> Figure:
        """Share of each source in every number's variance: see `bayesunmix.plot.budget.budget_figure`."""
        return budget_figure(self._result)

    def misfit(self) -> Figure:
        """Regions of significant residual: see `bayesunmix.plot.misfit.misfit_figure`."""
        return misfit_figure(self._result)

    def phase_number(self) -> Figure:
        """Held-out score of each number of phases: see `bayesunmix.plot.phase_number.phase_number_figure`.

        Raises
        ------
        InputError
            If the number of phases was declared.
        """
        return phase_number_figure(self._result)

    def element_maps(self, maps: xr.Dataset | None = None, **options: Any) -> Figure:  # noqa: ANN401
        """Unmixed composition of each pixel: see `bayesunmix.plot.element_maps.element_maps_figure`."""
        return element_maps_figure(self._result, maps, **options)

    def profile(self, start: Any, end: Any = None, **options: Any) -> Figure:  # noqa: ANN401
        """Abundances and composition along a line: see `bayesunmix.plot.profile.profile_figure`."""
        return profile_figure(self._result, start, end, **options)

    def region_spectra(self, masks: Any, **options: Any) -> Figure:  # noqa: ANN401
        """Draw counts and fit of regions: see `bayesunmix.plot.region_spectra.region_spectra_figure`."""
        return region_spectra_figure(self._result, masks, **options)

    def integrated_spectra(self, **options: Any) -> Figure:  # noqa: ANN401
        """Draw weighted counts: see `bayesunmix.plot.integrated_spectra.integrated_spectra_figure`."""
        return integrated_spectra_figure(self._result, **options)

    def partition(self) -> Figure:
        """Partition coefficients of every pair of phases: see `bayesunmix.plot.partition.partition_figure`."""
        return partition_figure(self._result)

    def onuma(self, numerator: str, denominator: str, **options: Any) -> Figure:  # noqa: ANN401
        """Partition coefficients over ionic radius: see `bayesunmix.analysis.onuma.onuma` for the options."""
        return onuma_figure(result_onuma(self._result, numerator, denominator, **options))

"""Bayesian Poisson unmixing of STEM-EDS maps.

The names below load on first use, so that ``import bayesunmix`` and the command line's help stay instant.

>>> import bayesunmix as bu
>>> bu.Phase("Fp", absent=["Si", "Ca"]).absent
('Si', 'Ca')
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bayesunmix.core.attached import attach

if TYPE_CHECKING:
    from bayesunmix.analysis.comparison import compare
    from bayesunmix.analysis.free_unmixing import FreeUnmixing, unmix_free
    from bayesunmix.analysis.segmentation import Segmentation, segment
    from bayesunmix.batches.outcome import Batch
    from bayesunmix.batches.run import batch
    from bayesunmix.chemistry.units import convert, with_oxygen
    from bayesunmix.config.methods import Laplace, Map, Nuts, Svi
    from bayesunmix.config.phase import Phase
    from bayesunmix.config.priors import Priors
    from bayesunmix.core.errors import InputError
    from bayesunmix.core.rounding import interval_text
    from bayesunmix.data.image import SpectrumImage
    from bayesunmix.data.io import load
    from bayesunmix.door import inspect, prepare
    from bayesunmix.pipeline import unmix
    from bayesunmix.results.result import Result, open_result
    from bayesunmix.simulation import simulate
    from bayesunmix.viewer.serve import view

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "FreeUnmixing",
    "InputError",
    "Laplace",
    "Map",
    "Nuts",
    "Phase",
    "Priors",
    "Result",
    "Segmentation",
    "SpectrumImage",
    "Svi",
    "__version__",
    "batch",
    "compare",
    "convert",
    "inspect",
    "interval_text",
    "load",
    "open_result",
    "prepare",
    "segment",
    "simulate",
    "unmix",
    "unmix_free",
    "view",
    "with_oxygen",
]

_HOME = {
    "Batch": "bayesunmix.batches.outcome",
    "batch": "bayesunmix.batches.run",
    "FreeUnmixing": "bayesunmix.analysis.free_unmixing",
    "compare": "bayesunmix.analysis.comparison",
    "InputError": "bayesunmix.core.errors",
    "Laplace": "bayesunmix.config.methods",
    "Map": "bayesunmix.config.methods",
    "Nuts": "bayesunmix.config.methods",
    "Phase": "bayesunmix.config.phase",
    "Priors": "bayesunmix.config.priors",
    "Result": "bayesunmix.results.result",
    "Segmentation": "bayesunmix.analysis.segmentation",
    "SpectrumImage": "bayesunmix.data.image",
    "Svi": "bayesunmix.config.methods",
    "inspect": "bayesunmix.door",
    "load": "bayesunmix.data.io",
    "open_result": "bayesunmix.results.result",
    "prepare": "bayesunmix.door",
    "segment": "bayesunmix.analysis.segmentation",
    "unmix": "bayesunmix.pipeline",
    "convert": "bayesunmix.chemistry.units",
    "interval_text": "bayesunmix.core.rounding",
    "unmix_free": "bayesunmix.analysis.free_unmixing",
    "view": "bayesunmix.viewer.serve",
    "with_oxygen": "bayesunmix.chemistry.units",
}

# What draws, writes and shows objects that are made in the layers below it.
attach(
    "SpectrumImage",
    from_signal="bayesunmix.data.signals:map_of_signal",
    to_signal="bayesunmix.data.io:signal_of_image",
    __getitem__="bayesunmix.data.pixels:crop",
    rebin="bayesunmix.data.pixels:rebin",
    sum="bayesunmix.data.pixels:total",
    plot="bayesunmix.plot.image:image_figure",
)
attach(
    "Result",
    tables="bayesunmix.results.result_tables:ResultTables",
    plot="bayesunmix.plot:ResultPlots",
    region="bayesunmix.analysis.regions:region",
    profile="bayesunmix.analysis.profiles:profile",
    element_maps="bayesunmix.analysis.element_maps:element_maps",
    phase_fractions="bayesunmix.analysis.grains:phase_fractions",
    save="bayesunmix.report.files:save_result",
    to_hyperspy="bayesunmix.analysis.signals:to_hyperspy",
    view="bayesunmix.viewer.serve:view",
    onuma="bayesunmix.analysis.onuma:result_onuma",
    paper_tables="bayesunmix.report.paper:paper_tables",
    _repr_html_="bayesunmix.report.page:result_html",
)
attach("Batch", _repr_html_="bayesunmix.batches.page:batch_html")
attach("Verdict", _repr_html_="bayesunmix.report.page:verdict_html")
attach(
    "Comparison",
    tables="bayesunmix.analysis.comparison_tables:ComparisonTables",
    plot="bayesunmix.plot.comparison:comparison_figure",
    save="bayesunmix.report.comparison_files:save_comparison",
)
attach("Series", plot="bayesunmix.plot.trend:trend_figure")
attach("Onuma", plot="bayesunmix.plot.onuma:onuma_figure")


def __getattr__(name: str) -> Any:  # noqa: ANN401 - each name has its own type, declared above
    if name == "simulate":
        return import_module("bayesunmix.simulation.simulate")
    if name not in _HOME:
        raise AttributeError(f"module 'bayesunmix' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

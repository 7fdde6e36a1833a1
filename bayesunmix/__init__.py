"""Bayesian Poisson unmixing of STEM-EDS maps.

The names below load on first use, so that ``import bayesunmix`` and the command line's help stay instant.

>>> import bayesunmix as bu
>>> bu.Phase("Fp", absent=["Si", "Ca"]).absent
('Si', 'Ca')
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesunmix import simulate
    from bayesunmix.data.image import SpectrumImage
    from bayesunmix.data.io import load
    from bayesunmix.door import inspect, prepare
    from bayesunmix.errors import InputError
    from bayesunmix.freeform.unmixing import FreeUnmixing, unmix_free
    from bayesunmix.phase import Phase
    from bayesunmix.result import Result, open_result
    from bayesunmix.run import unmix
    from bayesunmix.samples.comparison import compare
    from bayesunmix.segmentation import Segmentation, segment

__version__ = "0.1.0"

__all__ = [
    "FreeUnmixing",
    "InputError",
    "Phase",
    "Result",
    "Segmentation",
    "SpectrumImage",
    "__version__",
    "compare",
    "inspect",
    "load",
    "open_result",
    "prepare",
    "segment",
    "simulate",
    "unmix",
    "unmix_free",
]

_HOME = {
    "FreeUnmixing": "bayesunmix.freeform.unmixing",
    "compare": "bayesunmix.samples.comparison",
    "InputError": "bayesunmix.errors",
    "Phase": "bayesunmix.phase",
    "Result": "bayesunmix.result",
    "Segmentation": "bayesunmix.segmentation",
    "SpectrumImage": "bayesunmix.data.image",
    "inspect": "bayesunmix.door",
    "load": "bayesunmix.data.io",
    "open_result": "bayesunmix.result",
    "prepare": "bayesunmix.door",
    "segment": "bayesunmix.segmentation",
    "unmix": "bayesunmix.run",
    "unmix_free": "bayesunmix.freeform.unmixing",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - each name has its own type, declared above
    if name == "simulate":
        return import_module("bayesunmix.simulate")
    if name not in _HOME:
        raise AttributeError(f"module 'bayesunmix' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

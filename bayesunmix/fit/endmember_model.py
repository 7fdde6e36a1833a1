"""What a run asks of a kind of endmembers: one protocol, and the one place that chooses by the configuration.

`LineModel` makes endmembers of characteristic lines and continuum; `FreeForm` fits them channel by channel and reads
compositions off them. A further kind is a class with the members of `EndmemberModel`, a name in
`bayesunmix.config.endmembers` with what it can be asked for, and a line in `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bayesunmix.config.endmembers import EndmemberName
from bayesunmix.config.methods import Method
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.free_endmembers import FreeForm
from bayesunmix.fit.line_model import LineModel
from bayesunmix.fit.model_data import Task
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start

FloatArray = npt.NDArray[np.float64]
Fitted = TypeVar("Fitted", bound=FittedPosterior)


class EndmemberModel(Protocol[Fitted]):
    """A kind of endmembers, from starting points to draws; one object serves one run."""

    @property
    def fitted_type(self) -> type[Fitted]:
        """Type of what `fit` returns: arrays and plain values, so that a run can keep it."""

    @property
    def line_density(self) -> bool:
        """Whether ``fitted.model`` and ``fitted.data`` are the line model's density.

        What makes each composition identifiable and the uncertainty budget are worked out from it, and left out without
        it. Spatial heterogeneity is looked for where `draw` gives flat vectors ``z`` of it.
        """

    def starts(self, task: Task) -> list[Start]:
        """Return starting points of `fit`; none where it finds its own."""

    def fit(self, task: Task, starts: list[Start], progress: Callable[[str], None]) -> Fitted:
        """Find the mode.

        Parameters
        ----------
        task
            What is to be fitted.
        starts
            From `starts`, or from an interrupted run.
        progress
            Told what is being done.
        """

    def draw(self, fitted: Fitted, method: Method, seed: int, progress: Callable[[float], None]) -> Drawn:
        """Draw weights of the components and spectra from the posterior around a mode.

        Parameters
        ----------
        fitted
            From `fit`.
        method
            Engine with its settings; one that `bayesunmix.config.endmembers` names for this kind.
        seed
            The same seed gives the same draws.
        progress
            Told the share that is done.
        """

    def channel_spectra(self, setup: Setup, fitted: Fitted) -> Callable[[Draws], FloatArray]:
        """Return what spreads the bins of some draws over the fitted channels: (draw, phase, channel), unit sum."""


MODELS: dict[EndmemberName, Callable[[], EndmemberModel[Any]]] = {"physics": LineModel, "free": FreeForm}


def endmember_model(name: EndmemberName) -> EndmemberModel[Any]:
    """Return the kind of endmembers of a run, by its name in the configuration."""
    return MODELS[name]()

"""What the stages of a run came to, as its result is put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bayesunmix.checks.identifiability import Known
    from bayesunmix.checks.misfit import Misfit
    from bayesunmix.checks.robust import Robust
    from bayesunmix.checks.tile_likelihood import TileLikelihood
    from bayesunmix.checks.undeclared_places import Aside
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.fit.endmember_model import EndmemberModel
    from bayesunmix.fit.further_phase import FurtherPhase
    from bayesunmix.fit.phase_number import PhaseNumber
    from bayesunmix.fit.posterior import FittedPosterior
    from bayesunmix.fit.setup import Setup
    from bayesunmix.inference.pixel_model import PixelModel
    from bayesunmix.inference.pixel_posterior import PixelPosterior


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All stages of a run.

    Attributes
    ----------
    setup, config
        What was unmixed, and how.
    model
        Kind of endmembers.
    fitted
        Its best mode.
    robust
        The draws that are reported.
    pixels
        Abundances of every pixel.
    misfit
        Regions of significant residual.
    aside, foreign
        What was set aside, and each pixel's share of counts that is of no phase, where anything was.
    models
        What the pixels were inferred with: those of the phases alone, and those of each place that was set aside.
    seed
        Of the draws.
    depends_on
        All that the numbers depend on, from `bayesunmix.results.run_facts.run_facts`.
    timings, resumed
        Seconds of each stage; stages that were kept from an interrupted run.
    known
        What is known of the posterior around the mode, where it is the line model's.
    electrons
        Electrons per pixel, where zeta-factors give a mass thickness.
    number
        Where the number of phases was inferred.
    further
        A phase that nobody asked for, where held-out counts do.
    tiles
        Log-likelihood of the map's tiles at the model's draws, where there are several.
    """

    setup: Setup
    config: RunConfig
    model: EndmemberModel[Any]
    fitted: FittedPosterior
    robust: Robust
    pixels: PixelPosterior
    misfit: Misfit
    models: tuple[PixelModel, ...]
    seed: int
    depends_on: Mapping[str, Any]
    timings: Mapping[str, float]
    resumed: Sequence[str] = ()
    known: Known | None = None
    electrons: float | None = None
    number: PhaseNumber | None = None
    further: FurtherPhase | None = None
    aside: Aside | None = None
    foreign: npt.NDArray[np.float32] | None = None
    tiles: TileLikelihood | None = None

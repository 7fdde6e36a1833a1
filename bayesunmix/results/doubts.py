"""What speaks against the numbers of a run, in sentences; `bayesunmix.results.verdict` decides what they come to.

`everything_said` collects them with those of the map and of the preparation, what matters most first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayesunmix.checks.identifiability import non_identifiable_sentences
from bayesunmix.config.endmembers import ENDMEMBERS
from bayesunmix.core.severity import VARIATION, Reservation
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.results.declared import broken_statements, exchangeable, impure_regions
from bayesunmix.results.names import against_given
from bayesunmix.results.phase_doubts import (
    left_open,
    left_out_mixtures,
    not_supported,
    one_more,
    shared_pixels_against,
    too_few_photons,
)
from bayesunmix.results.search_doubts import (
    chain_doubts,
    engine_doubts,
    not_resampled,
    other_modes,
    search_doubts,
)
from bayesunmix.results.spectra_doubts import misfit_of_spectra, unknown_absorption
from bayesunmix.results.verdict import POINT_ESTIMATE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayesunmix.checks.misfit import Misfit
    from bayesunmix.checks.robust import Robust
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.fit.posterior import FittedPosterior
    from bayesunmix.fit.setup import Setup
    from bayesunmix.results.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What is known of a run when it is judged.

    Attributes
    ----------
    setup, config, fitted, robust
        Of the run; `robust` holds the draws.
    record : RunRecord
        Diagnostics and what the checks found included.
    misfit : Misfit
        Regions of significant residual.
    maps : Dataset
        Abundances of the pixels.
    summary : DataFrame
        Compositions, as in ``composition.csv``.
    budget : Dataset or None
        Variances by source, where the line model made the mode.
    mass_thickness : str or None
        Sentence on a mass thickness that contradicts what was declared.
    """

    setup: Setup
    config: RunConfig
    fitted: FittedPosterior
    robust: Robust
    record: RunRecord
    misfit: Misfit
    maps: xr.Dataset
    summary: pd.DataFrame
    budget: xr.Dataset | None
    mass_thickness: str | None = None


def everything_said(outcome: RunOutcome) -> list[str]:
    """Collect every sentence on a run, what matters most first."""
    setup, config, fitted, record = outcome.setup, outcome.config, outcome.fitted, outcome.record
    drawn = outcome.robust.drawn
    fractions = nominal_fractions(drawn.draws.weights, np.asarray(fitted.data.yields))
    fractions = fractions.reshape(-1, *fractions.shape[2:])
    non_identifiable = record.identifiability.non_identifiable if record.identifiability else ()
    return [
        *(Reservation(POINT_ESTIMATE) for _ in range(config.inference.method == "map")),
        *too_few_photons(record.photons or {}, outcome.summary),
        *search_doubts(record.diagnostics),
        *other_modes(setup, fitted, outcome.robust),
        *chain_doubts(record.diagnostics, config),
        *engine_doubts(config, setup, drawn, record.photons or {}),
        *outcome.misfit.warnings(record.set_aside),
        *non_identifiable_sentences(
            non_identifiable,
            setup.phases,
            lines=ENDMEMBERS[config.inference.endmembers].knows_elements,
        ),
        *left_open(setup, fractions, outcome.summary, outcome.robust, non_identifiable),
        *exchangeable(setup.phases, outcome.summary, fitted.data.statements, setup.given),
        *(shared_pixels_against(record.shared_pixels) if record.shared_pixels else ()),
        *(left_out_mixtures(record.phase_number) if record.phase_number else ()),
        *not_supported(record.presence or ()),
        *(one_more(record.further_phase) if record.further_phase else ()),
        *(against_given(record, setup.forward.elements) if record.names else ()),
        *variation(outcome.robust),
        *broken_statements(setup, fitted.data.statements, fractions),
        *impure_regions(setup, outcome.maps),
        *(misfit_of_spectra(record.fit, record.discrepancy) if record.fit else ()),
        *([Reservation(outcome.mass_thickness)] if outcome.mass_thickness else []),
        *unknown_absorption(config, setup, outcome.budget),
        *not_resampled(config, drawn),
        *setup.warnings,
    ]


def variation(robust: Robust) -> list[str]:
    """Sentence on spatial heterogeneity, where intervals were widened for it."""
    found = robust.heterogeneity
    return [Reservation(found.reason, VARIATION)] if found.widened else []

"""Table ``[priors]`` of the configuration: the width of every prior of the model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from bayesunmix.core.errors import check_between
from bayesunmix.xray.priors import XrayPriors

# Wide enough for whatever can be meant; a width of zero would leave nothing to infer.
NARROWEST, WIDEST = 1e-6, 1e3


@dataclass(frozen=True, kw_only=True)
class Priors(XrayPriors):
    """Table ``[priors]``: widths of the priors, each from 1e-6 to 1000.

    Those of lines and spectrometer are the fields of `bayesunmix.xray.priors.XrayPriors`; thickness, density and
    absorption coefficients have their priors in the tables ``[sample]`` and ``[xray]``.

    Parameters
    ----------
    abundance_log_odds_sd
        Of the log-odds of the points of the abundance prior: one point may be exp(1.5) times as frequent as another.
        A choice, weak beside any map of more than a few hundred pixels.
    abundance_corner_sd
        Added in quadrature at the corners, where a pixel holds one phase alone: whether a phase has pure regions is a
        matter of its own.
    abundance_matrix_log_odds
        Mean log-odds of the corner of a phase declared ``matrix = true``, from 0 to 20.
    abundance_correlation_length
        Distance over which neighbouring points share their fortune, in standard deviations of a block's abundance.
    continuum_shared_sd
        Of the log correction of the continuum at its knots, shared by all phases: the calculated shape is trusted to a
        factor of exp(0.5).
    continuum_phase_sd
        The same for each phase by itself: minerals of similar mean atomic number share a shape to 15 %.
    stray_exponent_sd
        Of the exponent with which stray signal goes with thickness, around 0.
    counts_as_thickness_sd
        Relative, of the counts as a measure of mass thickness (dose, diffraction, shadows of the holder); joined in
        quadrature by that of the film's absorption.
    site_balance_sd
        Of the log ratio of the cation sites of a declared stoichiometry: crystal-chemical scatter, which the errors of
        the line strengths join in quadrature.
    contrast_sd
        Of the log contrast of free-form endmembers with the map's spectrum: phases differ by a factor of exp(1.5).
    contrast_scale_sd
        Of the logarithm of that scale, which is learned.
    contrast_length_fwhm
        Correlation length of the log contrast along the energy axis, in widths (FWHM) of the detector: within a line
        channels are alike.

    Raises
    ------
    InputError
        If a width is not a number in its range.

    Examples
    --------
    >>> Priors(site_balance_sd=0.1).site_balance_sd
    0.1
    """

    abundance_log_odds_sd: float = 1.5
    abundance_corner_sd: float = 2.0
    abundance_matrix_log_odds: float = 2.0
    abundance_correlation_length: float = 3.0
    continuum_shared_sd: float = 0.5
    continuum_phase_sd: float = 0.15
    stray_exponent_sd: float = 1.0
    counts_as_thickness_sd: float = 0.4
    site_balance_sd: float = 0.03
    contrast_sd: float = 1.5
    contrast_scale_sd: float = 0.5
    contrast_length_fwhm: float = 1.0

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            limits = (0.0, 20.0) if entry.name == "abundance_matrix_log_odds" else (NARROWEST, WIDEST)
            value = check_between(f"priors.{entry.name}", getattr(self, entry.name), *limits)
            object.__setattr__(self, entry.name, value)


DEFAULT_PRIORS = Priors()

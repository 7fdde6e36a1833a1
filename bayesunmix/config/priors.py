"""Table ``[priors]`` of the configuration: the width of every prior of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bayesunmix.config.validated import validated
from bayesunmix.core.limits import Between
from bayesunmix.xray.priors import Width, XrayPriors


@validated("priors")
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
    abundance_apart_log_odds
        By how much lower they are, on average, where phases share a pixel without the declared matrix, from 0 to 20.
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
        Of the log ratio of the sites of a declared stoichiometry, where the phase has no `tolerance` of its own:
        crystal-chemical scatter, which the errors of the line strengths join in quadrature.
    richer_sd
        Of the contrast (difference over sum) of an element between a phase declared rich or poor in it and each other
        one, below zero: by how much such a statement may be wrong.
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

    abundance_log_odds_sd: Width = 1.5
    abundance_corner_sd: Width = 2.0
    abundance_matrix_log_odds: Annotated[float, Between(0.0, 20.0)] = 2.0
    abundance_apart_log_odds: Annotated[float, Between(0.0, 20.0)] = 4.0
    abundance_correlation_length: Width = 3.0
    continuum_shared_sd: Width = 0.5
    continuum_phase_sd: Width = 0.15
    stray_exponent_sd: Width = 1.0
    counts_as_thickness_sd: Width = 0.4
    site_balance_sd: Width = 0.03
    richer_sd: Width = 0.1
    contrast_sd: Width = 1.5
    contrast_scale_sd: Width = 0.5
    contrast_length_fwhm: Width = 1.0


DEFAULT_PRIORS = Priors()

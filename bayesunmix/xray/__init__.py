"""X-ray physics: what atoms emit, what the film absorbs, what the detector makes of it."""

from bayesunmix.xray.absorption import (
    absorption_depth,
    absorption_slope,
    as_oxides,
    mass_absorption_coefficient,
    mixture_absorption_coefficient,
    thin_film_factor,
    weight_fractions,
)
from bayesunmix.xray.atomic import atomic_number, atomic_weight
from bayesunmix.xray.axis_fit import AxisFit, fit_axis
from bayesunmix.xray.continuum import bremsstrahlung, continuum_basis
from bayesunmix.xray.detector import POLYMER_WINDOW, WINDOWLESS, Detector, Layer, channel_edges
from bayesunmix.xray.ionisation import ionisation_cross_section
from bayesunmix.xray.lines import Line, LineTable
from bayesunmix.xray.refinement import Refinement, refine
from bayesunmix.xray.response import Response

__all__ = [
    "POLYMER_WINDOW",
    "WINDOWLESS",
    "AxisFit",
    "Detector",
    "Layer",
    "Line",
    "LineTable",
    "Refinement",
    "Response",
    "absorption_depth",
    "absorption_slope",
    "as_oxides",
    "atomic_number",
    "atomic_weight",
    "bremsstrahlung",
    "channel_edges",
    "continuum_basis",
    "fit_axis",
    "ionisation_cross_section",
    "mass_absorption_coefficient",
    "mixture_absorption_coefficient",
    "refine",
    "thin_film_factor",
    "weight_fractions",
]

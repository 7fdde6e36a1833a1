"""Coverage where the model is wrong: phantoms drawn from physics that the inference does not know.

The embedded phantom of `phantom_coverage`, with line strengths and mass thickness off by draws of their priors unless
the kind itself replaces them, and one thing besides that the configuration of the inference does not say.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from phantom_coverage import overall_row, phantom, show

from bayesunmix.config.run_config import RunConfig
from bayesunmix.laboratory.maps import coverage_of, one_run
from bayesunmix.simulation.simulate import Source
from bayesunmix.xray import Response

LEAST = {"composition": 0.85, "partition": 0.90}
PLURAL = {"composition": "compositions", "partition": "partition coefficients"}
MANY, FEW = 6, 1
TABLE = "espm_lines_200keV.json"
# Width law of the simulator of espm 1.1.3: full width at half maximum in keV, at 0 keV and per keV.
WIDTH_KEV, WIDTH_SLOPE = 0.065, 0.01
K_FACTOR_SD = 0.10
SHIFT_KEV = 0.003
BEND_EV = (0.0, 0.0, 4.0, 0.0, 0.0)
# Sensor with a tail, the escape peaks that theory says, and 0.3 % and 0.1 % pile-up with O K and Si K photons.
SATELLITES = {
    "collection_depth_um": 0.1,
    "surface_collection": 0.5,
    "escape": 1.0,
    "pile_up": ((0.525, 0.003), (1.740, 0.001)),
}
THICKNESS_FACTORS = (1.5, 0.5)
UNDECLARED, UNDECLARED_SHARE = "Co", 0.001


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way in which the model is wrong.

    Parameters
    ----------
    what
        The same in words.
    drawn
        What the map is drawn from, given what the inference is told.
    departure
        Physics of the map that no configuration can say, given the nominal physics and the seed.
    calibration_error
        Draw line strengths and mass thickness from their priors, too.
    """

    what: str
    drawn: Callable[[RunConfig, Options], RunConfig] | None = None
    departure: Callable[[Source, int], Source] | None = None
    calibration_error: bool = True

    @property
    def folder(self) -> str:
        """Name of the folder that keeps its maps."""
        return "wrong_model_" + re.sub(r"\W+", "_", self.what)


class LinearWidth(Response):
    """Response whose peaks widen in proportion to the energy, whatever noise and Fano factor say."""

    def fwhm_keV(self, energy_keV: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the full width at half maximum of a line at true energies in keV."""
        return WIDTH_KEV + WIDTH_SLOPE * np.maximum(np.asarray(energy_keV, dtype=np.float64), 0.0)


def rows(options: Options) -> list[Row]:
    """Three rows for every kind; the table of every phase and element is printed on the way."""
    found = []
    for kind in KINDS:
        try:
            found += kind_rows(kind, options)
        except FileNotFoundError as error:
            found.append(Row(kind.what, "runs", f"not run: {error}", None))
    return found


def kind_rows(kind: Kind, options: Options) -> list[Row]:
    """Rows of one kind: coverage of compositions and of partition coefficients, and the runs' own verdicts."""
    seeds = range(FEW if options.quick else MANY)
    told = phantom("laplace", calibration_error=kind.calibration_error)
    drawn = kind.drawn(told, options) if kind.drawn else None
    run = partial(one_run, told, drawn=drawn, departure=kind.departure)
    title = f"{kind.what}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    table, failures = coverage_of(
        run, seeds, options.work / kind.folder, facts={"maps": kind.folder}, processes=options.processes
    )
    show(title, table)
    return [
        *(
            overall_row(f"{title}: {PLURAL[quantity]}", table[table["quantity"] == quantity], least)
            for quantity, least in LEAST.items()
        ),
        verdict_row(title, len(seeds), table, failures),
    ]


def verdict_row(title: str, n_seeds: int, table: pd.DataFrame, failures: list[str]) -> Row:
    """Row of the seeds that fail, which none may, or that say not to trust them, which a wrong model may cause."""
    finished = table["seed"].nunique()
    suspect = {failure.split(":")[0] for failure in failures}
    measured = f"{finished} of {n_seeds} finish, {n_seeds - len(suspect)} of them trusted"
    said = f" ({'; '.join(failures)})" if failures else ""
    return Row(f"{title}: own verdict", "all finish", measured + said, bool(finished == n_seeds))


def linear_width(source: Source, seed: int) -> Source:
    """Make peak widths linear in energy."""
    return dataclasses.replace(source, response=LinearWidth(**vars(source.response)))


def other_table(told: RunConfig, options: Options) -> RunConfig:
    """Take line strengths and positions from another table."""
    return dataclasses.replace(told, xray=dataclasses.replace(told.xray, table=options.file(TABLE)))


def k_factor_errors(source: Source, seed: int) -> Source:
    """Draw the strength of every family with an sd of 10 %, that of K families too, whose prior has 5 %."""
    off = np.exp(np.random.default_rng([seed, 1]).normal(0.0, K_FACTOR_SD, len(source.factors)))
    return dataclasses.replace(source, factors=dict(zip(source.factors, off.tolist(), strict=True)))


def with_response(source: Source, seed: int, **changes: object) -> Source:
    """Change fields of the response."""
    return dataclasses.replace(source, response=dataclasses.replace(source.response, **changes))


def shifted_axis(source: Source, seed: int) -> Source:
    """Shift the axis, on top of the offset that every simulated map has."""
    return with_response(source, seed, offset_keV=source.response.offset_keV + SHIFT_KEV)


def wrong_thickness(source: Source, seed: int) -> Source:
    """Make the film half as thick again as its prior says, or half as thick, in place of a draw of the prior."""
    factor = THICKNESS_FACTORS[seed % len(THICKNESS_FACTORS)]
    thickness, sd = source.film.thickness_nm
    film = dataclasses.replace(source.film, thickness_nm=(thickness / source.mass_thickness * factor, sd))
    return dataclasses.replace(source, film=film, mass_thickness=factor)


def undeclared_element(told: RunConfig, options: Options) -> RunConfig:
    """Put an element into the map that nothing declares."""
    if told.simulate is None:
        raise ValueError("the phantom says how it is simulated")
    return dataclasses.replace(
        told,
        sample=dataclasses.replace(told.sample, stray=(*told.sample.stray, UNDECLARED)),
        simulate=dataclasses.replace(
            told.simulate, stray={**told.simulate.stray, UNDECLARED: UNDECLARED_SHARE}
        ),
    )


KINDS = (
    Kind("peak widths linear in energy", departure=linear_width),
    # What the two tables differ by stands in for a draw of the calibration errors.
    Kind("lines of another table", drawn=other_table, calibration_error=False),
    Kind("k-factors 10 % off", departure=k_factor_errors),
    Kind("axis shifted by 3 eV", departure=shifted_axis),
    Kind("film 1.5 or 0.5 times as thick", departure=wrong_thickness),
    Kind("axis bent by 4 eV at 4 keV", departure=partial(with_response, bend_eV=BEND_EV)),
    Kind("detector with tail, escape peaks and pile-up", departure=partial(with_response, **SATELLITES)),
    Kind("0.1 % of the counts from undeclared Co", drawn=undeclared_element),
)

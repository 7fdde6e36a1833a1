"""Onuma diagrams: partition coefficients over ionic radius, charge by charge, and the lattice strain model.

A partition coefficient between a crystal and a melt falls off parabolically, on a logarithmic scale, with the misfit of
the ion on its site (Onuma, N., et al., Earth Planet. Sci. Lett. 5 (1968) 47, doi:10.1016/S0012-821X(68)80010-X).
Between two crystals D is the ratio of two such curves: the fitted site is then that of the numerator seen against the
denominator, a description rather than a property of the crystal.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesunmix.analysis.matching import check_phase
from bayesunmix.chemistry.ionic_radii import GIVEN, Radius, check_coordination, ionic_radius, usual_valence
from bayesunmix.chemistry.stoichiometry import AMPHOTERIC, NEITHER, SMALL, check_elements
from bayesunmix.core.attached import Attached
from bayesunmix.core.credible import health, interval
from bayesunmix.core.errors import (
    InputError,
    check_integer,
    check_mapping,
    check_positive,
    check_seed,
    shown,
    unknown_keyword,
    warn,
)
from bayesunmix.core.summary import Summarised, Summary

if TYPE_CHECKING:
    from bayesunmix.inference.hierarchical import ModelSampler
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

PARAMETERS = 3  # D0, E and r0
RHAT_LIMIT = 1.01
# A host ion larger than this in 6-fold coordination makes a 12-fold site; a smaller one, beside silicon, an 8-fold one.
LARGE_HOST_A = 0.9
SILICATE_SHARE = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class StrainFit:
    """Lattice strain model of the ions of one charge.

    Attributes
    ----------
    valence : int
    elements : tuple of str
    d0, modulus_GPa, site_radius_A : (draw,)
    rhat : float
        Largest of the three.
    divergences : int
    """

    valence: int
    elements: tuple[str, ...]
    d0: FloatArray
    modulus_GPa: FloatArray
    site_radius_A: FloatArray
    rhat: float
    divergences: int

    def curve(self, radius_A: FloatArray, temperature_K: float) -> FloatArray:
        """Draws of D at some radii, (draw, radius)."""
        from bayesunmix.models.lattice_strain import log_strain_ratio

        log_ratio = log_strain_ratio(
            np.asarray(radius_A, dtype=np.float64)[None, :],
            np.log(self.d0)[:, None],
            self.modulus_GPa[:, None],
            self.site_radius_A[:, None],
            temperature_K,
        )
        return np.asarray(np.exp(log_ratio))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Onuma(Summarised):
    """D over ionic radius of one pair of phases.

    Attributes
    ----------
    numerator, denominator : str
    host : str
        Ion whose radius is the prior of the site's.
    coordination : int
        Of the site in the numerator.
    temperature_K : float or None
    table : DataFrame
        One row for each element: valence, coordination, radius_A, radius_sd_A, radius_source, median, lower, upper,
        level, kind.
    fits : tuple of StrainFit
        One for each charge with enough elements, where a temperature was given.
    notes : tuple of str
        Why there is no fit, and which elements have no radius.
    level : float
    """

    numerator: str
    denominator: str
    host: str
    coordination: int
    temperature_K: float | None
    table: pd.DataFrame
    fits: tuple[StrainFit, ...]
    notes: tuple[str, ...]
    level: float

    def parameters(self) -> pd.DataFrame:
        """Fitted D0, E (GPa) and r0 (Angstrom) with their intervals, one row for each charge."""
        rows = []
        for fit in self.fits:
            row: dict[str, object] = {"valence": fit.valence, "elements": " ".join(fit.elements)}
            for name, draws in (("D0", fit.d0), ("E_GPa", fit.modulus_GPa), ("r0_A", fit.site_radius_A)):
                lower, upper = interval(draws, self.level)
                row |= {f"{name}_median": float(np.median(draws))}
                row |= {f"{name}_lower": float(lower), f"{name}_upper": float(upper)}
            rows.append(row | {"level": self.level, "rhat": fit.rhat, "divergences": fit.divergences})
        columns = [
            f"{name}_{end}" for name in ("D0", "E_GPa", "r0_A") for end in ("median", "lower", "upper")
        ]
        return pd.DataFrame(rows, columns=["valence", "elements", *columns, "level", "rhat", "divergences"])

    def _summary(self) -> Summary:
        title = f"Onuma diagram of D({self.numerator}/{self.denominator}), {self.coordination}-fold site of {self.host}"
        columns = ["element", "valence", "radius_A", "kind", "median", "lower", "upper"]
        tables = [self.table[columns], *([self.parameters()] if self.fits else [])]
        printed = [table.to_string(index=False, float_format="{:.3g}".format) for table in tables]
        return Summary(title, lines=(*printed, *self.notes))

    plot = Attached()
    """The diagram: `bayesunmix.plot.onuma.onuma_figure`."""


def onuma(
    result: Result,
    numerator: str,
    denominator: str,
    *,
    coordination: int | None = None,
    valences: Mapping[str, int] | None = None,
    radii_A: Mapping[str, float] | None = None,
    elements: Sequence[str] | None = None,
    host: str | None = None,
    temperature_K: float | None = None,
    seed: int = 0,
) -> Onuma:
    """Set partition coefficients against ionic radii; with a temperature, fit the lattice strain model to each charge.

    Parameters
    ----------
    result
        Result of a run.
    numerator, denominator
        Phases; D is by atom fraction.
    coordination
        Of the site in the numerator: 6, 8, 9 or 12. Left out, it follows from the host: 12 for one as large as Ca, 8
        for a smaller one in a silicate (the A site of bridgmanite), 6 otherwise.
    valences
        Charges where they are not the usual ones, ``{"Fe": 3}``.
    radii_A
        Radii that replace the table's, such as that of low-spin iron.
    elements
        Elements to show; all but oxygen when left out.
    host
        Ion whose site it is; the most abundant large cation of the numerator when left out.
    temperature_K
        Temperature of equilibration; none, no fit.
    seed
        Seed of the sampler.

    Raises
    ------
    InputError
        If a phase or element is unknown, or a number cannot be.
    """
    check_phase("numerator", numerator, result.sample_phases)
    check_phase("denominator", denominator, result.sample_phases)
    if numerator == denominator:
        raise InputError("denominator", "be another phase than the numerator", f"is {shown(denominator)}")
    temperature = None if temperature_K is None else check_positive("temperature_K", temperature_K)
    seed = check_seed(seed)
    chosen = _chosen(result, elements)
    site = _host(result, numerator, host)
    charges = _charges(result, chosen, site, _given(result, "valences", valences))
    number = (
        _usual_coordination(result, numerator, site, charges[site])
        if coordination is None
        else check_coordination(coordination)
    )
    radii, notes = _radii(chosen, charges, number, _checked_radii(result, radii_A))
    table = _table(
        result=result,
        numerator=numerator,
        denominator=denominator,
        radii=radii,
        charges=charges,
        coordination=number,
    )
    fits: tuple[StrainFit, ...] = ()
    if temperature is not None:
        site_radius = _site_radius(site, charges[site], number, radii)
        fits, said = _fit_all(
            result=result,
            pair=(numerator, denominator),
            table=table,
            radii=radii,
            site_radius_A=site_radius,
            temperature_K=temperature,
            seed=seed,
        )
        notes += said
    for note in notes:
        warn(note)
    return Onuma(
        numerator=numerator,
        denominator=denominator,
        host=site,
        coordination=number,
        temperature_K=temperature,
        table=table,
        fits=fits,
        notes=tuple(notes),
        level=result.level,
    )


def result_onuma(result: Result, numerator: str, denominator: str, **options: Any) -> Onuma:  # noqa: ANN401
    """Partition coefficients over ionic radius, as ``result.onuma``: see `onuma` for the options.

    Raises
    ------
    InputError
        If an option is unknown, or `onuma` cannot use one.
    """
    known = tuple(inspect.signature(onuma).parameters)[3:]
    for name in options:
        if name not in known:
            raise unknown_keyword(name, known)
    return onuma(result, numerator, denominator, **options)


def _chosen(result: Result, elements: Sequence[str] | None) -> list[str]:
    if elements is None:
        return [element for element in result.elements if element not in NEITHER]
    for element in check_elements("elements", elements):
        if element not in result.elements:
            raise InputError(
                "elements", f"be among those of the result ({', '.join(result.elements)})", f"holds {element}"
            )
    return list(elements)


def _host(result: Result, phase: str, host: str | None) -> str:
    """Return the most abundant large cation of a phase, or the one that the user says."""
    if host is not None:
        if not isinstance(host, str) or host not in result.elements:
            raise InputError(
                "host", f"be one of the elements {', '.join(result.elements)}", f"is {shown(host)}"
            )
        return host
    mean = result.composition().sel(phase=phase).mean(["chain", "draw"])
    large = [e for e in result.elements if e not in SMALL | AMPHOTERIC | NEITHER]
    if not large:
        raise InputError("host", f"be one of the elements, as {phase} has no large cation", "was not given")
    return max(large, key=lambda element: float(mean.sel(element=element)))


def _charges(result: Result, shown: Sequence[str], host: str, given: Mapping[str, int]) -> dict[str, int]:
    return {
        element: check_integer(f"valences.{element}", given[element], low=1, high=8)
        if element in given
        else usual_valence(element)
        for element in dict.fromkeys((*shown, host))
    }


def _checked_radii(result: Result, radii_A: object) -> dict[str, float]:
    given = _given(result, "radii_A", radii_A)
    return {element: check_positive(f"radii_A.{element}", value) for element, value in given.items()}


def _given(result: Result, field: str, value: object) -> Mapping[str, Any]:
    """Return a table by element of what the user says, or raise `InputError`."""
    given = {} if value is None else check_mapping(field, value, '{"Fe": 3}')
    for element in given:
        if element not in result.elements:
            raise InputError(
                field, f"name elements of the result ({', '.join(result.elements)})", f"has {shown(element)}"
            )
    return given


def _usual_coordination(result: Result, phase: str, host: str, charge: int) -> int:
    radius = ionic_radius(host, charge, 6)
    if radius is not None and radius.value_A > LARGE_HOST_A:
        return 12
    silicon = 0.0
    if "Si" in result.elements:
        silicon = float(result.composition().sel(phase=phase, element="Si").mean())
    return 8 if silicon > SILICATE_SHARE else 6


def _site_radius(host: str, charge: int, coordination: int, radii: Mapping[str, Radius]) -> float:
    radius = radii.get(host) or ionic_radius(host, charge, coordination)
    if radius is None:
        raise InputError("host", f"have a radius in {coordination}-fold coordination", f"is {shown(host)}")
    return radius.value_A


def _radii(
    shown: Sequence[str], charges: Mapping[str, int], coordination: int, given: Mapping[str, float]
) -> tuple[dict[str, Radius], list[str]]:
    """Radii of the elements that have one, and a note on those that have none."""
    found, missing = {}, []
    for element in shown:
        radius = (
            Radius(given[element], 0.0, GIVEN)
            if element in given
            else ionic_radius(element, charges[element], coordination)
        )
        if radius is None:
            missing.append(f"{element}{charges[element]}+")
        else:
            found[element] = radius
    notes = []
    if missing:
        names = ", ".join(missing)
        notes.append(f"No radius is known in {coordination}-fold coordination, left out: {names}.")
    return found, notes


def _table(
    result: Result,
    numerator: str,
    denominator: str,
    radii: Mapping[str, Radius],
    charges: Mapping[str, int],
    coordination: int,
) -> pd.DataFrame:
    ratios = result.tables.partition()
    pair = (ratios["numerator"] == numerator) & (ratios["denominator"] == denominator)
    ratios = ratios[pair].set_index("element")
    rows = []
    for element, radius in radii.items():
        ratio = ratios.loc[element]
        rows.append(
            {
                "element": element,
                "numerator": numerator,
                "denominator": denominator,
                "valence": charges[element],
                "coordination": coordination,
                "radius_A": radius.value_A,
                "radius_sd_A": radius.sd_A,
                "radius_source": radius.source,
                "median": ratio["median"] if ratio["kind"] == "interval" else np.nan,
                "lower": ratio["lower"],
                "upper": ratio["upper"],
                "level": result.level,
                "kind": ratio["kind"],
            }
        )
    table = pd.DataFrame(rows)
    return table.sort_values(["valence", "radius_A"], ignore_index=True) if rows else table


def _fit_all(
    result: Result,
    pair: tuple[str, str],
    table: pd.DataFrame,
    radii: Mapping[str, Radius],
    site_radius_A: float,
    temperature_K: float,
    seed: int,
) -> tuple[tuple[StrainFit, ...], list[str]]:
    """Fit every charge that has at least as many intervals as parameters, and say which has not."""
    fits, notes = [], []
    for valence, group in table.groupby("valence"):
        known = group[group["kind"] == "interval"]
        if len(known) < PARAMETERS:
            notes.append(
                f"Charge {valence}+: {len(known)} element{'' if len(known) == 1 else 's'} with an interval, fewer than "
                f"the {PARAMETERS} parameters of the lattice strain model: intervals only."
            )
            continue
        elements = [str(element) for element in known["element"]]
        fits.append(
            _fit(
                result=result,
                pair=pair,
                elements=elements,
                radii=radii,
                valence=int(str(valence)),
                site_radius_A=site_radius_A,
                temperature_K=temperature_K,
                seed=seed,
            )
        )
        if fits[-1].divergences or fits[-1].rhat > RHAT_LIMIT:
            notes.append(
                f"Charge {valence}+: the sampler of the lattice strain model has {fits[-1].divergences} divergences "
                f"and R-hat {fits[-1].rhat:.3f}."
            )
    return tuple(fits), notes


def _fit(
    result: Result,
    pair: tuple[str, str],
    elements: list[str],
    radii: Mapping[str, Radius],
    valence: int,
    site_radius_A: float,
    temperature_K: float,
    seed: int,
) -> StrainFit:
    from bayesunmix.analysis.series import measured_ratios, stacked
    from bayesunmix.models.lattice_strain import StrainData, modulus_prior_GPa

    draws = result.composition().transpose("chain", "draw", "phase", "element").sel(element=elements)
    top, bottom = (draws.sel(phase=name).values.reshape(-1, len(elements)) for name in pair)
    measured = stacked([measured_ratios(top, bottom, np.full(len(elements), "interval"))])
    data = StrainData(
        measured=measured,
        radius_A=np.array([radii[element].value_A for element in elements]),
        radius_sd_A=np.array([radii[element].sd_A for element in elements]),
        site_radius_A=site_radius_A,
        modulus_GPa=modulus_prior_GPa(valence, site_radius_A),
        temperature_K=temperature_K,
    )
    drawn = _sampler().draw(data, seed + valence)
    judged = np.stack([drawn.draws[name] for name in ("log_d0", "modulus_GPa", "site_radius")], axis=-1)
    rhat = float(np.nanmax(health(judged)[0]))
    log_d0, modulus, site = judged.reshape(-1, 3).T
    return StrainFit(
        valence=valence,
        elements=tuple(elements),
        d0=np.exp(log_d0),
        modulus_GPa=modulus,
        site_radius_A=site,
        rhat=rhat,
        divergences=drawn.divergences,
    )


@lru_cache(maxsize=1)
def _sampler() -> ModelSampler:
    from bayesunmix.inference.hierarchical import ModelSampler
    from bayesunmix.models.lattice_strain import strain_model

    return ModelSampler(strain_model)

"""What each declaration does for each composition: taken back, and one more given, locally around the mode.

Everything is a statement about the Gaussian posterior Normal(mean, V) of `bayesunmix.checks.local_posterior`.

A declaration taken back:

* ``absent``: the weights w that it holds at zero become parameters, w >= 0. With the gradient g of the negative log
  posterior with respect to them at zero, their curvature h and the cross curvature c with the others,

      w ~ Normal(-kappa^-1 (g - c^T V g_0), kappa^-1) truncated at zero,     kappa = h - c^T V c + 1,
      all other parameters move by -V c w

  (g_0 is the gradient of the others in these coordinates, the 1 a normal prior as wide as the phase's whole counts,
  without which a weight that nothing holds would have no end). The elements of a phase are taken back together: one
  alone is often held by the others.
* ``stoichiometry``, ``composition``, ``reference``: statements that are missed by r of their sd, with slopes b in
  the same unit, are taken out of precision and gradient. Of one, V' = V + V b b^T V / (1 - b^T V b), and the mean moves
  by V' b r. Where b^T V b reaches 1 the statement is all that is known in this direction. Several of one declaration
  are turned to directions in which B^T V B is diagonal, and taken out one by one.
* ``matrix``: the prior means of the log-odds of the pure phase, and of mixtures without it, fall back to those of any
  other support point: the mean moves by -V a, a = L^-1 d, d the differences, L the factor of the covariance. The
  variance stays, and so do the support points: those that the declaration takes away are not given back.

A declaration more, about something that does not contradict the counts:

* ``absent`` of an element of which there is little or nothing: its weight becomes zero, V' = V - V e e^T V / e^T V e;
* ``stoichiometry`` of an oxide without one, where its site ratio is within two standard deviations of the formula's,
  or ``composition`` of its main elements, if they were known: V' = V - V b b^T V / (1 + b^T V b);
* ``reference`` of a phase without one, a spectrum that says what the counts say and leaves its default tolerance, the
  same with several b at once: V' = V - V B^T (1 + B V B^T)^-1 B V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bayesunmix.checks.local_posterior import LocalPosterior, composition_slopes, quadratic
from bayesunmix.config.phase import Phase, hosts
from bayesunmix.config.reference import DEFAULT_TOLERANCE, Reference
from bayesunmix.core.errors import InputError
from bayesunmix.fit.model_data import flat_model
from bayesunmix.fit.reference_fit import MINOR, ReferenceComposition
from bayesunmix.fit.statements import statements_on
from bayesunmix.inference.laplace import softplus_slope, truncated_normal_draws
from bayesunmix.models.abundance import log_odds_mean
from bayesunmix.models.statements import KEYS, Statements, chosen, missed

FloatArray = npt.NDArray[np.float64]

# Where the curvature of a freed weight is taken, in its own standard deviations with all else known: near zero.
STEP = 0.1
DRAWS = 2000
# Elements of a phase that it is asked what knowing would do: its few main ones, to so many per cent of their amounts.
MOST_MAIN, MAIN = 3, 0.05
KNOWN_SD, LEAST_KNOWN_SD = 0.05, 0.005
# Formulas that are tried on phases without one.
FORMULAS = ("ABO3", "A2BO4", "AB2O4", "A3B2O7")
CONSISTENT_SD = 2.0


@dataclass(frozen=True, kw_only=True)
class Change:
    """What compositions would be with one declaration less, or one more.

    Attributes
    ----------
    phase : str
        Phase that the declaration is about.
    declaration : str
        As in a configuration: ``absent = ["Si", "Ca"]``, ``stoichiometry = "ABO3"``, ``matrix = true``.
    elements : tuple of str
        Elements that it declares absent.
    shift : (phase, element)
        Change of the atom fractions' mean.
    variance : (phase, element)
        Variance of the atom fractions then, calibration left out; infinite where nothing else holds them.
    """

    phase: str
    declaration: str
    elements: tuple[str, ...]
    shift: FloatArray
    variance: FloatArray


def taken_back(
    local: LocalPosterior, phases: Sequence[Phase], elements: Sequence[str], seed: int = 0
) -> list[Change]:
    """Return what each declaration does: compositions without it.

    Parameters
    ----------
    local : LocalPosterior
    phases : sequence of Phase
        What was declared.
    elements : sequence of str
        Declared elements, in the order of the model.
    seed : int
        Of the draws of the freed weights.
    """
    declared = {
        k: [elements.index(name) for name in phase.absent if name in elements]
        for k, phase in enumerate(phases)
    }
    places = np.array([(k, i) for k, absent in declared.items() for i in absent], int).reshape(-1, 2)
    found = []
    if len(places):
        freed = _freed(local, places)
        for k, absent in declared.items():
            if absent:
                names = tuple(elements[i] for i in absent)
                text = "absent = [" + ", ".join(f'"{name}"' for name in names) + "]"
                shift, variance = freed.without(places[:, 0] == k, seed)
                found.append(
                    Change(
                        phase=phases[k].name, declaration=text, elements=names, shift=shift, variance=variance
                    )
                )
    statements = local.data.statements
    for k, key in dict.fromkeys(zip(statements.phase.tolist(), statements.key.tolist(), strict=True)):
        # Which phase is the richer one tells names apart, and amounts hardly.
        if KEYS[key] in ("rich", "poor"):
            continue
        own = (statements.phase == k) & (statements.key == key)
        found.append(_without_statements(local, phases[k], KEYS[key], chosen(statements, own)))
    for k, phase in enumerate(phases):
        if phase.matrix:
            found.append(_without_matrix(local, k, phases))
    return found


def given_more(
    local: LocalPosterior,
    phases: Sequence[Phase],
    elements: Sequence[str],
    present: npt.NDArray[np.bool_],
    calibration_sd: FloatArray,
    *,
    oxides: bool = True,
) -> list[Change]:
    """Return what further declarations would do, each by itself.

    Parameters
    ----------
    local : LocalPosterior
    phases : sequence of Phase
    elements : sequence of str
    present : (phase, element)
        Elements that nobody would declare absent: those whose absence would contradict the counts, and those that may
        be main ones.
    calibration_sd : (element,)
        Relative errors of the line strengths, which widen a statement.
    oxides : bool
        Whether formulas of oxides are asked for.
    """
    found = []
    slopes = local.slopes()
    for place, (k, i) in enumerate(np.asarray(local.data.free)):
        if i < len(elements) and not present[k, i] and not phases[k].is_support:
            text = f'absent = ["{elements[i]}"]'
            shift, variance = _emptied(local, slopes, local.lines.start + place)
            found.append(
                Change(
                    phase=phases[k].name,
                    declaration=text,
                    elements=(elements[i],),
                    shift=shift,
                    variance=variance,
                )
            )
    for k, phase in enumerate(phases):
        if phase.is_support:
            continue
        x = local.atom_fractions[k]
        formulas = FORMULAS if oxides and phase.stoichiometry is None else ()
        told = [Phase(phase.name, stoichiometry=formula) for formula in formulas]
        main = [i for i in np.argsort(-x)[:MOST_MAIN] if x[i] > MAIN and elements[i] not in phase.composition]
        # Of a known amount nothing but its width is known before: that of the posterior is as good as any.
        known = {elements[i]: (float(x[i]), max(KNOWN_SD * float(x[i]), LEAST_KNOWN_SD)) for i in main}
        told += [Phase(phase.name, composition={element: pair}) for element, pair in known.items()]
        for one in told:
            found += _with_statement(local, k, one, phases, elements, calibration_sd)
        if phase.reference is None and np.count_nonzero(x) > 1:
            found.append(_with_reference(local, k, phases, elements))
    return found


@dataclass(frozen=True, kw_only=True)
class _Freed:
    """Gradient and curvature of weights that are declared zero, had they been parameters.

    Attributes
    ----------
    local : LocalPosterior
    gradient : (place,)
    curvature : (place, place)
    cross : (dim, place)
    slopes : (phase, element, place)
        Derivative of the atom fractions with respect to the freed weights.
    """

    local: LocalPosterior
    gradient: FloatArray
    curvature: FloatArray
    cross: FloatArray
    slopes: FloatArray

    def without(self, chosen: npt.NDArray[np.bool_], seed: int) -> tuple[FloatArray, FloatArray]:
        """Shift and variance of the atom fractions when the chosen weights are free."""
        local, cross = self.local, self.cross[:, chosen]
        response = local.covariance @ cross
        precision = self.curvature[np.ix_(chosen, chosen)] - cross.T @ response + np.eye(int(chosen.sum()))
        values, vectors = np.linalg.eigh(precision)
        covariance = (vectors / np.maximum(values, 1.0)) @ vectors.T
        mean_of_others = local.mean - _mode(local)
        pull = self.gradient[chosen] + cross.T @ mean_of_others
        generator = np.random.default_rng([seed, 30])
        weights = truncated_normal_draws(-covariance @ pull, covariance, DRAWS, generator)
        change = self.slopes[..., chosen] - np.einsum("kel,lp->kep", local.slopes(), response[local.lines])
        moved = np.einsum("kep,np->nke", change, weights)
        return moved.mean(axis=0), quadratic(
            local.slopes(), local.covariance[local.lines, local.lines]
        ) + moved.var(axis=0)


def _freed(local: LocalPosterior, places: npt.NDArray[np.int64]) -> _Freed:
    """Free some weights: gradient and curvature by automatic differentiation of the model that has them."""
    data = local.data
    strength = np.abs(local.derivatives[places[:, 0], places[:, 1]]).sum(axis=1)
    counts = float(data.pixels.counts.sum(dtype=np.float64))
    scale = 1.0 / (np.maximum(strength, 1e-3) * np.sqrt(max(counts, 1.0)))
    more = data._replace(free=np.concatenate([data.free, places]), scale=np.concatenate([data.scale, scale]))
    model = flat_model(more)
    own, new = local.lines, np.arange(len(places)) + local.lines.stop
    z = np.insert(local.z, local.lines.stop, np.log(np.expm1(np.full(len(places), STEP))))

    placed = model.placed(more)
    gradient = model.value_and_gradient(z, placed)[1]
    columns = model.hessian_rows(z, placed, new)
    # From z to the weights themselves, as in `bayesunmix.inference.laplace`: w = scale softplus(z).
    slope = np.ones(len(z))
    slope[own] = softplus_slope(z[own])
    slope[new] = softplus_slope(z[new])
    g = (gradient[new] + 1.0 - slope[new]) / slope[new]
    curvature = columns / slope[new][:, None] / slope
    curvature[np.arange(len(new)), new] -= (1.0 - slope[new]) * (1.0 + g) / slope[new]
    h = curvature[:, new] / np.outer(scale, scale)
    others = np.delete(np.arange(len(z)), new)
    step = STEP * scale
    return _Freed(
        local=local,
        gradient=g / scale - h @ step,
        curvature=0.5 * (h + h.T),
        cross=(curvature[:, others] / scale[:, None]).T,
        slopes=composition_slopes(data, local.atom_fractions, local.weights, places),
    )


def _mode(local: LocalPosterior) -> FloatArray:
    """Return the mode in y."""
    y = local.z.copy()
    y[local.lines] = np.logaddexp(0.0, y[local.lines])
    return y


def _without_statements(local: LocalPosterior, phase: Phase, key: str, statements: Statements) -> Change:
    """Take back the statements that follow from one declaration on a phase."""
    b, r = local.along(statements), missed(statements, local.atom_fractions)
    slopes = local.slopes()
    covariance = local.covariance
    variance = quadratic(slopes, covariance[local.lines, local.lines])
    held, turn = np.linalg.eigh(b @ covariance @ b.T)
    shift, more = np.zeros_like(variance), np.zeros_like(variance)
    for direction, residual, known in zip(turn.T @ b, turn.T @ r, held, strict=True):
        along = slopes @ (covariance @ direction)[local.lines]
        # What else holds this direction is less than a hundredth of what the statement does: nothing can be said.
        if 1.0 - known > 0.01:
            more += along**2 / (1.0 - known)
            shift += along * residual / (1.0 - known)
        else:
            more[np.abs(along) > 1e-3 * np.sqrt(variance * known)] = np.inf
    return Change(
        phase=phase.name,
        declaration=declaration_text(phase, key),
        elements=(),
        shift=shift,
        variance=variance + more,
    )


def declaration_text(phase: Phase, key: str) -> str:
    """Return what is declared of a phase by a key, as in a configuration; of a reference its file alone."""
    value = getattr(phase, key)
    if isinstance(value, str | Reference):
        return f'{key} = "{value}"'
    if isinstance(value, dict):
        pairs = (f"{element} = [{mean:.2g}, {sd:.1g}]" for element, (mean, sd) in value.items())
        return f"{key} = {{{', '.join(pairs)}}}"
    listed = ", ".join(f'"{element}"' for element in value)
    return f"{key} = [{listed}]"


def _without_matrix(local: LocalPosterior, k: int, phases: Sequence[Phase]) -> Change:
    """Take back that a phase is a matrix: to first order, on the same support points."""
    prior = local.data.prior
    points, told = np.asarray(prior.support_points), list(phases)
    told[k] = replace(told[k], matrix=False)
    mean, without = (
        log_odds_mean(points, np.array([phase.matrix for phase in some]), hosts(some), local.data.widths)
        for some in (phases, told)
    )
    push = mean - without
    gradient = np.zeros(len(local.z))
    gradient[local.places["abundance_xi"]] = np.linalg.solve(np.asarray(prior.factor), push)
    slopes = local.slopes()
    shift = -slopes @ (local.covariance @ gradient)[local.lines]
    return Change(
        phase=phases[k].name,
        declaration="matrix = true",
        elements=(),
        shift=shift,
        variance=quadratic(slopes, local.covariance[local.lines, local.lines]),
    )


def _with_statement(
    local: LocalPosterior,
    k: int,
    told: Phase,
    phases: Sequence[Phase],
    elements: Sequence[str],
    calibration_sd: FloatArray,
) -> list[Change]:
    """Declare one thing alone of the phase at place `k`, unless it contradicts the counts."""
    stated = [
        told if place == k else Phase(phase.name, kind=phase.kind) for place, phase in enumerate(phases)
    ]
    try:
        statements = statements_on(
            stated, elements, local.atom_fractions.mean(axis=0), calibration_sd, local.data.widths
        )
    except InputError:
        # A site that none of the elements sits on: not a formula of this sample.
        return []
    if len(statements.key) != 1:
        return []
    b, residual = local.along(statements)[0], float(missed(statements, local.atom_fractions)[0])
    response = local.covariance @ b
    total = 1.0 + float(b @ response)
    if residual**2 > CONSISTENT_SD**2 * total:
        return []
    slopes = local.slopes()
    along = slopes @ response[local.lines]
    variance = quadratic(slopes, local.covariance[local.lines, local.lines])
    declaration = declaration_text(told, KEYS[int(statements.key[0])])
    # An amount that was told was taken from the posterior: it is what its user knows that counts.
    for element, (_, sd) in told.composition.items():
        declaration = f"composition = {{{element} = [AMOUNT, {sd:.1g}]}}"
    return [
        Change(
            phase=told.name,
            declaration=declaration,
            elements=tuple(told.composition) if statements.key[0] else (),
            shift=-along * residual / total,
            variance=variance - along**2 / total,
        )
    ]


def _with_reference(
    local: LocalPosterior, k: int, phases: Sequence[Phase], elements: Sequence[str]
) -> Change:
    """Declare a spectrum of the phase at place `k` that says of it what the counts say, and counts enough."""
    x = local.atom_fractions[k]
    told = Phase(phases[k].name, absent=phases[k].absent, reference=Reference(file=Path("FILE")))
    stated = [told if place == k else Phase(one.name, kind=one.kind) for place, one in enumerate(phases)]
    varied = np.diag((DEFAULT_TOLERANCE * np.maximum(x, MINOR)) ** 2)
    spectrum = ReferenceComposition(
        phase=told.name,
        elements=tuple(elements),
        atom_fractions=x,
        counting=np.zeros_like(varied),
        covariance=varied,
        counts=0,
        deviance_per_dof=1.0,
    )
    unknown = np.zeros(len(elements))
    b = local.along(statements_on(stated, elements, x, unknown, local.data.widths, [spectrum]))
    slopes, response = local.slopes(), local.covariance @ b.T
    along = slopes @ response[local.lines]
    gained = quadratic(along, np.asarray(np.linalg.inv(np.eye(len(b)) + b @ response), np.float64))
    before = quadratic(slopes, local.covariance[local.lines, local.lines])
    return Change(
        phase=told.name,
        declaration=declaration_text(told, "reference"),
        elements=tuple(elements),
        shift=np.zeros_like(before),
        variance=np.maximum(before - gained, 0.0),
    )


def _emptied(local: LocalPosterior, slopes: FloatArray, place: int) -> tuple[FloatArray, FloatArray]:
    """Shift and variance of the atom fractions when the weight at a place of y is zero."""
    along = slopes @ local.covariance[local.lines, place]
    before = quadratic(slopes, local.covariance[local.lines, local.lines])
    width = float(local.covariance[place, place])
    return -along * _mode(local)[place] / width, np.maximum(before - along**2 / width, 0.0)

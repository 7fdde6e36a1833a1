"""The posterior of a run: from starting points to the best mode, its curvature and draws.

starts -> coarse atoms, a part of the blocks, each with every atom -> L-BFGS from each       (all objectives are kept)
best, and its nearest rival where there is one
       -> atoms one sd apart where the posterior sits, all blocks, grouped, absorption and units renewed
       -> mode and Hessian of each; the one that holds more of the posterior's mass is kept
-> Laplace or NUTS draws
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bayesunmix.forward import ForwardModel
from bayesunmix.inference.density import FlatModel, compiled, compiled_together, flatten_model
from bayesunmix.inference.map_estimate import MapEstimate, descend, find_map
from bayesunmix.inference.mixture import (
    atom_weights,
    group_pixels,
    one_group,
    padded_alike,
    relative_likelihood,
    responsibilities,
)
from bayesunmix.models.abundance import AbundancePrior, abundance_prior, padded_prior, simplex_atoms
from bayesunmix.models.endmember import EndmemberBasis, continuum_shape, family_counts
from bayesunmix.models.unmixing import (
    SiteBalance,
    Sites,
    UnmixingData,
    component_weights,
    continuum_corrections,
    log_ratios,
    spectra,
    unmixing_model,
)
from bayesunmix.phase import Phase
from bayesunmix.starts import Start, component_templates, rotated_starts
from bayesunmix.stoichiometry import site_weights

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Progress = Callable[[str], None]

# Run operation by operation, these two would compile each operation by itself.
_compiled_spectra = jax.jit(spectra)
_compiled_weights = jax.jit(component_weights)

# Crystal-chemical scatter of a declared site balance (log ratio); the calibration's errors come on top.
SITE_BALANCE_SD = 0.03
# Steps along each edge while starts are compared: enough to rank them, the same number for all so that one program
# serves.
COARSE_STEPS = 16
# Blocks that compare starts, evenly spread over the map.
MOST_COMPARED = 1500
# An atom expected to hold fewer blocks than this is dropped.
FEWEST_BLOCKS = 0.02
# Starts whose objective, nearly at its end, is this much worse than the best are abandoned; nearer ones are followed.
CLOSE_NATS = 50.0
# A rival this near to the best, at most so many modes in all, is compared with it on all blocks.
RIVAL_NATS = 100.0
MOST_REFINED = 2
# Two modes are the same when no endmember differs by more than this Hellinger distance.
SAME_MODE = 0.01
# A descent this close to one that went on will end with it.
SAME_BASIN = 0.04


@dataclass(frozen=True)
class Blocks:
    """Binned counts and what was declared, as arrays.

    Attributes
    ----------
    counts : (block, energy) float32
    forward : ForwardModel
    phases : tuple of Phase
    max_overlap : int
    mean_composition : (element,)
        Atom fractions of the whole map.
    """

    counts: Float32Array
    forward: ForwardModel
    phases: tuple[Phase, ...]
    max_overlap: int
    mean_composition: FloatArray

    @property
    def typical_counts(self) -> float:
        """Mean counts of a block."""
        return float(self.counts.sum(dtype=np.float64) / len(self.counts))

    @property
    def matrix(self) -> npt.NDArray[np.bool_]:
        """Phases declared to have pure regions, shape (phase,)."""
        return np.array([phase.matrix for phase in self.phases])

    @property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """False where an element is declared absent, shape (phase, element)."""
        elements = self.forward.elements
        return np.array([[element not in phase.absent for element in elements] for phase in self.phases])

    def balance(self) -> SiteBalance:
        """Soft site balances of the phases with a declared stoichiometry.

        The model reads compositions with nominal calibration factors, which the map must not learn: their errors are
        part of the width of the balance.
        """
        shape = (len(self.phases), len(self.forward.elements))
        a_site, b_site, target, inverse_sd = (
            np.zeros(shape),
            np.zeros(shape),
            np.zeros(shape[0]),
            np.zeros(shape[0]),
        )
        for k, phase in enumerate(self.phases):
            sites = site_weights(phase.stoichiometry, self.forward.elements) if phase.stoichiometry else None
            if sites is not None:
                a_site[k], b_site[k], target[k] = sites.a, sites.b, np.log(sites.ratio)
                on_a, on_b = sites.a * self.mean_composition, sites.b * self.mean_composition
                slope = on_a / on_a.sum() - on_b / on_b.sum()
                calibration = np.linalg.norm(slope * self.forward.calibration_sd)
                inverse_sd[k] = 1.0 / np.hypot(SITE_BALANCE_SD, calibration)
        return SiteBalance(a_site, b_site, target, inverse_sd)


@dataclass(frozen=True)
class Mode:
    """A mode found from one start.

    Attributes
    ----------
    objective : float
        For the best mode and its rival, the log of the posterior mass that it lacks to the best; for other starts the
        negative log posterior density relative to the best start's, on coarse atoms and a part of the blocks, scaled.
    same_mode : bool
        Ends where the best start ends.
    followed : bool
        Was followed to its end; the others were abandoned as hopeless.
    atom_fractions : (phase, element)
        Composition there, with nominal calibration factors.
    """

    objective: float
    same_mode: bool
    followed: bool
    atom_fractions: FloatArray


@dataclass(frozen=True)
class FittedPosterior:
    """The best mode and all that is needed to draw from its posterior.

    Attributes
    ----------
    data : UnmixingData
    estimate : MapEstimate
    modes : tuple of Mode
        One per start, the best first.
    absorbing : (phase, element)
        Compositions whose absorption the basis of `data` holds.
    atom_fractions : (phase, element)
        Composition at the mode, with nominal calibration factors.
    """

    data: UnmixingData
    estimate: MapEstimate
    modes: tuple[Mode, ...]
    absorbing: FloatArray
    atom_fractions: FloatArray

    @cached_property
    def model(self) -> FlatModel:
        """Flat view of the model; built on demand, so that the rest can be saved and read back."""
        return _flat_model(self.data)


def fit_posterior(
    blocks: Blocks, starts: list[Start], absorbing: FloatArray, progress: Progress
) -> FittedPosterior:
    """Find the best mode from all starts, then refine it.

    Parameters
    ----------
    blocks : Blocks
    starts : list of Start
        From `bayesunmix.starts.find_starts`.
    absorbing : (phase, element)
        Compositions whose absorption the starts' basis holds.
    progress : callable
        Told what is being done.
    """
    basis, yields = blocks.forward.basis(absorbing, blocks.allowed)
    candidates = _compare_starts(blocks, basis, yields, starts, progress)
    rivals = _rivals(candidates)
    fractions = [_fractions(rival.data, rival.sites) for rival in rivals]
    refined = _alike([_refined(blocks, *pair) for pair in zip(rivals, fractions, strict=True)])
    model = _flat_model(refined[0][0])
    value_and_gradient, hessian = compiled_together(model, refined[0][0])
    found = []
    for data, example in refined:
        start = np.asarray(model.flatten(example, data))
        found.append(find_map(value_and_gradient, hessian, data, start, progress=progress))
    masses = [_log_mass(data, estimate) for (data, _), estimate in zip(refined, found, strict=True)]
    best = int(np.argmax(masses))
    data, estimate = refined[best][0], found[best]
    settled = []
    for rival, (own, _), mode, mass in zip(rivals, refined, found, masses, strict=True):
        sites = model.constrain(jnp.asarray(mode.z), own)
        settled.append(replace(rival, data=own, sites=sites, potential=max(masses) - mass))
        if len(rivals) > 1:
            progress(f"mode: log mass {mass - max(masses):.1f} relative to the largest")
    others = [
        replace(candidate, potential=candidate.potential - candidates[0].potential)
        for candidate in candidates
        if all(candidate is not rival for rival in rivals)
    ]
    modes = _modes(settled, others, blocks.phases)
    kept = jax.tree.map(np.asarray, data)
    return FittedPosterior(kept, estimate, modes, fractions[best], _fractions(data, settled[best].sites))


def _rivals(candidates: list[_Candidate]) -> list[_Candidate]:
    """The best candidate and, where another one that was followed ends elsewhere, the best of these."""
    best = candidates[0]
    others = [
        c
        for c in candidates[1:]
        if c.followed and _distance(c, best) > SAME_BASIN and c.potential < RIVAL_NATS + best.potential
    ]
    return [best, *others[: MOST_REFINED - 1]]


def _alike(refined: list[tuple[UnmixingData, Sites]]) -> list[tuple[UnmixingData, Sites]]:
    """Pad the data of several modes to the same shapes."""
    groups = padded_alike([data.groups for data, _ in refined])
    most = max(len(data.prior.mean) for data, _ in refined)
    result = []
    for (data, sites), own in zip(refined, groups, strict=True):
        xi = sites["abundance_xi"]
        padded = {**sites, "abundance_xi": jnp.pad(xi, (0, most - len(xi)))}
        data = data._replace(groups=own, prior=padded_prior(data.prior, most))
        result.append((jax.tree.map(jnp.asarray, data), padded))
    return result


def _log_mass(data: UnmixingData, estimate: MapEstimate) -> float:
    """Logarithm of the posterior mass around a mode by Laplace's approximation, up to a constant common to all modes.

    The potential is relative to the chunks' baselines, and flat in weights counted in `scale`: both differ by mode.
    """
    baseline = sum(
        float((group.counts.sum(axis=1, dtype=np.float64) * group.baseline).sum()) for group in data.groups
    )
    units = float(np.log(np.asarray(data.scale)).sum())
    spread = -0.5 * float(np.linalg.slogdet(estimate.hessian)[1]) + 0.5 * len(estimate.z) * np.log(
        2.0 * np.pi
    )
    return baseline + units - estimate.potential + spread


def _flat_model(data: UnmixingData) -> FlatModel:
    """Flat view of the unmixing model for data of these shapes."""
    even = np.full(len(data.prior.mean), 1.0 / len(data.prior.mean))
    return flatten_model(unmixing_model, data, _sites(data, np.ones(len(data.scale)), even))


@dataclass(frozen=True)
class _Candidate:
    """One start on its way to a mode."""

    data: UnmixingData
    sites: Sites
    potential: float
    followed: bool


def _compare_starts(
    blocks: Blocks, basis: EndmemberBasis, yields: FloatArray, starts: list[Start], progress: Progress
) -> list[_Candidate]:
    """Descend from every start on coarse atoms, then follow those that may be the best; the best first."""
    # A part of the blocks ranks modes that differ by hundreds of nats, at a part of the cost.
    step = -(-len(blocks.counts) // MOST_COMPARED)
    part = replace(blocks, counts=np.ascontiguousarray(blocks.counts[::step]))
    baseline = blocks.counts.sum(axis=0, dtype=np.float64) + 1.0
    baseline /= baseline.sum()
    first = _coarse(part, basis, yields, starts[0], baseline)[0]
    model = _flat_model(first)
    value_and_gradient, _ = compiled(model)

    def run(start: Start, name: str) -> _Descent:
        data, example, block = _coarse(part, basis, yields, start, baseline)
        transform = np.eye(model.size)
        transform[model.blocks["line_units"], model.blocks["line_units"]] = block
        z = np.asarray(model.flatten(example, data))
        # A fresh memory half-way: the curvature learned far from the mode misleads near it.
        for iterations in (60, 100):
            z, potential, _ = descend(value_and_gradient, data, z, transform, max_iterations=iterations)
        progress(f"{name}: objective {potential:.1f}")
        return _Descent(data, z, potential, transform)

    begun = [run(start, f"start {number + 1} of {len(starts)}") for number, start in enumerate(starts)]
    best = min(begun, key=lambda descent: descent.potential)
    sites = model.constrain(jnp.asarray(best.z), best.data)
    weights = np.asarray(_compiled_weights(best.data, sites))
    begun += [run(probe, "rotated") for probe in rotated_starts(weights, basis, blocks.matrix)]
    lowest = min(descent.potential for descent in begun)
    scale = len(blocks.counts) / len(part.counts)
    candidates: list[_Candidate] = []
    for descent in sorted(begun, key=lambda descent: descent.potential):
        sites = model.constrain(jnp.asarray(descent.z), descent.data)
        candidate = _Candidate(descent.data, sites, descent.potential * scale, followed=False)
        followed = [other for other in candidates if other.followed]
        bound_elsewhere = any(_distance(candidate, other) < SAME_BASIN for other in followed)
        if descent.potential < lowest + CLOSE_NATS and not bound_elsewhere:
            z, potential, _ = descend(
                value_and_gradient, descent.data, descent.z, descent.transform, max_iterations=300
            )
            sites = model.constrain(jnp.asarray(z), descent.data)
            candidate = _Candidate(descent.data, sites, potential * scale, followed=True)
        candidates.append(candidate)
    return sorted(candidates, key=lambda candidate: candidate.potential)


@dataclass(frozen=True)
class _Descent:
    """A start after the first descents, near its mode."""

    data: UnmixingData
    z: FloatArray
    potential: float
    transform: FloatArray


def _coarse(
    blocks: Blocks, basis: EndmemberBasis, yields: FloatArray, start: Start, baseline: FloatArray
) -> tuple[UnmixingData, Sites, FloatArray]:
    """Model data on coarse atoms around a start, sites there, and a whitening of the line units."""
    n_phases = len(blocks.phases)
    n_edges = max(n_phases * (n_phases - 1) // 2, 1)
    steps = int(np.clip(round(3 * COARSE_STEPS / n_edges), 5, COARSE_STEPS))
    count = blocks.typical_counts
    atoms = simplex_atoms(
        start.spectra, count, max_overlap=blocks.max_overlap, steps_per_edge=steps, matrix=blocks.matrix
    )
    weights = atom_weights(relative_likelihood(blocks.counts, atoms @ start.spectra), n_iterations=40)
    prior = abundance_prior(atoms, start.spectra, count, blocks.matrix)
    free = np.argwhere(basis.allowed)
    information = _information(
        component_templates(basis), free, atoms, weights * blocks.counts.sum(dtype=float), start.spectra
    )
    # Uninformed weights get a weak prior of the size of everything else, so that the inverse exists.
    regular = information + np.diag(1e-6 * np.diag(information) + 1.0)
    scale = np.sqrt(np.diag(np.linalg.inv(regular)))
    data = UnmixingData(
        groups=one_group(blocks.counts, len(atoms), baseline),
        basis=basis,
        prior=prior,
        free=free,
        scale=scale,
        ratio_family=np.flatnonzero(basis.ratio_sd > 0),
        yields=yields,
        balance=blocks.balance(),
    )
    units = np.maximum(start.weights[free[:, 0], free[:, 1]] / scale, 0.3)
    sites = _sites(data, units, weights)
    return jax.tree.map(jnp.asarray, data), sites, _coarse_whitening(data, units, regular)


def _information(
    templates: FloatArray,
    free: npt.NDArray[np.int64],
    atoms: FloatArray,
    counts: FloatArray,
    spectra_: FloatArray,
) -> FloatArray:
    """Fisher information of the free weights if every block's abundance were known, shape (free, free).

    Parameters
    ----------
    counts : (atom,)
        Counts of the blocks at each atom.
    """
    rows = templates[free[:, 0], free[:, 1]]
    information = np.zeros((len(free), len(free)))
    for atom, count in zip(atoms, counts, strict=True):
        if count > 1.0:
            share = atom[free[:, 0], None] * rows
            information += count * (share / (atom @ spectra_)) @ share.T
    return information


def _coarse_whitening(data: UnmixingData, units: FloatArray, information: FloatArray) -> FloatArray:
    """Whitening of the unconstrained line units from the known-abundance information and the prior, (free, free)."""
    slope = data.scale * -np.expm1(-units)  # derivative of a weight with respect to its unconstrained value
    curvature = slope[:, None] * information * slope + 0.25 * np.eye(len(units))
    return np.asarray(np.linalg.inv(np.linalg.cholesky(curvature)).T)


def _sites(data: UnmixingData, units: FloatArray, weights: FloatArray) -> Sites:
    """Sites at given line units and atom weights, everything else at its prior mean."""
    n_phases, n_knots = data.basis.continuum_area.shape
    return {
        "line_units": jnp.asarray(units),
        "family_log_ratio": jnp.zeros(len(data.ratio_family)),
        "continuum_shared": jnp.zeros(n_knots),
        "continuum_by_phase": jnp.zeros((n_phases, n_knots)),
        "abundance_xi": jnp.asarray(_log_odds(data.prior, weights)),
    }


def _log_odds(prior: AbundancePrior, weights: FloatArray) -> FloatArray:
    """Standardised log-odds xi that nearly give these weights; a tenth of the mass is even, as zeros have no log."""
    even = 0.9 * weights / weights.sum() + 0.1 / len(weights)
    log_odds = np.log(even)
    return np.linalg.solve(prior.factor, log_odds - log_odds.mean() - prior.mean)


def _refined(blocks: Blocks, best: _Candidate, fractions: FloatArray) -> tuple[UnmixingData, Sites]:
    """Model data around a mode: its absorption, atoms where the posterior sits, blocks grouped by them."""
    basis, yields = blocks.forward.basis(fractions, blocks.allowed)
    endmembers = np.asarray(_compiled_spectra(best.data._replace(basis=basis), best.sites))
    count = blocks.typical_counts
    atoms = simplex_atoms(endmembers, count, max_overlap=blocks.max_overlap, matrix=blocks.matrix)
    likelihood = relative_likelihood(blocks.counts, atoms @ endmembers)
    held = atom_weights(likelihood) * len(blocks.counts)
    kept = (held > FEWEST_BLOCKS) | (atoms.max(axis=1) == 1.0)
    atoms, likelihood = atoms[kept], likelihood[:, kept]
    weights = atom_weights(likelihood, n_iterations=40)
    prior = abundance_prior(atoms, endmembers, count, blocks.matrix)
    share = responsibilities(likelihood, 0.99 * weights + 0.01 / len(weights))
    old = best.data
    information = _information(
        component_templates(basis),
        np.asarray(old.free),
        atoms,
        weights * blocks.counts.sum(dtype=float),
        endmembers,
    )
    scale = np.sqrt(np.diag(np.linalg.inv(information + np.diag(1e-6 * np.diag(information) + 1.0))))
    data = old._replace(
        groups=group_pixels(blocks.counts, share, atoms, endmembers),
        basis=basis,
        prior=prior,
        yields=yields,
        scale=scale,
    )
    sites = dict(best.sites)
    sites["line_units"] = jnp.maximum(sites["line_units"] * jnp.asarray(old.scale) / scale, 0.02)
    sites["abundance_xi"] = jnp.asarray(_log_odds(prior, weights))
    return data, sites


def _fractions(data: UnmixingData, sites: Sites) -> FloatArray:
    """Atom fractions at some sites, with nominal calibration factors, shape (phase, element)."""
    atoms = np.asarray(_compiled_weights(data, sites))[:, : data.yields.shape[1]] / np.asarray(data.yields)
    return np.asarray(atoms / atoms.sum(axis=1, keepdims=True))


def _distance(first: _Candidate, second: _Candidate) -> float:
    """Largest Hellinger distance between two candidates' spectra of a phase."""
    roots = [np.sqrt(np.asarray(_compiled_spectra(c.data, c.sites))) for c in (first, second)]
    return float(np.sqrt(0.5 * ((roots[0] - roots[1]) ** 2).sum(axis=1)).max())


def _modes(
    settled: list[_Candidate], others: list[_Candidate], phases: tuple[Phase, ...]
) -> tuple[Mode, ...]:
    """Compare every candidate with the best of those settled, phases that were declared alike in whatever order.

    Parameters
    ----------
    settled
        Modes found on all blocks; their potential is the log mass that they lack.
    others
        Candidates compared on a part of the blocks alone, their potential relative to the best there. One that ends
        where a settled mode is, is that mode.
    """
    ranked = sorted(settled, key=lambda candidate: candidate.potential)
    declared = [(phase.matrix, tuple(phase.absent), phase.stoichiometry) for phase in phases]
    alike = np.array([[first == second for second in declared] for first in declared])
    roots = [np.sqrt(np.asarray(_compiled_spectra(c.data, c.sites))) for c in ranked]
    modes = [
        Mode(
            c.potential,
            number == 0 or _apart(root, roots[0], alike) < SAME_MODE,
            True,
            _fractions(c.data, c.sites),
        )
        for number, (c, root) in enumerate(zip(ranked, roots, strict=True))
    ]
    for other in others:
        root = np.sqrt(np.asarray(_compiled_spectra(other.data, other.sites)))
        apart = [_apart(root, settled_root, alike) for settled_root in roots]
        nearest = int(np.argmin(apart))
        known = other.followed and apart[nearest] < SAME_BASIN
        objective = ranked[nearest].potential if known else other.potential
        fractions = _fractions(other.data, other.sites)
        modes.append(Mode(objective, known and modes[nearest].same_mode, other.followed, fractions))
    return (modes[0], *sorted(modes[1:], key=lambda mode: mode.objective))


def _apart(first: FloatArray, second: FloatArray, alike: npt.NDArray[np.bool_]) -> float:
    """Largest Hellinger distance between two sets of root spectra, matched among phases declared alike."""
    distance = np.sqrt(0.5 * ((first[:, None] - second[None]) ** 2).sum(axis=2))
    rows, columns = linear_sum_assignment(np.where(alike, distance, 10.0))
    return float(distance[rows, columns].max())


@dataclass(frozen=True)
class Draws:
    """Posterior draws of everything that the result is made of.

    Attributes
    ----------
    weights : (chain, draw, phase, component)
        Counts in each component's main family.
    family_counts : (chain, draw, phase, family)
        Counts of each line family per unit of weight.
    continuum : (chain, draw, phase, knot)
        Counts of each continuum piece.
    spectra : (chain, draw, phase, energy)
        Endmembers over the fitted bins, unit sum.
    """

    weights: FloatArray
    family_counts: FloatArray
    continuum: FloatArray
    spectra: FloatArray

    @property
    def total(self) -> FloatArray:
        """Counts of a phase in all, shape (chain, draw, phase)."""
        return np.asarray(self.family_counts.sum(axis=-1) + self.continuum.sum(axis=-1))


def read_draws(fitted: FittedPosterior, z: FloatArray) -> Draws:
    """Map flat draws z, shape (chain, draw, dim), to what they mean."""
    model = fitted.model

    def one(flat: jax.Array, data: UnmixingData) -> tuple[jax.Array, ...]:
        sites = model.constrain(flat, data)
        weights = component_weights(data, sites)
        return (
            weights,
            family_counts(data.basis, weights, log_ratios(data, sites)),
            weights[:, -1:] * continuum_shape(data.basis, *continuum_corrections(sites)),
            spectra(data, sites),
        )

    flat = jnp.asarray(z.reshape(-1, z.shape[-1]))
    mapped = jax.jit(lambda flat, data: jax.lax.map(lambda v: one(v, data), flat, batch_size=64))(
        flat, fitted.data
    )
    return Draws(*(np.asarray(value).reshape(*z.shape[:2], *value.shape[1:]) for value in mapped))

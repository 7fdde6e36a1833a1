"""Closed forms: shares of a variance, and what one declaration less or more does to a Gaussian posterior."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayesunmix.checks import budget, declarations
from bayesunmix.checks.budget import SOURCES
from bayesunmix.checks.declarations import given_more, taken_back
from bayesunmix.checks.identifiability import flat_directions, rotated_range
from bayesunmix.checks.local_posterior import LocalPosterior, composition_slopes, quadratic
from bayesunmix.config.phase import Phase
from bayesunmix.config.priors import DEFAULT_PRIORS
from bayesunmix.models.statements import statement_slopes
from bayesunmix.results.budget_table import budget_table
from tests.stated import ratio_of_first

ELEMENTS = ("Mg", "Si", "Fe")
# Two phases, three elements and the continuum; Si is absent from the second phase.
WEIGHTS = np.array([[0.3, 0.3, 0.1, 0.3], [0.5, 0.0, 0.2, 0.3]])
YIELDS = np.array([[1.0, 1.5, 2.0], [1.1, 1.4, 2.0]])
FREE = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 2], [1, 3]])
PLACES = {
    "abundance_xi": slice(0, 3),
    "continuum_by_phase": slice(3, 5),
    "continuum_shared": slice(5, 6),
    "family_log_ratio": slice(6, 7),
    "line_units": slice(7, 14),
}
DIM = 14


def posterior(*, seed: int = 0, balance: float = 20.0) -> LocalPosterior:
    """Return a Gaussian posterior of made-up precision, the site balance of the first phase included."""
    rng = np.random.default_rng(seed)
    fractions = WEIGHTS[:, :3] / YIELDS
    fractions = fractions / fractions.sum(axis=1, keepdims=True)
    scale = np.full(len(FREE), 0.01)
    stated = ratio_of_first([1.0, 0.0, 1.0], [0.0, 1.0, 0.0], 0.1, 1.0 / balance)
    points = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.4]])
    data: Any = SimpleNamespace(
        free=FREE,
        scale=scale,
        yields=YIELDS,
        statements=stated,
        prior=SimpleNamespace(
            support_points=points, mean=np.array([2.0, 0.0, 0.0]), factor=np.diag([2.0, 2.0, 1.0])
        ),
        basis=SimpleNamespace(allowed=np.array([[True] * 4, [True, False, True, True]])),
        pixels=SimpleNamespace(present=np.ones((1, 100))),
        widths=DEFAULT_PRIORS,
    )
    root = rng.normal(size=(DIM, DIM)) * 0.3 + np.eye(DIM) * 2.0
    precision = root @ root.T
    slopes = composition_slopes(data, fractions, WEIGHTS, FREE) * scale
    b = np.zeros(DIM)
    b[PLACES["line_units"]] = np.einsum("ke,kef->f", statement_slopes(stated, fractions)[0], slopes)
    precision += np.outer(b, b)
    units = WEIGHTS[FREE[:, 0], FREE[:, 1]] / scale
    z = np.concatenate([[3.0, 0.0, 1.0], np.zeros(4), units + np.log(-np.expm1(-units))])
    # With abundances known the weights are held at least as well.
    complete = precision[7:, 7:] + np.eye(7)
    mean = np.concatenate([z[:7], units])
    return LocalPosterior(
        data=data,
        z=z,
        places=PLACES,
        covariance=np.linalg.inv(precision),
        precision=precision,
        mean=mean,
        weights=WEIGHTS,
        atom_fractions=fractions,
        derivatives=np.zeros((2, 4, 5)),
        complete=complete,
    )


def phases() -> list[Phase]:
    return [Phase("A", matrix=True, stoichiometry="ABO3"), Phase("B", absent=["Si"])]


def test_slopes_are_derivatives_of_the_composition() -> None:
    local = posterior()
    slopes = composition_slopes(local.data, local.atom_fractions, WEIGHTS, FREE)
    for number, (k, i) in enumerate(FREE):
        moved = WEIGHTS.copy()
        moved[k, i] += 1e-6
        fractions = moved[:, :3] / YIELDS
        fractions /= fractions.sum(axis=1, keepdims=True)
        np.testing.assert_allclose((fractions - local.atom_fractions) / 1e-6, slopes[..., number], atol=1e-5)


def test_what_is_known_leaves_the_variance_of_the_rest() -> None:
    local = posterior()
    slopes = local.slopes()
    np.testing.assert_allclose(local.variance_given(slopes), quadratic(slopes, local.covariance[7:, 7:]))
    kept = [i for i in range(DIM) if i != 6]
    fixed = np.linalg.inv(local.precision[np.ix_(kept, kept)])
    given = local.variance_given(slopes, "family_log_ratio", "absorption_scale")
    np.testing.assert_allclose(given, quadratic(slopes, fixed[6:, 6:]))
    assert np.all(given <= local.variance_given(slopes) + 1e-18)


def test_fitted_sources_add_up_to_the_variance() -> None:
    local = posterior()
    parts = budget._fitted_parts(local, local.slopes())
    np.testing.assert_allclose(parts.sum(axis=-1), local.variance_given(local.slopes()))
    assert np.all(parts >= 0.0)
    # No absorption is fitted in this model.
    np.testing.assert_array_equal(parts[..., SOURCES.index("absorption")], 0.0)
    draws = np.random.default_rng(0).normal(size=(500, 2, 3))
    scaled = budget._scaled(local, local.slopes(), draws).sum(axis=-1)
    expected = draws.var(axis=0)
    expected[1, 1] = 0.0  # declared absent
    np.testing.assert_allclose(scaled, expected)


def test_table_holds_what_has_an_interval_and_its_shares_add_up() -> None:
    n_sources = len(SOURCES)
    variances = np.arange(1.0, 1.0 + 2 * 2 * n_sources).reshape(2, 2, n_sources)
    log_variances = np.arange(1.0, 1.0 + 2 * 2 * 2 * n_sources).reshape(2, 2, 2, n_sources)
    coords = {"phase": ["A", "B"], "numerator": ["A", "B"], "denominator": ["A", "B"]}
    found = xr.Dataset(
        {
            "composition": (("phase", "element", "source"), variances),
            "log_partition": (("numerator", "denominator", "element", "source"), log_variances),
        },
        coords={**coords, "element": ["Mg", "U"], "source": list(SOURCES)},
    )
    composition = pd.DataFrame(
        {
            "phase": ["A", "A"],
            "element": ["Mg", "U"],
            "mean": [0.4, 0.1],
            "detected": ["true", "false"],
        }
    )
    partition = pd.DataFrame(
        {
            "numerator": ["A", "B"],
            "denominator": ["B", "A"],
            "element": ["U", "U"],
            "median": [2.0, 0.5],
            "kind": ["interval", "upper"],
        }
    )
    table = budget_table(found, composition, partition)
    assert table[["quantity", "phase", "denominator", "element"]].values.tolist() == [
        ["composition", "A", "", "Mg"],
        ["partition", "A", "B", "U"],
    ]
    shares = table[[f"share_{name}" for name in SOURCES]]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    total = float(variances[0, 0].sum())
    assert table["sd"][0] == pytest.approx(np.sqrt(total))
    assert shares.iloc[0, 4] == pytest.approx(5.0 / total)
    # Folders of earlier versions have no misfit and no rotation.
    earlier = budget_table(found.isel(source=slice(0, 5)), composition, partition)
    assert earlier["share_misfit"].tolist() == earlier["share_rotation"].tolist() == [0.0, 0.0]
    assert earlier["sd"][0] == pytest.approx(np.sqrt(15.0))


def test_what_draws_vary_more_is_misfit_and_then_rotation() -> None:
    generator = np.random.default_rng(0)
    local = posterior()
    fits = generator.normal(size=(400, 2, 3))
    moved = fits + generator.normal(size=(400, 2, 3))
    reported = moved + 2.0 * generator.normal(size=(400, 2, 3))
    found = budget._with_more(local, local.slopes(), [fits, moved, reported])
    misfit, rotation = (found[..., SOURCES.index(name)] for name in ("misfit", "rotation"))
    np.testing.assert_allclose(misfit, moved.var(axis=0) - fits.var(axis=0))
    np.testing.assert_allclose(rotation, reported.var(axis=0) - moved.var(axis=0))
    alone = budget._with_more(local, local.slopes(), [fits, fits, fits])
    np.testing.assert_array_equal(alone[..., SOURCES.index("misfit") :], 0.0)
    np.testing.assert_array_equal(
        found[..., : SOURCES.index("misfit")], alone[..., : SOURCES.index("misfit")]
    )


def test_a_balance_taken_back_is_the_posterior_without_it() -> None:
    local = posterior(balance=20.0)
    (change,) = [
        c
        for c in taken_back(local, [*phases()[:1], Phase("B")], ELEMENTS)
        if "stoichiometry" in c.declaration
    ]
    without = posterior(balance=1e-9)
    expected = quadratic(local.slopes(), without.covariance[7:, 7:])
    np.testing.assert_allclose(change.variance, expected, rtol=1e-6)
    assert change.declaration == 'stoichiometry = "ABO3"'
    # The mean moves to where the gradient of the balance was.
    x = local.atom_fractions[0]
    residual = np.log((x[0] + x[2]) / x[1]) - 0.1
    (b,) = local.along(local.data.statements)
    moved = without.covariance @ b * residual * 20.0
    np.testing.assert_allclose(change.shift, local.slopes() @ moved[7:], rtol=1e-6)


def test_a_balance_that_alone_holds_a_direction_leaves_it_unknown() -> None:
    local = posterior()
    (b,) = local.along(local.data.statements)
    # A covariance in which the balance is known from its declaration alone.
    unit = b / np.linalg.norm(b)
    covariance = 1e-6 * np.eye(DIM) + np.outer(unit, unit) / (b @ unit) ** 2
    changed = LocalPosterior(**{**vars(local), "covariance": covariance})
    found = declarations._without_statements(changed, phases()[0], "stoichiometry", local.data.statements)
    assert np.isinf(found.variance[0]).all()
    assert np.isfinite(found.variance[1]).all()


def test_an_element_declared_absent_is_the_conditional_posterior() -> None:
    local = posterior()
    detected = np.array([[True, True, False], [True, False, True]])
    found = given_more(
        local,
        [Phase("A", stoichiometry="ABO3"), Phase("B", stoichiometry="ABO3")],
        ELEMENTS,
        detected,
        np.full(3, 0.05),
    )
    (change,) = [c for c in found if c.declaration == 'absent = ["Fe"]']
    kept = [i for i in range(DIM) if i != 9]  # the weight of Fe in A is the third of the line units
    fixed = np.linalg.inv(local.precision[np.ix_(kept, kept)])
    slopes = np.delete(local.slopes(), 2, axis=-1)
    np.testing.assert_allclose(change.variance, quadratic(slopes, fixed[7:, 7:]), rtol=1e-9)
    assert change.phase == "A"


def test_a_formula_is_offered_where_it_holds() -> None:
    local = posterior()
    detected = np.ones((2, 3), bool)
    more = given_more(local, [Phase("A"), Phase("B")], ELEMENTS, detected, np.full(3, 0.05))
    offered = {(change.phase, change.declaration) for change in more}
    # A has (0.3 + 0.05) / 0.2 cations on A for one on B: none of the formulas but A2BO4, within its width.
    assert ("A", 'stoichiometry = "A2BO4"') in offered
    assert ("A", 'stoichiometry = "ABO3"') not in offered
    formulas = {phase for phase, declaration in offered if "stoichiometry" in declaration}
    assert formulas == {"A"}  # B has nothing on its small site
    # A metal has no oxide's formula.
    phases_ = [Phase("A"), Phase("B")]
    more = given_more(local, phases_, ELEMENTS, detected, np.full(3, 0.05), oxides=False)
    assert {one.declaration for one in more} == {d for _, d in offered if "stoichiometry" not in d}


def test_knowing_an_amount_is_offered_and_is_the_conditional_posterior() -> None:
    local = posterior()
    more = given_more(local, [Phase("A"), Phase("B")], ELEMENTS, np.ones((2, 3), bool), np.zeros(3))
    known = {(change.phase, *change.elements): change for change in more if change.elements}
    k, i = 0, int(np.argmax(local.atom_fractions[0]))
    change, x = known["A", ELEMENTS[i]], local.atom_fractions[k, i]
    slopes = local.slopes()
    before = quadratic(slopes, local.covariance[7:, 7:])
    along = np.einsum("kef,fg,g->ke", slopes, local.covariance[7:, 7:], slopes[k, i])
    sd = declarations.KNOWN_SD * x
    np.testing.assert_allclose(change.variance, before - along**2 / (sd**2 + before[k, i]), rtol=1e-6)
    # Not the amount that was found: what is known of it would help.
    assert change.declaration == f"composition = {{{ELEMENTS[i]} = [AMOUNT, {sd:.1g}]}}"
    # It says most of the amount itself, which is not counted for a gain.
    assert change.elements == (ELEMENTS[i],)
    before = quadratic(local.slopes(), local.covariance[7:, 7:])
    assert all(np.all(change.variance <= before + 1e-18) for change in more)


def test_a_matrix_taken_back_moves_by_the_push_of_its_corner() -> None:
    local = posterior()
    change = declarations._without_matrix(local, 0, phases())
    gradient = np.zeros(DIM)
    gradient[0] = 2.0 / 2.0  # two log-odds over the factor of that support point
    np.testing.assert_allclose(change.shift, -local.slopes() @ (local.covariance @ gradient)[7:])


def test_flat_directions_are_those_that_unknown_abundances_take_away() -> None:
    local = posterior()
    marginal = np.linalg.inv(local.covariance[7:, 7:])
    weak = LocalPosterior(**{**vars(local), "complete": marginal * 10.0})
    found = flat_directions(weak, phases(), ELEMENTS)
    assert [round(direction.kept, 6) for direction in found] == [0.1] * len(found)
    assert found[0].phase in {"A", "B"}
    assert flat_directions(LocalPosterior(**{**vars(local), "complete": marginal}), phases(), ELEMENTS) == []


def test_rotations_end_where_declarations_and_pixels_say() -> None:
    local = posterior()
    low, high = rotated_range(local, phases())
    # A is declared to have pure regions and B lacks silicon: nothing can be moved.
    np.testing.assert_allclose(low, local.atom_fractions)
    np.testing.assert_allclose(high, local.atom_fractions)
    low, high = rotated_range(local, [Phase("A"), Phase("B", absent=["Si"])])
    # Without, A could give up 0.5 of B: 0.1 / 0.2 of its iron.
    atoms = (WEIGHTS[0] - 0.5 * WEIGHTS[1])[:3] / YIELDS[0]
    np.testing.assert_allclose(low[0], np.minimum(atoms / atoms.sum(), local.atom_fractions[0]), atol=1e-12)
    np.testing.assert_allclose(high[0], np.maximum(atoms / atoms.sum(), local.atom_fractions[0]), atol=1e-12)

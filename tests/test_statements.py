"""Soft statements on compositions: their density, slopes, and what follows from each kind of declaration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from bayesunmix.chemistry.formula_sites import formula_sites
from bayesunmix.config.phase import Phase, check_phases
from bayesunmix.config.priors import Priors
from bayesunmix.core.errors import InputError
from bayesunmix.fit.statements import NAMED_SD, statements_on
from bayesunmix.models.statements import (
    Statements,
    missed,
    no_statements,
    statement_slopes,
    statements_log_density,
)
from tests.stated import ratio_of_first

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ("Ni", "Al", "Co", "Re")
EVEN = np.full(4, 0.25)
GAMMA_PRIME, GAMMA = np.array([0.70, 0.18, 0.08, 0.04]), np.array([0.60, 0.05, 0.25, 0.10])
BOTH = np.stack([GAMMA_PRIME, GAMMA])
SITE_SD = 0.03


def stated(*phases: Phase, elements: tuple[str, ...] = ELEMENTS, calibration: float = 0.0) -> Statements:
    """Return what is stated of phases, with line strengths of some relative error."""
    sd = np.full(len(elements), calibration)
    return statements_on(phases, elements, np.full(len(elements), 1.0 / len(elements)), sd, Priors())


def mixed() -> Statements:
    """Statements of every kind, none of which these compositions meet."""
    first = Phase(
        "first",
        stoichiometry="Ni3Al",
        composition={"Re": [0.2, 0.05]},
        rich=["Co"],
        poor=["Ni"],
        tolerance=0.1,
    )
    return stated(first, Phase("second", composition={"Al": [0.3, 0.1]}))


@pytest.mark.parametrize("ratio", [0.8, 1.35, 2.0])
def test_a_ratio_is_a_normal_of_its_logarithm(ratio: float) -> None:
    b = 1.0 / (1.0 + ratio)
    balance = ratio_of_first([1.0, 0.0, 0.0], [0.0, 1.0, 0.5], 0.3, SITE_SD)
    fractions = jnp.asarray([[1 - b, 0.6 * b, 0.8 * b], [0.0, 0.0, 0.0]])  # B: 0.6 + half of 0.8 is 1
    expected = norm.logpdf(np.log(ratio), 0.3, SITE_SD) - norm.logpdf(0.3, 0.3, SITE_SD)
    assert float(statements_log_density(balance, fractions)) == pytest.approx(expected, rel=1e-9)


def test_where_nothing_is_stated_nothing_follows() -> None:
    none = no_statements(2, 3)
    value, slope = jax.value_and_grad(lambda x: statements_log_density(none, x))(jnp.zeros((2, 3)))
    assert float(value) == 0.0
    assert not np.asarray(slope).any()


def test_jax_and_numpy_read_statements_alike() -> None:
    statements = mixed()
    np.testing.assert_allclose(
        missed(statements, BOTH), np.asarray(missed(statements, jnp.asarray(BOTH))), rtol=1e-12
    )


@given(arrays(float, (2, 4), elements=st.floats(0.0, 1.0)))
def test_density_and_gradient_are_finite_wherever_a_descent_goes(amounts: FloatArray) -> None:
    statements = mixed()
    value, slope = jax.value_and_grad(lambda x: statements_log_density(statements, x))(jnp.asarray(amounts))
    assert np.isfinite(float(value))
    assert np.isfinite(np.asarray(slope)).all()


def test_slopes_are_those_of_the_numbers() -> None:
    """Of statements that are not met, which is what they are where something follows from them."""
    statements = mixed()
    jacobian = jax.jacobian(lambda x: missed(statements, x))(jnp.asarray(BOTH))
    off = missed(statements, BOTH) != 0.0
    assert off.sum() >= 4
    np.testing.assert_allclose(statement_slopes(statements, BOTH)[off], np.asarray(jacobian)[off], rtol=1e-9)
    assert not statement_slopes(statements, BOTH)[~off].any()


def test_a_formula_without_other_elements_is_a_ratio() -> None:
    statements = stated(Phase("a", stoichiometry="Ni3Al"), elements=("Ni", "Al"))
    assert np.exp(statements.low) == pytest.approx([3.0])
    assert np.exp(statements.high) == pytest.approx([3.0])
    assert 1.0 / statements.inverse_sd == pytest.approx([Priors().site_balance_sd])
    # Errors of line strengths widen it: 5 % each of two amounts.
    wider = stated(Phase("a", stoichiometry="Ni3Al", tolerance=0.1), elements=("Ni", "Al"), calibration=0.05)
    assert 1.0 / wider.inverse_sd == pytest.approx([np.hypot(0.1, 0.05 * np.sqrt(2.0))])


def test_elements_that_a_formula_does_not_name_may_sit_on_any_site() -> None:
    statements = stated(Phase("a", stoichiometry="Ni3Al"))

    def one(*amounts: float) -> FloatArray:
        found: FloatArray = missed(statements, np.array([amounts]))
        return found

    # 12 % of cobalt and rhenium: on the aluminium site with all of them, on the nickel site with none.
    np.testing.assert_allclose(one(0.75, 0.13, 0.08, 0.04)[:-1], 0.0)
    np.testing.assert_allclose(one(0.63, 0.25, 0.08, 0.04)[:-1], 0.0)
    assert one(0.80, 0.08, 0.08, 0.04)[:-1].any()
    # And they are few.
    assert missed(statements, BOTH[1:])[-1] == pytest.approx(np.log(0.65) / NAMED_SD)


def test_a_formula_of_elements_says_more_than_one_of_sites() -> None:
    """CaSiO3 and MgSiO3 have the same ratio of sites, and are told apart."""
    elements = ("Mg", "Ca", "Si", "Al")
    bridgmanite, davemaoite = np.array([[0.45, 0.02, 0.47, 0.06], [0.02, 0.48, 0.48, 0.02]])
    for formula, told in (("ABO3", False), ("MgSiO3", True)):
        statements = stated(Phase("Brg", stoichiometry=formula), elements=elements)
        right, wrong = (
            float(statements_log_density(statements, one[None])) for one in (bridgmanite, davemaoite)
        )
        assert (right - wrong > 3.0) == told
        assert right > -3.0


def test_three_sites_of_a_mineral_are_each_compared() -> None:
    """Garnet and pyroxene have as many large cations as small ones, by half of their aluminium."""
    elements = ("Mg", "Fe", "Ca", "Al", "Si", "O")
    garnet, pyroxene = np.array([[0.25, 0.08, 0.045, 0.25, 0.375], [0.22, 0.06, 0.17, 0.06, 0.49]])
    garnet, pyroxene = (np.append(0.4 * one, 0.6)[None] for one in (garnet, pyroxene))
    statements = stated(Phase("garnet", stoichiometry="(Mg,Fe,Ca)3Al2Si3O12"), elements=elements)
    assert float(statements_log_density(statements, garnet)) == pytest.approx(0.0, abs=0.1)
    assert float(statements_log_density(statements, pyroxene)) < -100.0


def test_a_formula_with_vacancies_is_a_range() -> None:
    statements = stated(Phase("po", stoichiometry="Fe1-xS"), elements=("Fe", "S"))
    for ratio, off in ((0.8, 0.0), (0.9, 0.0), (1.0, 0.0), (1.1, np.log(1.1)), (0.7, np.log(0.7 / 0.8))):
        found = missed(statements, np.array([[ratio, 1.0]]) / (1.0 + ratio))
        assert found == pytest.approx([off / Priors().site_balance_sd], abs=1e-9)


def test_a_site_whose_elements_are_not_all_measured_may_be_empty() -> None:
    """Lithium is not seen: cobalt may be the whole of its site, or none of it."""
    statements = stated(Phase("a", stoichiometry="(Li,Co)2P"), elements=("Co", "P"))
    assert statements.low.tolist() == [-np.inf]
    assert np.exp(statements.high) == pytest.approx([2.0])


def test_a_formula_of_unmeasured_elements_but_one_says_how_pure_it_is() -> None:
    statements = stated(Phase("a", stoichiometry="WC"), elements=("W", "Co"))
    assert len(statements.key) == 1
    assert missed(statements, np.array([[1.0, 0.0]]))[0] == 0.0
    assert missed(statements, np.array([[0.5, 0.5]]))[0] < -5.0


def test_a_fraction_has_its_own_error_and_that_of_line_strengths() -> None:
    statements = stated(Phase("a", composition={"Al": [0.2, 0.02]}), calibration=0.1)
    # x (1 - x) 10 % of its own strength, and x x_j 10 % of each of three others that share the rest alike.
    calibration = 0.1 * 0.2 * np.hypot(0.8, np.sqrt(3) * 0.8 / 3)
    assert 1.0 / statements.inverse_sd == pytest.approx([np.hypot(0.02, calibration)])
    found = missed(statements, np.array([[0.5, 0.3, 0.1, 0.1]]))
    assert found == pytest.approx([0.1 / np.hypot(0.02, calibration)])


def test_what_is_rich_is_compared_with_every_other_phase() -> None:
    a, b, c = Phase("a", rich=["Re"]), Phase("b"), Phase("c", rich=["Re"])
    assert len(stated(a, b, Phase("film", kind="support")).key) == 1
    assert len(stated(a, b, c).key) == 2
    met = stated(Phase("gamma", rich=["Re"]), Phase("gamma prime", poor=["Re"]))
    np.testing.assert_array_equal(missed(met, BOTH[::-1]), 0.0)
    assert (missed(met, BOTH) < -1.0).all()
    # However poor the phase, a statement costs no more than a few tens of nats.
    none = np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
    assert -50.5 < statements_log_density(met._replace(inverse_sd=met.inverse_sd * [1.0, 0.0]), none) < -45.0


def test_the_names_of_exchanged_phases_cost() -> None:
    """Gamma and gamma prime, told apart by any one statement."""
    for told in (
        {"rich": ["Re"]},
        {"poor": ["Al"]},
        {"composition": {"Al": [0.05, 0.03]}},
    ):
        statements = stated(Phase("gamma", **told), Phase("gamma prime"))  # type: ignore[arg-type]
        right, wrong = (float(statements_log_density(statements, each)) for each in (BOTH[::-1], BOTH))
        assert right - wrong > 3.0, told


@pytest.mark.parametrize(
    ("formula", "sites"),
    [
        ("KAl2(AlSi3)O10(OH)2", {"K": 1, "Al": 3, "Si": 3, "O": 12, "H": 2}),
        ("(Ni,Co)3(Al,Ti)", {"Co Ni": 3, "Al Ti": 1}),
        ("(Na,Ca)(Al,Si)2(Si,Al)2O8", {"Ca Na": 1, "Al Si": 4, "O": 8}),
        ("Cr23C6", {"Cr": 23, "C": 6}),
        ("Ni0.5Co0.5O", {"Ni": 0.5, "Co": 0.5, "O": 1}),
    ],
)
def test_sites_of_formulas(formula: str, sites: dict[str, float]) -> None:
    found = {" ".join(sorted(site.elements)): site.most for site in formula_sites(formula)}
    assert found == sites


@pytest.mark.parametrize(
    "text", ["", "Ni3Q", "(Ni", "Ni)", "Ni(x)2", "Fe1-yS", "(Ni,)3", "(AlNi)1-x", "ni3al", "Fe0S", 3]
)
def test_what_is_no_formula_is_refused(text: object) -> None:
    with pytest.raises(InputError, match="stoichiometry"):
        formula_sites(text)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="stoichiometry"):
        Phase("a", stoichiometry=text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phases", "match"),
    [
        ([Phase("a", rich=["W"]), Phase("b")], "phases.a.rich"),
        ([Phase("a", rich=["Re"], absent=["Re"]), Phase("b")], "phases.a.rich.*absent"),
        ([Phase("a", composition={"Re": [0.1, 0.1]}, absent=["Re"]), Phase("b")], "phases.a.composition"),
        ([Phase("a", rich=["Re"])], "phases.rich.*the only one"),
        ([Phase("a", poor=["Re"]), Phase("b", poor=["Re", "Al"])], "phases.poor.*every phase"),
        ([Phase("a", stoichiometry="FeS"), Phase("b")], "phases.a.stoichiometry.*name an element"),
    ],
)
def test_what_does_not_go_together_is_refused(phases: list[Phase], match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_phases(phases, ELEMENTS)

"""The fit finds a planted axis and width within its errors, on simulated and on measured spectra."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bayesunmix.core.errors import InputError
from bayesunmix.xray.axis_fit import PARAMETERS, fit_axis
from bayesunmix.xray.continuum import continuum_basis
from bayesunmix.xray.detector import Detector, Response, channel_edges
from bayesunmix.xray.lines import LineTable

ELEMENTS = ("Mg", "Al", "Si", "Ca", "Fe", "Nd", "Hf")
STRAY = ("Cu",)
EDGES = channel_edges(np.arange(1.0, 19.9, 0.01))
COUNTS = {"Mg": 4e4, "Al": 5e3, "Si": 4e4, "Ca": 3e3, "Fe": 1e4, "Nd": 4e2, "Hf": 4e2, "Cu": 6e3}
CONTINUUM = np.array([0.0, 3e3, 4e3, 3e3, 4e3, 3e3, 1e3])


@pytest.fixture(scope="module")
def table() -> LineTable:
    return LineTable.built_in(200.0, [*ELEMENTS, *STRAY])


def expected_counts(
    table: LineTable, response: Response, edges: npt.NDArray[np.float64] = EDGES
) -> npt.NDArray[np.float64]:
    """Return the expected sum spectrum of a map with a given response; every family gets the counts."""
    efficiency = Detector().efficiency
    total = CONTINUUM @ continuum_basis(edges, 200.0, efficiency)
    for element, counts in COUNTS.items():
        for family in table.families(element, edges[0], edges[-1]):
            lines = table.lines(element, family)
            energy = np.array([line.energy_keV for line in lines])
            area = np.array([line.strength for line in lines]) * efficiency(energy)
            total = total + response.spectrum(energy, counts * area / area.sum(), edges)
    return total


def values(response: Response) -> npt.NDArray[np.float64]:
    return np.array([getattr(response, name) for name in PARAMETERS])


@pytest.mark.parametrize(
    ("gain", "offset_keV"), [(1.005, 0.03), (0.995, -0.03), (1.005, -0.03), (0.995, 0.03)]
)
def test_finds_a_planted_response(table: LineTable, gain: float, offset_keV: float) -> None:
    """From an axis that is 0.5 % and 30 eV off; five standard errors, the prior's pull included."""
    planted = Response(gain=gain, offset_keV=offset_keV, noise_eV=75.0, fano=0.12)
    counts = np.random.default_rng(7).poisson(expected_counts(table, planted))
    fit = fit_axis(counts, EDGES, table, ELEMENTS, STRAY)
    errors = np.array([fit.standard_errors[name] for name in PARAMETERS])
    assert fit.converged
    assert np.all(np.abs(values(fit.response) - values(planted)) < 5.0 * errors)
    assert errors[0] < 2e-4
    assert errors[1] < 5e-4


def test_errors_are_neither_too_small_nor_too_large(table: LineTable) -> None:
    """Over 40 replicates the squared z of each parameter follow chi-square; bounds at 1e-5 on either side.

    Noise and Fano factor are planted at their prior means, where the prior does not bias them; it makes their
    scatter smaller than the posterior error, so only their upper bound is checked.
    """
    planted = Response.from_resolution()
    # Channels of 20 eV, a third of the narrowest peak, tell the same in half the time.
    edges = EDGES[::2]
    mean = expected_counts(table, planted, edges)
    rng = np.random.default_rng(11)
    z = []
    for _ in range(40):
        fit = fit_axis(rng.poisson(mean), edges, table, ELEMENTS, STRAY)
        errors = np.array([fit.standard_errors[name] for name in PARAMETERS])
        z.append((values(fit.response) - values(planted)) / errors)
    squares = np.sum(np.square(z), axis=0)
    assert np.all(squares < stats.chi2.isf(1e-5, 40))
    assert np.all(squares[:2] > stats.chi2.ppf(1e-5, 40))


def test_components_add_up_to_the_counts(table: LineTable) -> None:
    planted = Response(noise_eV=60.0)
    counts = np.random.default_rng(3).poisson(expected_counts(table, planted))
    fit = fit_axis(counts, EDGES, table, ELEMENTS, STRAY)
    assert fit.expected.sum() == pytest.approx(counts.sum(), rel=1e-4)
    assert fit.spectra.shape == (len(fit.components), counts.size)
    assert np.all(fit.weights >= 0.0)
    silicon = fit.weights[fit.components.index("Si_K")]
    assert silicon == pytest.approx(COUNTS["Si"], abs=5 * np.sqrt(COUNTS["Si"]))
    # Deviance of Poisson counts, some channels nearly empty: 1 to within five of its standard errors, 15 %.
    assert fit.deviance_per_dof == pytest.approx(1.0, abs=0.15)


def test_a_misfit_widens_the_errors(table: LineTable) -> None:
    """Leaving out calcium, which says little about the axis, costs only the factor of the misfit."""
    counts = np.random.default_rng(5).poisson(expected_counts(table, Response()))
    full = fit_axis(counts, EDGES, table, ELEMENTS, STRAY)
    lacking = fit_axis(counts, EDGES, table, [element for element in ELEMENTS if element != "Ca"], STRAY)
    assert lacking.deviance_per_dof > 2.0
    widening = lacking.standard_errors["gain"] / full.standard_errors["gain"]
    assert widening == pytest.approx(np.sqrt(lacking.deviance_per_dof), rel=0.25)


def test_the_prior_holds_a_width_that_few_counts_leave_open(table: LineTable) -> None:
    """In a thousandth of the counts the Fano factor's error is the prior's, not the several times larger one."""
    counts = np.random.default_rng(9).poisson(1e-3 * expected_counts(table, Response.from_resolution()))
    fit = fit_axis(counts, EDGES, table, ELEMENTS, STRAY)
    assert fit.standard_errors["fano"] == pytest.approx(0.010, rel=0.1)
    assert abs(fit.response.fano - 0.115) < 0.010


def test_bad_input_is_refused(table: LineTable) -> None:
    counts = np.ones(EDGES.size - 1)
    with pytest.raises(
        InputError, match="`channel_edges_keV` must have one edge more than there are channels"
    ):
        fit_axis(counts[:-1], EDGES, table, ELEMENTS)
    with pytest.raises(InputError, match="`counts` must be non-negative and not all zero"):
        fit_axis(0.0 * counts, EDGES, table, ELEMENTS)
    with pytest.raises(InputError, match=r"`sample.elements` must have lines on the energy axis"):
        fit_axis(counts, EDGES + 60.0, table, ["Mg"])
    with pytest.raises(InputError, match=r"`xray.table` must hold lines of Ti, but has none"):
        fit_axis(counts, EDGES, table, ["Ti"])


def test_linear_width_law_of_another_simulator(shared_data: Path) -> None:
    """Phantoms of espm have FWHM = 0.065 + 0.01 E keV, which noise and Fano factor follow to 3 % from 1 to 8 keV."""
    with np.load(shared_data / "espm_spheres_N293.npz") as phantom:
        mean = phantom["weights"].reshape(-1, 3).sum(axis=0) @ phantom["phases"]
        energy = phantom["energy_keV"]
    inside = energy >= 1.0
    elements = ["Mg", "Al", "Si", "Ca", "Fe", "Ti", "Nd", "Sm", "Lu", "Hf"]
    table = LineTable.from_json(shared_data / "espm_lines_200keV.json")
    counts = np.random.default_rng(0).poisson(mean[inside])
    fit = fit_axis(counts, channel_edges(energy[inside]), table, elements, ["Cu"])
    at = np.array([1.25, 1.74, 4.0, 6.4, 8.0])
    np.testing.assert_allclose(fit.response.fwhm_keV(at), 0.065 + 0.01 * at, rtol=0.035)
    assert fit.deviance_per_dof < 1.6


def test_measured_map_from_a_shifted_axis(shared_data: Path) -> None:
    """The 71 GPa map: the same channels whatever axis the file claims, and the deviance of this line model."""
    import h5py

    with h5py.File(shared_data / "71GPa_subsolidus.hspy") as file:
        counts = file["Experiments/EDX/data"][:].sum(axis=(0, 1), dtype=np.int64)
    edges = channel_edges(0.81805 + 0.01 * np.arange(counts.size))
    inside = slice(18, 1908)
    edges, counts = edges[18:1909], counts[inside]
    elements = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"]
    stray = ["Cu", "Ga", "Pt", "Zr"]
    table = LineTable.built_in(200.0, elements + stray)
    fit = fit_axis(counts, edges, table, elements, stray)
    shifted = fit_axis(counts, edges * 1.004 - 0.025, table, elements, stray)
    lines = np.array([1.254, 1.74, 6.4, 8.05])
    found = shifted.response.apparent_keV(lines)
    np.testing.assert_allclose(found, fit.response.apparent_keV(lines) * 1.004 - 0.025, atol=5e-4)
    assert fit.converged
    assert 120.0 < 1e3 * fit.response.fwhm_keV(5.895) < 140.0
    assert fit.deviance_per_dof < 4.0


@pytest.mark.parametrize("seed", range(40))
def test_continuum_on_any_axis(seed: int) -> None:
    """Axes that begin below zero, end above the beam, or have a few channels: every function is a spectrum."""
    rng = np.random.default_rng(seed)
    edges = rng.uniform(-2.0, 0.5) + 10.0 ** rng.uniform(-2.5, 0.0) * np.arange(
        int(10.0 ** rng.uniform(0.4, 3.3))
    )
    beam = 10.0 ** rng.uniform(0.3, 2.5)
    centre = 0.5 * (edges[1:] + edges[:-1])
    if not np.any((centre > 0.0) & (centre < beam)):
        with pytest.raises(InputError, match="reach between zero and the beam energy"):
            continuum_basis(edges, beam, Detector().efficiency)
        return
    basis = continuum_basis(edges, beam, Detector().efficiency, int(rng.integers(2, 15)))
    assert np.all(np.isfinite(basis))
    assert np.all(basis >= 0.0)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0)
    assert not basis[:, (centre <= 0.0) | (centre >= beam)].any()
    # A detector that is blind there makes no NaN.
    assert np.all(np.isfinite(continuum_basis(edges, beam, lambda energy: np.zeros(np.shape(energy)))))


def test_a_line_that_moved_off_the_axis_ends_no_fit() -> None:
    """Counts that are no spectrum draw the axis far away, so that a family with a weight reaches no channel."""
    table = LineTable.built_in(200.0)
    rng = np.random.default_rng(7)
    counts = np.where(rng.random(200) < 0.5, 0, rng.integers(0, 2**32, 200)).astype(float)
    elements = [str(element) for element in rng.choice(list(table.elements), 15, replace=False)]
    fit = fit_axis(counts, channel_edges(1.0 + 0.01 * np.arange(200)), table, elements)
    assert np.isfinite(fit.covariance).all()

"""What `bayesunmix.prepare` gives: arrays that the built-in model would start from, with names and units."""

import numpy as np
import pytest

import bayesunmix as bu
from bayesunmix.core.errors import InputError
from bayesunmix.fit.model_data import Blocks
from bayesunmix.fit.prepared import Prepared
from bayesunmix.models.endmember import endmember_spectra
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import SimulatedMap, simulate_map

pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")

ELEMENTS = ("Mg", "Al", "Si", "Ca", "Fe")
PHASES = [bu.Phase("Brg"), bu.Phase("Fp", absent=["Si", "Ca"])]


@pytest.fixture(scope="module")
def simulated() -> SimulatedMap:
    config = phantom_config()
    return simulate_map({**config.to_dict(), "simulate": {"shape": [14, 10], "counts_per_pixel": 300.0}}, 0)


@pytest.fixture(scope="module")
def prepared(simulated: SimulatedMap) -> Prepared:
    mask = np.zeros((14, 10), bool)
    mask[:3] = True
    return bu.prepare(simulated.image.masked(mask), elements=ELEMENTS, phases=PHASES, stray=["Cu"])


def test_no_count_is_lost(prepared: Prepared, simulated: SimulatedMap) -> None:
    data, image = prepared.data, simulated.image
    low, high = float(data["energy_low"][0]), float(data["energy_high"][-1])
    inside = (image.channel_edges_keV[:-1] >= low - 1e-9) & (image.channel_edges_keV[1:] <= high + 1e-9)
    assert int(data["counts"].sum(dtype=int)) == int(image.counts[3:][..., inside].sum(dtype=int))


def test_names_and_units(prepared: Prepared) -> None:
    data = prepared.data
    assert list(data["element"].values) == list(ELEMENTS)
    assert list(data["phase"].values) == ["Brg", "Fp"]
    assert data["energy"].attrs["unit"] == "keV"
    assert data["component"].values[-1] == "continuum"
    assert not data["allowed"].sel(phase="Fp", element=["Si", "Ca"]).any()
    assert data["allowed"].sel(phase="Brg").all()
    np.testing.assert_allclose(data["other"].sum("energy"), 1.0)
    assert "blocks of" in repr(prepared)


def test_spectra_are_those_of_the_built_in_model(prepared: Prepared) -> None:
    setup, data = prepared.setup, prepared.data
    blocks = Blocks.of(setup)
    basis, yields = setup.forward.basis(blocks.absorbing, blocks.allowed)
    atoms = np.array([[0.4, 0.05, 0.4, 0.05, 0.1], [0.8, 0.05, 0.0, 0.0, 0.15]])
    n_other = data.sizes["component"]
    weights = np.concatenate([atoms * yields, np.full((2, n_other), 1e-9)], axis=1)
    # Components that lie in no bin, of which there is none here, would have no spectrum.
    n_knots = basis.continuum_area.shape[1]
    built_in = endmember_spectra(
        basis, weights, np.zeros(len(basis.ratio_sd)), np.zeros(n_knots), np.zeros((2, n_knots))
    )
    own = (atoms[..., None] * data["per_atom"].values).sum(axis=1)
    np.testing.assert_allclose(own / own.sum(axis=1, keepdims=True), built_in, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(prepared.atom_fractions(atoms * yields), atoms, rtol=1e-12)


def test_every_pixel_gets_its_blocks_value(prepared: Prepared, simulated: SimulatedMap) -> None:
    counts = prepared.data["counts"].sum("energy").values
    spread = prepared.on_map(np.stack([counts, np.arange(len(counts))]))
    assert spread.shape == (2, 14, 10)
    assert np.isnan(spread[:, :3]).all()
    used = prepared.setup.image.used
    number = spread[1][used].astype(int)
    total = np.bincount(number, weights=prepared.setup.image.total_counts[used])
    np.testing.assert_array_equal(total, counts)


def test_values_of_other_blocks_are_refused(prepared: Prepared) -> None:
    with pytest.raises(InputError, match=r"`values` must have one value for each of the \d+ blocks"):
        prepared.on_map([1.0])


def test_a_number_of_phases_that_is_left_to_the_map_is_refused(simulated: SimulatedMap) -> None:
    with pytest.raises(InputError, match=r"`phases` must be declared"):
        bu.prepare(simulated.image, elements=ELEMENTS, phases="auto", stray=["Cu"])

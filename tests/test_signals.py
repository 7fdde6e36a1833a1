import warnings
from typing import Any

import dask.array as da
import numpy as np
import pytest

from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.signals import choose

# HyperSpy, dask and pytest's module fixtures hand out untyped objects.
Untyped = Any

FACTS: dict[str, Any] = {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0}
COUNTS = np.random.default_rng(1).poisson(0.4, (4, 5, 50))
ENERGY = 1.0 + 0.01 * np.arange(50)


@pytest.fixture(scope="module")
def hyperspy() -> Untyped:
    """HyperSpy and exSpy, whose import itself warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy
        import hyperspy.api as hs
    assert exspy is not None
    return hs


def plain_signal(hyperspy: Untyped, counts: Untyped = COUNTS, **energy_axis: object) -> Untyped:
    """Return a map as a signal of no particular type, on a calibrated axis unless `energy_axis` says otherwise."""
    signal = hyperspy.signals.Signal1D(counts)
    for axis in signal.axes_manager.navigation_axes:
        axis.scale, axis.units = 2.0, "nm"
    for name, value in {"units": "keV", "scale": 0.01, "offset": 1.0, **energy_axis}.items():
        setattr(signal.axes_manager[-1], name, value)
    return signal


def test_signal_round_trip(hyperspy: Untyped) -> None:
    facts = Acquisition(
        beam_energy_keV=200.0,
        takeoff_angle_deg=22.0,
        resolution_eV=131.0,
        azimuth_deg=45.0,
        elevation_deg=22.0,
        tilt_deg=0.0,
        microscope="TEM",
        elements=("Fe", "Mg"),
    )
    image = SpectrumImage.from_array(
        COUNTS, ENERGY, acquisition=facts, pixel_size=2.0, pixel_unit="nm", name="grain"
    )
    signal = image.to_signal()
    assert type(signal).__name__ == "EDSTEMSpectrum"
    assert np.shares_memory(signal.data, image.counts)
    assert signal.get_take_off_angle() == pytest.approx(22.0)
    for given in (signal, signal.as_lazy()):
        again = SpectrumImage.from_signal(given)
        assert again.count_hash() == image.count_hash()
        assert again.acquisition == facts
        assert (again.pixel_size, again.pixel_unit, again.name) == ((2.0, 2.0), "nm", "grain")
        assert again.warnings == ()
    assert SpectrumImage.from_signal(signal.inav[1]).shape == (1, 4, 50)
    assert SpectrumImage.from_signal(signal.inav[1, 2]).shape == (1, 1, 50)


def test_a_signal_that_is_cut_keeps_its_place(hyperspy: Untyped) -> None:
    signal = plain_signal(hyperspy)
    signal.axes_manager[0].offset, signal.axes_manager[1].offset = 10.0, -4.0
    cut = SpectrumImage.from_signal(signal.inav[2:4, 1:], **FACTS)
    assert cut.origin == (-2.0, 14.0)
    assert cut.pixel_size == (2.0, 2.0)
    np.testing.assert_array_equal(cut.counts, COUNTS[1:, 2:4])
    again = SpectrumImage.from_signal(cut.to_signal(), **FACTS)
    assert again.origin == cut.origin
    assert SpectrumImage.from_signal(signal.inav[1], **FACTS).origin == (0.0, -4.0)


def test_masks_and_nan_of_a_signal_are_kept(hyperspy: Untyped) -> None:
    mask = np.zeros(COUNTS.shape, dtype=bool)
    mask[1, 2] = True
    masked = plain_signal(hyperspy)
    masked.data = np.ma.masked_array(COUNTS, mask)
    holed = COUNTS.astype(float)
    holed[mask] = np.nan
    found = [SpectrumImage.from_signal(masked, **FACTS)]
    with pytest.warns(BayesUnmixWarning, match="1 of 20 pixels hold NaN"):
        found.append(SpectrumImage.from_signal(plain_signal(hyperspy, holed), **FACTS))
    for image in found:
        assert image.mask is not None
        np.testing.assert_array_equal(np.argwhere(image.mask), [[1, 2]])


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"units": ""}, "be calibrated in eV or keV, but has no unit"),
        ({"units": "nm"}, "be calibrated in eV or keV, but has the unit nm"),
        ({"scale": 1.0, "offset": 0.0}, "be calibrated, but has scale 1 and offset 0"),
    ],
)
def test_uncalibrated_energy_axes_are_refused_unless_given(
    hyperspy: Untyped, axis: dict[str, Any], message: str
) -> None:
    signal = plain_signal(hyperspy, **axis)
    with pytest.raises(InputError, match=f"`energy axis` must {message}.*energy_scale_keV"):
        SpectrumImage.from_signal(signal, **FACTS)
    image = SpectrumImage.from_signal(signal, energy_offset_keV=1.0, energy_scale_keV=0.01, **FACTS)
    np.testing.assert_allclose(image.energy_keV, ENERGY)


def test_an_offset_or_a_scale_alone_replaces_its_own(hyperspy: Untyped) -> None:
    signal = plain_signal(hyperspy)
    moved = SpectrumImage.from_signal(signal, energy_offset_keV=1.1, **FACTS)
    np.testing.assert_allclose(moved.energy_keV, ENERGY + 0.1)
    wide = SpectrumImage.from_signal(signal, energy_scale_keV=0.02, **FACTS)
    np.testing.assert_allclose(wide.energy_keV, 1.0 + 0.02 * np.arange(50))
    with pytest.raises(InputError, match=r"`energy_scale_keV` must lie between 0\.0001 and 1"):
        SpectrumImage.from_signal(signal, energy_scale_keV=-0.01, **FACTS)


def test_energy_in_ev_becomes_kev(hyperspy: Untyped) -> None:
    image = SpectrumImage.from_signal(plain_signal(hyperspy, units="eV", scale=10.0, offset=1000.0), **FACTS)
    np.testing.assert_allclose(image.energy_keV, ENERGY)


def test_a_descending_axis_is_refused(hyperspy: Untyped) -> None:
    with pytest.raises(InputError, match="`energy_keV` must ascend"):
        SpectrumImage.from_signal(plain_signal(hyperspy, scale=-0.01, offset=5.0), **FACTS)


@pytest.mark.parametrize("lazy", [False, True])
def test_an_energy_axis_that_comes_first_is_moved_last(hyperspy: Untyped, lazy: bool) -> None:
    moved = np.moveaxis(COUNTS, -1, 0)
    axes = [
        {"size": 50, "units": "keV", "scale": 0.01, "offset": 1.0, "navigate": False},
        {"size": 4, "navigate": True},
        {"size": 5, "navigate": True},
    ]
    signal = hyperspy.signals.Signal1D(moved, axes=axes)
    if lazy:
        signal = signal.as_lazy()
        signal.data = da.from_array(moved, chunks=(50, 2, 2))
    np.testing.assert_array_equal(SpectrumImage.from_signal(signal, **FACTS).counts, COUNTS)


def test_what_is_no_map_is_refused(hyperspy: Untyped) -> None:
    with pytest.raises(
        InputError, match=r"`signal` must have at most two navigation axes, .* 1 x 4 x 5 x 50. Sum"
    ):
        SpectrumImage.from_signal(plain_signal(hyperspy, COUNTS[None]), **FACTS)
    with pytest.raises(
        InputError,
        match=r"`signal` must be a spectrum image, .* it has 2 signal axes, where the",
    ):
        SpectrumImage.from_signal(hyperspy.signals.Signal2D(np.ones((3, 3))), **FACTS)
    with pytest.raises(InputError, match="`signal` must be a HyperSpy signal, but is a ndarray"):
        SpectrumImage.from_signal(COUNTS)


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        (COUNTS.astype(complex), "complex"),
        (COUNTS > 0, "true or false"),
        (COUNTS.astype(object), "the type object"),
    ],
)
def test_why_a_signal_is_no_map(hyperspy: Untyped, counts: Untyped, why: str) -> None:
    signal = hyperspy.signals.BaseSignal(counts).transpose(signal_axes=1)
    with pytest.raises(InputError, match=f"0: picture .* its data are .*{why}, not counts"):
        choose([signal], None, "map.hspy")
    with pytest.raises(InputError, match=f"`signal` .* its data are .*{why}, not counts"):
        choose([signal], 0, "map.hspy")


def test_a_mask_of_its_own_that_leaves_nothing(hyperspy: Untyped) -> None:
    signal = plain_signal(hyperspy)
    signal.metadata.set_item("bayesunmix.left_out", np.ones((4, 5), np.uint8))
    with pytest.raises(InputError, match="`signal` must hold a pixel with counts that its own mask"):
        SpectrumImage.from_signal(signal, **FACTS)


@pytest.mark.parametrize(
    ("units", "size", "unit", "notes"),
    [
        (("nm", "nm"), (2.0, 2.0), "nm", 0),
        (("µm", "nm"), (2000.0, 2.0), "nm", 0),
        (("", ""), (2.0, 2.0), "", 0),
        (("nm", "furlong"), (1.0, 1.0), "", 1),
    ],
)
def test_pixel_sizes_share_one_unit(
    hyperspy: Untyped, units: tuple[str, str], size: tuple[float, float], unit: str, notes: int
) -> None:
    signal = plain_signal(hyperspy)
    for axis, own in zip(reversed(signal.axes_manager.navigation_axes), units, strict=True):
        axis.units = own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        image = SpectrumImage.from_signal(signal, **FACTS)
    assert image.pixel_size == pytest.approx(size)
    assert image.pixel_unit == unit
    assert len(image.warnings) == notes


def test_an_sem_map_becomes_an_sem_signal(hyperspy: Untyped) -> None:
    facts = Acquisition(
        beam_energy_keV=20.0,
        takeoff_angle_deg=35.0,
        elevation_deg=35.0,
        azimuth_deg=45.0,
        tilt_deg=0.0,
        microscope="SEM",
    )
    image = SpectrumImage.from_array(COUNTS, ENERGY, acquisition=facts)
    signal = image.to_signal()
    assert type(signal).__name__ == "EDSSEMSpectrum"
    with pytest.warns(BayesUnmixWarning, match="taken in an SEM: compositions assume a thin film"):
        assert SpectrumImage.from_signal(signal).acquisition.microscope == "SEM"
    assert SpectrumImage.from_signal(signal, microscope="TEM").warnings == ()

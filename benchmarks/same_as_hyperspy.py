"""Whether `bayesunmix.load` reads every file of a folder as ``hyperspy.api.load`` does.

    python benchmarks/same_as_hyperspy.py FOLDER [FOLDER ...]

compares shape, sum of counts, energy axis, beam energy, angles, live and real time, elements, and size and position of
the pixels, signal by signal, and ends with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.acquisition import same_key
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load

# HyperSpy ships no types, and files hold anything.
Untyped = Any

KEV = {"keV": 1.0, "eV": 1e-3}
# Where HyperSpy keeps what is compared, below Acquisition_instrument.TEM or .SEM.
NUMBERS = {
    "beam_energy_keV": "beam_energy",
    "elevation_deg": "Detector.EDS.elevation_angle",
    "azimuth_deg": "Detector.EDS.azimuth_angle",
    "tilt_deg": "Stage.tilt_alpha",
    "tilt_beta_deg": "Stage.tilt_beta",
    "live_time_s": "Detector.EDS.live_time",
    "real_time_s": "Detector.EDS.real_time",
}


@dataclass(frozen=True)
class Compared:
    """One signal of a file: what differs, or why it is no map of counts."""

    file: Path
    signal: int
    differences: tuple[str, ...] = ()
    refused: str = ""


def compare_folder(folder: Path) -> Iterator[Compared]:
    """Compare every signal that HyperSpy opens as spectra, of every file below a folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and ".zspy" not in file.parent.name:
            yield from compare_file(file)


def compare_file(file: Path) -> Iterator[Compared]:
    """Compare every signal of a file that HyperSpy opens as spectra; nothing where it opens none."""
    if crashes(file):
        # HyperSpy would end this process.
        yield Compared(file, 0, refused="crashes the reader")
        return
    for number, signal in enumerate(hyperspy_signals(file)):
        if signal.axes_manager.signal_dimension != 1 or signal.data.dtype.kind not in "uif":
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            try:
                image = load(file, number)
            except InputError as error:
                rightly = holds_no_counts(signal)
                wrongly = () if rightly else (f"refused: {error}",)
                yield Compared(file, number, wrongly, rightly)
                continue
        yield Compared(file, number, tuple(differences(image, signal)))


def crashes(file: Path) -> bool:
    """Whether the process that reads a file ends at it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        try:
            load(file)
        except InputError as error:
            return "the reader" in error.got
    return False


def hyperspy_signals(file: Path) -> list[Any]:
    """Open a file as HyperSpy does, or return nothing where it cannot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import hyperspy.api as hs

        hs.set_log_level("CRITICAL")
        options: dict[str, Any] = {"SI_dtype": "uint16"} if file.suffix.lower() == ".pts" else {}
        if file.suffix.lower() in (".hdf5", ".h5"):
            options["file_format"] = "HSPY"
        try:
            found = hs.load(file, **options)
            found = found if isinstance(found, list) else [found]
            for signal in found:
                # What is cut short may fail only here.
                np.asarray(signal.data)
        except Exception:
            return []
    return found


def holds_no_counts(signal: Untyped) -> str:
    """Say why a signal is no map of counts over energy; empty where it is one."""
    axis, data = signal.axes_manager.signal_axes[0], signal.data
    if str(axis.units) not in KEV:
        return f"axis in {axis.units}"
    if not np.isfinite(data).all() or data.min() < 0 or np.abs(data - np.rint(data)).max() > 1e-3:
        return "negative or fractional"
    return "" if data.any() else "no photon"


def differences(image: SpectrumImage, signal: Untyped) -> Iterator[str]:
    """Yield what differs between a map and the HyperSpy signal of the same file."""
    manager = signal.axes_manager
    axis = manager.signal_axes[0]
    kev = KEV[str(axis.units)]
    # HyperSpy lists navigation axes x first.
    grid = [(abs(a.scale), a.offset) for a in reversed(manager.navigation_axes)]
    grid = [(1.0, 0.0)] * (2 - len(grid)) + grid
    if len(manager.navigation_axes) == 1:
        grid[0] = (grid[1][0], 0.0)
    shape = (*(1,) * (3 - signal.data.ndim), *signal.data.shape)
    expected: dict[str, Any] = {
        "shape": shape,
        "sum of counts": int(signal.data.sum(dtype=np.float64)),
        "energy": (kev * axis.offset, kev * axis.scale),
        "pixel size": tuple(size for size, _ in grid),
        "position": tuple(start for _, start in grid),
        "elements": tuple(str(e) for e in signal.metadata.get_item("Sample.elements", default=())),
        **stored_numbers(signal.metadata.as_dictionary()),
    }
    found: dict[str, Any] = {
        "shape": image.shape,
        "sum of counts": int(image.total_counts.sum()),
        "energy": (image.energy_keV[0], image.energy_step_keV),
        "pixel size": image.pixel_size,
        "position": image.origin,
        "elements": image.acquisition.elements,
        **{name: getattr(image.acquisition, name) for name in NUMBERS},
    }
    for name, value in expected.items():
        if not agree(value, found[name]):
            yield f"{name} is {found[name]}, in HyperSpy {value}"


def stored_numbers(metadata: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers that HyperSpy's metadata hold, by our names; None where they hold none that can be."""
    instruments = metadata.get("Acquisition_instrument", {})
    section = next((instruments[kind] for kind in ("TEM", "SEM") if kind in instruments), {})
    values = {name: stored(section, place) for name, place in NUMBERS.items()}
    times = ("beam_energy_keV", "live_time_s", "real_time_s")
    return {name: None if name in times and value == 0.0 else value for name, value in values.items()}


def stored(node: Untyped, place: str) -> float | None:
    """Return the number at a place of nested dictionaries."""
    for key in place.split("."):
        held = {same_key(own): value for own, value in node.items()} if isinstance(node, Mapping) else {}
        node = held.get(key)
    return None if node is None else float(node)


def agree(one: Untyped, other: Untyped) -> bool:
    """Whether two values are the same, numbers to nine digits."""
    if isinstance(one, tuple):
        return len(one) == len(other) and all(agree(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and other is not None:
        return math.isclose(one, float(other), rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def main() -> None:
    """Compare the folders that the command line names and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folder of map files")
    wrong = 0
    for compared in (one for folder in parser.parse_args().folders for one in compare_folder(folder)):
        wrong += bool(compared.differences)
        said = "; ".join(compared.differences) or (
            f"refused, {compared.refused}" if compared.refused else "same"
        )
        print(f"{compared.file.name} [{compared.signal}] {said}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

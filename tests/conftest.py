"""Test the installed package rather than the bare folder in the checkout."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
import xarray as xr
from hypothesis import settings
from threadpoolctl import threadpool_limits

from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result import Result

if TYPE_CHECKING:
    from bayesunmix.fit.posterior import FittedPosterior

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]


_PROGRAMS = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Let all processes of a session share the programs that JAX compiles, which take most of a small fit's time.

    Other processes take the settings from the environment; JAX and NumPy have read it in this one. Linear algebra gets
    one thread each: for small matrices more of them wait for each other, which doubles the processor time.
    """
    threadpool_limits(limits=1, user_api="blas")
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if hasattr(config, "workerinput") or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.TemporaryDirectory(prefix="programs-", ignore_cleanup_errors=True)
    config.stash[_PROGRAMS] = folder
    for name, value in {
        "jax_compilation_cache_dir": folder.name,
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the programs when the session ends."""
    folder = config.stash.get(_PROGRAMS, None)
    if folder is not None:
        folder.cleanup()


# A deadline for an example would test how busy the machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured maps and reference phantoms that are not part of the project."""
    folder = _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference data are not on this machine")
    return folder


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of the benchmarks, which are scripts beside each other and no package."""
    monkeypatch.syspath_prepend(str(_ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture(scope="session")
def small_fit() -> FittedPosterior:
    """Mode of a small map of the embedded phantom: 36 x 36 pixels, three phases."""
    from bayesunmix.fit.model_data import Blocks
    from bayesunmix.fit.posterior import fit_posterior
    from bayesunmix.fit.preparation import prepare
    from bayesunmix.fit.starts import find_starts
    from bayesunmix.simulation.phantom import phantom_config
    from bayesunmix.simulation.simulate import simulate_map

    config = phantom_config()
    assert config.simulate is not None
    config = dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=(36, 36)))
    blocks = Blocks.of(prepare(simulate_map(config, 1).image, config))
    basis, yields = blocks.forward.basis(blocks.absorbing, blocks.allowed)
    starts = find_starts(blocks.counts, basis, yields, blocks.statements(), blocks.matrix, n_starts=1, seed=0)
    return fit_posterior(blocks, starts, blocks.absorbing, lambda _: None)


@pytest.fixture(scope="session")
def viewed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a small map of a file, 26 x 32 pixels, without tables and figures; the map lies beside it."""
    import bayesunmix as bu
    from bayesunmix.core.output_folder import write_record
    from bayesunmix.data.io import save
    from bayesunmix.simulation.phantom import phantom_config
    from bayesunmix.simulation.simulate import simulate_map

    config = phantom_config()
    assert config.simulate is not None
    config = dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=(26, 32)))
    work = tmp_path_factory.mktemp("viewed")
    image = simulate_map(config, 2).image
    save(image, work / "map.hspy")
    left_out = np.zeros((26, 32), bool)
    left_out[:2, :3] = True
    np.save(work / "mask.npy", left_out)
    phases = [
        bu.Phase("Brg", matrix=True),
        bu.Phase("Fp", absent=["Si", "Ca"]),
        bu.Phase("CaPv", absent=["Mg"]),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        result = bu.unmix(
            work / "map.hspy",
            elements=["Mg", "Al", "Si", "Ca", "Fe", "Nd"],
            stray=["Cu", "Ga", "Pt", "Zr"],
            phases=phases,
            method=bu.Laplace(chains=2, draws=40),
            inference={
                "set_aside": False,
                "further_phase": False,
                "rotations": False,
                "max_overlap": 2,
                "starts": 1,
            },
            map={"mask": str(work / "mask.npy")},
            progress=False,
        )
    out = work / "out"
    out.mkdir()
    result.tree.to_netcdf(out / "posterior.nc", engine="h5netcdf")
    write_record(out, result.record.to_dict())
    return out


@pytest.fixture(scope="session")
def made_result() -> Callable[..., Result]:
    """Make a result by hand from amounts (chain, draw, phase, element) and how their elements are calibrated."""
    return _made_result


def _made_result(
    amounts: np.ndarray[Any, Any],
    phases: Sequence[str],
    elements: Sequence[str],
    *,
    sd: Sequence[float] | None = None,
    family: Sequence[str] | None = None,
    absent: Mapping[str, Sequence[str]] | None = None,
    xray: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Result:
    """Put calibration factors of standard deviations `sd` into amounts at nominal factors."""
    dims = ("chain", "draw", "phase", "element")
    widths = np.zeros(len(elements)) if sd is None else np.asarray(sd)
    factors = widths * np.random.default_rng(seed).normal(size=(*amounts.shape[:2], len(elements)))
    drawn = {
        "composition_counting": amounts,
        "composition": amounts * np.exp(-factors)[:, :, None, :],
    }
    variables: dict[str, Any] = {name: (dims, x / x.sum(axis=-1, keepdims=True)) for name, x in drawn.items()}
    variables["log_calibration"] = (("chain", "draw", "element"), factors)
    posterior = xr.Dataset(variables, {"phase": list(phases), "element": list(elements)})
    constants = xr.Dataset(
        {
            "calibration_sd": ("element", widths),
            "calibration_family": ("element", list(family or ["K"] * len(elements))),
        },
        {"element": list(elements)},
    )
    config = {
        "inference": {"level": 0.95},
        "phases": [{"name": name, "absent": list((absent or {}).get(name, []))} for name in phases],
        "xray": dict(xray or {}),
    }
    run = {"method": "laplace", "lines": "by hand", "config": config, "problems": []}
    return Result(
        xr.DataTree.from_dict({"posterior": posterior, "constant_data": constants}), RunRecord.of(run)
    )

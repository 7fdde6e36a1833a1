"""Test the installed package rather than the bare folder in the checkout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from bayesunmix.result import Result

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured maps and reference phantoms that are not part of the project."""
    folder = _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference data are not on this machine")
    return folder


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
    return Result(xr.DataTree.from_dict({"posterior": posterior, "constant_data": constants}), run)

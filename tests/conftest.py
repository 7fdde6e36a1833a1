"""Test the installed package rather than the bare folder in the checkout."""

import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured maps and reference phantoms that are not part of the project."""
    folder = _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference data are not on this machine")
    return folder

"""Studies run, resume, spread over processes and say what failed."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bayesunmix.core.errors import InputError
from bayesunmix.laboratory.replicates import run_study


@pytest.fixture
def conjugate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the study from a module that worker processes can import too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("conjugate")


def test_an_interrupted_study_goes_on(conjugate: ModuleType, tmp_path: Path) -> None:
    told: list[int] = []
    first = run_study(
        conjugate.study(), tmp_path, 3, progress=lambda replicate: told.append(replicate.number)
    )
    (tmp_path / "replicate_00001.npz").unlink()
    again = run_study(
        conjugate.study(), tmp_path, 5, progress=lambda replicate: told.append(replicate.number)
    )
    assert told == [0, 1, 2, 1, 3, 4]
    assert [replicate.number for replicate in again] == list(range(5))
    for one, other in zip(first, again, strict=False):
        np.testing.assert_array_equal(one.draws, other.draws)
    assert again[0].names == ("a", "b", "exp a")
    np.testing.assert_array_equal(again[2].truth, [conjugate.simulate(2)[0][name] for name in again[2].names])


def test_processes_change_nothing(conjugate: ModuleType, tmp_path: Path) -> None:
    alone = run_study(conjugate.study(2), tmp_path / "one", 4)
    shared = run_study(conjugate.study(2), tmp_path / "two", 4, processes=2)
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.draws, other.draws)
        assert one.failure == other.failure
    assert [bool(replicate.failure) for replicate in shared] == [False, False, True, False]
    assert shared[2].failure == "ValueError: no posterior"


def test_a_folder_of_another_study_is_refused(conjugate: ModuleType, tmp_path: Path) -> None:
    run_study(conjugate.study(), tmp_path, 1)
    with pytest.raises(
        InputError, match=r"`folder` must be new or hold replicates of this study.*of another"
    ):
        run_study(conjugate.study(0), tmp_path, 1)

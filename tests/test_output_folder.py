"""Output folders: one run at a time, the old result or the new one whole, and a user's own files untouched."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bayesunmix.core import output_folder
from bayesunmix.core.errors import InputError
from bayesunmix.core.output_folder import (
    COMPARISON_RECORD,
    COMPLETE,
    LEGACY_FILES,
    LOCK,
    NEW,
    RECORD,
    amend_record,
    check_folder,
    claimed,
    names_of,
    read_record,
    settle,
    write_record,
    written_aside,
)

OLD = {"composition.csv": "old", "figures/fit.png": "old", "figures/gone.png": "old", "tables/a.csv": "old"}
CURRENT = {"composition.csv": "new", "figures/fit.png": "new", "figures/more.png": "new"}
OWN = {"notes.txt": "mine", "figures/mine.png": "mine"}


class KilledError(BaseException):
    """Stands for a kill: nothing tidies up after it."""


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def held(folder: Path) -> dict[str, str]:
    """Names and texts of the files, without the record and the lock."""
    return {name: (folder / name).read_text() for name in names_of(folder) if name not in (RECORD, LOCK)}


def write(folder: Path, files: dict[str, str]) -> None:
    with claimed(folder), written_aside(folder) as aside:
        fill(aside, files)
        write_record(aside, {"files": [*files, RECORD]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Hold a result and files of the user's own."""
    path = tmp_path / "out"
    write(path, OLD)
    fill(path, OWN)
    return path


# -- what may be used -------------------------------------------------------------------------------------------------


def test_a_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    new = tmp_path / "a" / "b"
    check_folder(new, go_on=False)
    assert not new.parent.exists()
    fill(tmp_path, {"notes.txt": "mine"})
    with pytest.raises(InputError, match=r'`--out` must be a new or empty folder, but ".*" is not empty'):
        check_folder(tmp_path, go_on=False)
    check_folder(tmp_path, go_on=True)
    with pytest.raises(InputError, match=r'`--out` must be a folder, but ".*" is a file'):
        check_folder(tmp_path / "notes.txt", go_on=True)
    with pytest.raises(
        InputError, match=r'`--out` must be a folder that can be written, but ".*notes.txt" cannot'
    ):
        check_folder(tmp_path / "notes.txt" / "out", go_on=False)


def test_a_log_alone_makes_no_folder_a_used_one(tmp_path: Path) -> None:
    fill(tmp_path, {"run.log": "", LOCK: ""})
    check_folder(tmp_path, go_on=False)


@pytest.mark.parametrize("name", ["composition.csv", "figures/fit.png"])
def test_what_stands_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(InputError, match=rf'but ".*{Path(name).name}" is in the way'):
        check_folder(tmp_path, go_on=True)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    fill(tmp_path, {"figures": "mine"})
    with pytest.raises(InputError, match=r'but ".*figures" is in the way'):
        check_folder(tmp_path, go_on=True)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=r"must be a folder that can be written"):
        check_folder(tmp_path / "new", go_on=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", _raising(PermissionError(errno.EACCES, "Permission denied")))
        with (
            pytest.raises(InputError, match=r'but ".*new" cannot: Permission denied'),
            claimed(tmp_path / "new"),
        ):
            pass


def _raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# -- one run at a time ------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path):
        with (
            pytest.raises(InputError, match=rf'but another run is writing "{tmp_path}". Wait'),
            claimed(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with claimed(tmp_path):
        pass


HOLD_AND_DIE = """
import os, sys
from pathlib import Path
from bayesunmix.core.output_folder import claimed
with claimed(Path(sys.argv[1])):
    os._exit(9)
"""


def test_the_lock_of_a_dead_run_blocks_nobody(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-P", "-c", HOLD_AND_DIE, str(tmp_path)], check=False)
    assert died.returncode == 9
    assert (tmp_path / LOCK).exists()
    with claimed(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# -- old or new, whole ------------------------------------------------------------------------------------------------


def test_a_new_result_replaces_the_files_of_the_old_one_alone(folder: Path) -> None:
    write(folder, CURRENT)
    assert held(folder) == CURRENT | OWN
    assert not (folder / "tables").exists()
    assert read_record(folder) == {"files": [*CURRENT, RECORD]}


def test_an_error_leaves_the_old_result(folder: Path) -> None:
    fail = _raising(OSError("full"))
    with pytest.raises(OSError, match="full"), claimed(folder), written_aside(folder) as aside:
        fail(fill(aside, {"composition.csv": "new"}))
    (folder / NEW / "composition.csv").unlink()
    assert held(folder) == OLD | OWN
    write(folder, CURRENT)
    assert held(folder) == CURRENT | OWN


STEPS = [
    (call, number) for call, most in (("unlink", 6), ("replace", 6), ("rmtree", 3)) for number in range(most)
]


@pytest.mark.parametrize(("call", "number"), STEPS)
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_at_any_point_leaves_one_of_them_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, before: bool
) -> None:
    """Kill before or after the so-manyth change of the disk, and look at the folder as a reader of results does."""
    place = {"unlink": Path, "replace": os, "rmtree": output_folder.shutil}[call]
    real, calls = getattr(place, call), iter(range(1000))

    def killing(path: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # The lock and half files are none of the steps.
        due = Path(path).name != LOCK and Path(path).suffix != ".part" and next(calls) == number
        if due and before:
            raise KilledError
        real(path, *args, **kwargs)
        if due:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(place, call, killing)
        try:
            write(folder, CURRENT)
            killed = False
        except KilledError:
            killed = True
    committed = not killed or (folder / COMPLETE).is_dir() or held(folder)["composition.csv"] == "new"
    settle(folder)
    found = {name: text for name, text in held(folder).items() if not name.startswith((NEW, COMPLETE))}
    assert found == (CURRENT if committed else OLD) | OWN
    assert (folder / RECORD).is_file()
    assert not (folder / COMPLETE).exists()
    write(folder, CURRENT)
    assert held(folder) == CURRENT | OWN


def test_a_file_of_the_users_own_that_has_the_name_of_a_new_one_is_kept(tmp_path: Path) -> None:
    for number in range(2):
        fill(tmp_path, {"composition.csv": f"mine {number}"})
        (tmp_path / RECORD).unlink(missing_ok=True)
        write(tmp_path, CURRENT)
    first = {"composition.csv.before": "mine 0", "composition.csv.before1": "mine 1"}
    assert first.items() <= held(tmp_path).items()
    assert held(tmp_path)["composition.csv"] == "new"


def test_a_comparison_is_replaced_in_the_same_way(folder: Path) -> None:
    """Beside a result, of which nothing is touched."""
    fill(folder, {"trend.csv": "old", "figures/trend.png": "old", COMPARISON_RECORD: "{}"})
    new = {"compositions.csv": "new", "figures/comparison.png": "new"}
    for files in (new, {"partitions.csv": "newer"}):
        with claimed(folder), written_aside(folder) as aside:
            fill(aside, files)
            write_record(aside, {"files": [*files, COMPARISON_RECORD]}, COMPARISON_RECORD)
        found = held(folder)
        assert json.loads(found.pop(COMPARISON_RECORD))["files"] == [*files, COMPARISON_RECORD]
        assert found == OLD | OWN | files


def test_of_a_record_without_a_list_the_known_names_are_removed(tmp_path: Path) -> None:
    fill(tmp_path, {name: "old" for name in LEGACY_FILES} | OWN)
    (tmp_path / RECORD).write_text(json.dumps({"version": "0.3.0"}))
    write(tmp_path, CURRENT)
    assert held(tmp_path) == CURRENT | OWN


def test_a_planted_record_removes_nothing_outside(tmp_path: Path) -> None:
    folder, beside = tmp_path / "out", tmp_path / "beside"
    fill(beside, {"a.txt": "mine"})
    fill(folder, {"a.txt": "listed"})
    (folder / "linked").symlink_to(beside)
    names = [
        "../beside/a.txt",
        str(beside / "a.txt"),
        "linked/a.txt",
        "a.txt",
        "",
        ".",
        "..",
        "c:a",
        3,
        None,
        "x\0y",
    ]
    (folder / RECORD).write_text(json.dumps({"files": names}))
    write(folder, CURRENT)
    assert held(beside) == {"a.txt": "mine"}
    assert "a.txt" not in held(folder)
    assert "composition.csv" in held(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"files": 1}', '{"files": {"a": 1}}', "\x00", "[" * 100_000])
def test_a_damaged_record_stops_nobody(folder: Path, text: str) -> None:
    (folder / RECORD).write_text(text)
    amend_record(folder, ["warning"], ["a.csv"])
    write(folder, CURRENT)
    # What no record lists stays, and what is in the way of a new file is kept beside it.
    assert (CURRENT | OWN).items() <= held(folder).items()


def test_further_files_are_listed(folder: Path) -> None:
    amend_record(folder, None, ["truth.csv"])
    amend_record(folder, ["said"], ["truth.csv"])
    record = read_record(folder)
    assert record is not None
    assert record["files"] == sorted([*OLD, RECORD, "truth.csv"])
    assert record["warnings"] == ["said"]

"""What is said goes through logging and into run.log, and changes nothing for those who have set up neither."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from bayesunmix.core.errors import InputError
from bayesunmix.core.log import LOGGER, RunLog, keeping, logged, settle, tell


def test_it_settles_with_what_was_said_before(tmp_path: Path) -> None:
    with keeping():
        tell(logging.INFO, "before")
        settle(tmp_path, {"jax": "1.2"})
        tell(logging.INFO, "after")
    tell(logging.INFO, "outside")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 2)[1] for line in lines] == ["INFO"] * 3
    assert lines[0].endswith("before")
    assert "with jax 1.2 on" in lines[1]
    assert lines[2].endswith("after")


def test_warnings_of_any_library_are_in_it(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        before = warnings.showwarning
        with keeping():
            settle(tmp_path, {})
            warnings.warn("odd", RuntimeWarning, stacklevel=1)
        assert warnings.showwarning is before
    assert [str(one.message) for one in shown] == ["odd"]
    assert "WARNING RuntimeWarning: odd" in (tmp_path / "run.log").read_text()


def test_a_run_that_fails_leaves_its_traceback(tmp_path: Path) -> None:
    @logged
    def run(error: BaseException) -> None:
        settle(tmp_path, {})
        raise error

    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError("ours"))
    assert "ZeroDivisionError: ours" in (tmp_path / "run.log").read_text()
    assert "Traceback" in (tmp_path / "run.log").read_text()
    (tmp_path / "run.log").unlink()
    with pytest.raises(InputError):
        run(InputError("x", "be y", "is z"))
    assert "Traceback" not in (tmp_path / "run.log").read_text()
    assert not [handler for handler in LOGGER.handlers if isinstance(handler, RunLog)]


def test_one_inside_another_is_the_same() -> None:
    with keeping() as outer:
        with keeping() as inner:
            assert inner is outer
        assert outer in LOGGER.handlers


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with keeping() as log:
        settle(tmp_path / "none", {})
        tell(logging.INFO, "said")
        rescued = log.rescue()
        assert rescued is not None
        assert "said" in rescued.read_text()
        rescued.unlink()


def test_a_file_for_what_has_no_folder() -> None:
    with keeping() as log:
        tell(logging.ERROR, "said")
        path = log.rescue()
    assert path is not None
    assert path.name.startswith("bayesunmix-")
    assert "said" in path.read_text()
    path.unlink()


def test_nothing_is_shown_where_logging_is_not_set_up() -> None:
    script = "from bayesunmix.core.log import tell; tell(40, 'an error'); tell(20, 'a word')"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")

"""Finished stages on disk: used again only for the same question, and never half written."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from bayesunmix.checkpoint import FOLDER, Stages

FACTS = {"hash": "abc", "seed": 1}


class Counter:
    """A stage that counts how often it is computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, int]:
        self.calls += 1
        return {"answer": self.calls}


def test_a_finished_stage_is_read_back(tmp_path: Path) -> None:
    stage = Counter()
    first = Stages(tmp_path, FACTS, resume=False)
    assert first.run("mode", stage) == {"answer": 1}
    again = Stages(tmp_path, FACTS, resume=True)
    assert again.run("mode", stage) == {"answer": 1}
    assert again.resumed == ["mode"]
    assert again.timings == first.timings
    assert again.run("draws", stage) == {"answer": 2}
    assert again.resumed == ["mode"]


def test_without_resume_all_is_done_again(tmp_path: Path) -> None:
    stage = Counter()
    Stages(tmp_path, FACTS, resume=False).run("mode", stage)
    fresh = Stages(tmp_path, FACTS, resume=False)
    assert fresh.run("mode", stage) == {"answer": 2}
    assert fresh.resumed == []


@pytest.mark.parametrize("changed", [{"seed": 2}, {"hash": "abd"}, {"config": {"level": 0.9}}])
def test_another_question_is_not_answered_with_old_stages(tmp_path: Path, changed: dict[str, object]) -> None:
    stage = Counter()
    Stages(tmp_path, FACTS, resume=False).run("mode", stage)
    other = Stages(tmp_path, FACTS | changed, resume=True)
    assert other.run("mode", stage) == {"answer": 2}
    assert other.resumed == []


def test_a_stage_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    stages = Stages(tmp_path, FACTS, resume=False)
    with pytest.raises(ZeroDivisionError):
        stages.run("mode", fail)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_result_that_cannot_be_written_is_not_taken_for_finished(tmp_path: Path) -> None:
    stages = Stages(tmp_path, FACTS, resume=False)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        stages.run("mode", lambda: lambda: None)
    assert not (tmp_path / FOLDER / "mode.pickle").exists()
    stage = Counter()
    assert Stages(tmp_path, FACTS, resume=True).run("mode", stage) == {"answer": 1}


def test_a_finished_run_keeps_no_stages(tmp_path: Path) -> None:
    stages = Stages(tmp_path, FACTS, resume=False)
    stages.run("mode", Counter())
    stages.finish()
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = Counter()
    stages = Stages(None, FACTS, resume=False)
    stages.run("mode", stage)
    stages.run("mode", stage)
    stages.finish()
    assert stage.calls == 2
    assert list(tmp_path.iterdir()) == []

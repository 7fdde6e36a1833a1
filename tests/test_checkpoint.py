"""Finished stages on disk: used again only for the same question, never half written, never damaged or planted."""

from __future__ import annotations

import errno
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayesunmix.core import checkpoint
from bayesunmix.core.checkpoint import FACTS, FOLDER, Stages, kept_facts, what_differs
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.fit.starts import Start

FRESH = {"counts": "abc", "seed": 1}


class Counter:
    """A stage that counts how often it is computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Any]:
        self.calls += 1
        return {"answer": self.calls, "draws": np.arange(1000.0)}


def answer(stages: Stages, stage: Callable[[], dict[str, Any]], name: str = "mode") -> int:
    return int(stages.run(name, stage)["answer"])


def test_a_finished_stage_is_read_back(tmp_path: Path) -> None:
    stage = Counter()
    first = Stages(tmp_path, FRESH, resume=False)
    assert answer(first, stage) == 1
    again = Stages(tmp_path, FRESH, resume=True)
    assert answer(again, stage) == 1
    assert again.resumed == ["mode"]
    assert again.timings == first.timings
    assert answer(again, stage, "draws") == 2
    assert again.resumed == ["mode"]


def test_without_resume_all_is_done_again(tmp_path: Path) -> None:
    stage = Counter()
    Stages(tmp_path, FRESH, resume=False).run("mode", stage)
    fresh = Stages(tmp_path, FRESH, resume=False)
    assert answer(fresh, stage) == 2
    assert fresh.resumed == []


@pytest.mark.parametrize("changed", [{"seed": 2}, {"counts": "abd"}, {"configuration": {"level": 0.9}}])
def test_another_question_is_not_answered_with_old_stages(tmp_path: Path, changed: dict[str, object]) -> None:
    stage = Counter()
    Stages(tmp_path, FRESH, resume=False).run("mode", stage)
    other = Stages(tmp_path, FRESH | changed, resume=True)
    with pytest.warns(
        BayesUnmixWarning, match="`mode` is not used but computed anew: it belongs to another run"
    ):
        assert answer(other, stage) == 2
    assert other.resumed == []


def test_a_stage_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    stages = Stages(tmp_path, FRESH, resume=False)
    with pytest.raises(ZeroDivisionError):
        stages.run("mode", fail)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [FACTS]
    assert kept_facts(tmp_path) == FRESH


def test_a_result_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path) -> None:
    stages = Stages(tmp_path, FRESH, resume=False)
    with pytest.warns(BayesUnmixWarning, match="`mode` cannot be kept"):
        assert stages.run("mode", lambda: len)(["one"]) == 1
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [FACTS]


def test_a_finished_run_keeps_no_stages(tmp_path: Path) -> None:
    stages = Stages(tmp_path, FRESH, resume=False)
    stages.run("mode", Counter())
    stages.finish()
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = Counter()
    stages = Stages(None, FRESH, resume=False)
    stages.run("mode", stage)
    stages.run("mode", stage)
    stages.finish()
    assert stage.calls == 2
    assert list(tmp_path.iterdir()) == []


# -- damage and malice ------------------------------------------------------------------------------------------------


class Planted:
    """Says that it was unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.file,)


def _truncate(path: Path, beacon: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def _empty(path: Path, beacon: Path) -> None:
    path.write_bytes(b"")


def _flip(place: float) -> Callable[[Path, Path], None]:
    def flip(path: Path, beacon: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 0x10
        path.write_bytes(bytes(data))

    return flip


def _pickle(path: Path, beacon: Path) -> None:
    path.write_bytes(pickle.dumps(("key", 1.0, Planted(beacon))))


def _pickled_array(path: Path, beacon: Path) -> None:
    np.savez(path, about=np.array([Planted(beacon)], object), checksum=np.zeros(32, np.uint8))


def _another_array(path: Path, beacon: Path) -> None:
    with np.load(path) as stored:
        members = dict(stored)
    np.savez(path, **{**members, "array_0": np.zeros(3)})


def _no_npz(path: Path, beacon: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def _other_zip(path: Path, beacon: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.npy", b"no array")


def _told(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    """Change what the text says, and make the checksum right again."""

    def tell(path: Path, beacon: Path) -> None:
        with path.open("rb") as stream:
            about, arrays = checkpoint._read(stream)
        change(about)
        checkpoint._write(path, about, arrays)

    return tell


DAMAGES = {
    "truncated": _truncate,
    "empty": _empty,
    **{f"bit at {place:.0%}": _flip(place) for place in (0.05, 0.2, 0.5, 0.7, 0.9)},
    "pickle": _pickle,
    "pickled array": _pickled_array,
    "another array": _another_array,
    "no npz": _no_npz,
    "another zip": _other_zip,
    "another class": _told(lambda about: about.update(tree=["record", "os:system", ["command", "true"]])),
    "a missing field": _told(lambda about: about.update(tree=["record", "bayesunmix.fit.starts:Start"])),
    "another type": _told(lambda about: about.update(tree=["list", 1])),
    "no tree": _told(lambda about: about.pop("tree")),
    "no seconds": _told(lambda about: about.update(seconds=None)),
    "too deep": _told(lambda about: about.update(tree=json.loads("[" * 900 + "]" * 900))),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_or_planted_stage_is_computed_anew(
    tmp_path: Path, damage: Callable[[Path, Path], None]
) -> None:
    stage, beacon = Counter(), tmp_path / "beacon"
    Stages(tmp_path, FRESH, resume=False).run("mode", stage, dict[str, Any])
    damage(tmp_path / FOLDER / "mode.npz", beacon)
    again = Stages(tmp_path, FRESH, resume=True)
    with pytest.warns(BayesUnmixWarning, match="The kept stage `mode` is not used but computed anew: ."):
        result = again.run("mode", stage, dict[str, Any])
    assert result["answer"] == 2
    assert again.resumed == []
    assert not beacon.exists()
    # What was computed anew is kept in its place.
    assert Stages(tmp_path, FRESH, resume=True).run("mode", stage, dict[str, Any])["answer"] == 2


def test_a_stage_of_another_type_is_not_used(tmp_path: Path) -> None:
    Stages(tmp_path, FRESH, resume=False).run("starts", lambda: [1.0])
    start = Start(np.ones((1, 1)), np.ones((1, 1)), 0.0)
    with pytest.warns(BayesUnmixWarning, match="it holds something else"):
        found = Stages(tmp_path, FRESH, resume=True).run("starts", lambda: [start], list[Start])
    assert found[0].score == 0.0


def test_a_full_disk_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stages, stage = Stages(tmp_path, FRESH, resume=False), Counter()
    stages.run("starts", stage)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.warns(BayesUnmixWarning, match="cannot be kept any more .No space left on device"):
            assert answer(stages, stage) == 2
        # Said once.
        assert answer(stages, stage, "draws") == 3
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [FACTS, "starts.npz"]


# -- what differs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ({"seed": 1}, {"seed": 1}, None),
        ({"size": [1.0, 2.0]}, {"size": (1.0, 2.0)}, None),
        ({"size": float("nan")}, {"size": float("nan")}, None),
        ({"seed": 1, "level": 2}, {"level": 3, "seed": 2}, "level: 2 there, 3 here"),
        ({"counts": 64 * "a"}, {"counts": 64 * "b"}, "counts: not the same"),
        (
            {"versions": {"numpy": "2.1"}},
            {"versions": {"numpy": "2.2"}},
            'versions.numpy: "2.1" there, "2.2" here',
        ),
        ({"phases": [{"name": "A"}]}, {"phases": [{"name": "B"}]}, 'phases[0].name: "A" there, "B" here'),
        ({"phases": [1]}, {"phases": [1, 2]}, "phases: [1] there, [1, 2] here"),
        ({"old": 1}, {}, "old: 1 there, not given here"),
        ({}, {"new": 1}, "new: not given there, 1 here"),
    ],
)
def test_the_first_difference_is_named(there: dict[str, Any], here: dict[str, Any], said: str | None) -> None:
    assert what_differs(there, here) == said


def test_damaged_facts_are_none(tmp_path: Path) -> None:
    assert kept_facts(tmp_path) is None
    Stages(tmp_path, FRESH, resume=False)
    for text in ("", "[1]", '{"a":', "\x00", "[" * 100_000):
        (tmp_path / FOLDER / FACTS).write_text(text)
        assert kept_facts(tmp_path) is None

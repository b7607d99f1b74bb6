"""A session is saved with every change: kills, restores, undo history, refusals, what the folder tells."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.annotate.session import session as session_module
from monai_tpseg.annotate.session.saved import Saved
from monai_tpseg.annotate.web.workspace import Workspace
from monai_tpseg.studies.manifest import Entry

from .conftest import write_weights

WORK = """
import os, signal, sys
from pathlib import Path
from monai_tpseg.annotate import PromptModel, Session

source, weights, folder, image, label = map(Path, sys.argv[1:])
session = Session(source, PromptModel(weights, "cpu"), "lung_infection", folder)
session.click(18, 18, index=2)
session.click(4, 30, False, index=2)
session.scribble([(5.0, 5.0), (30.0, 30.0)], True, 1)
session.add_exemplar(image, label)
session.propagate(2, 2)
session.add_slice_exemplar(2)
session.set_use_class(False)
session.segment(5)
session.accept(3)
session.undo()
session.undo()
os.kill(os.getpid(), signal.SIGKILL)
"""
"""Ten steps, of which two are taken back, and a sudden end."""


@pytest.fixture(scope="module")
def killed(weights: Path, sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a session whose process was killed."""
    folder = tmp_path_factory.mktemp("killed") / "session"
    work = [str(x) for x in (sources["ct"], weights, folder, sources["picture"], sources["label"])]
    ended = subprocess.run([sys.executable, "-c", WORK, *work], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return folder


def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def same_work(source: Path, model: PromptModel, sources: dict[str, Path]) -> Session:
    """What the killed process did, in memory."""
    session = Session(source, model, "lung_infection")
    session.click(18, 18, index=2)
    session.click(4, 30, False, index=2)
    session.scribble([(5.0, 5.0), (30.0, 30.0)], True, 1)
    session.add_exemplar(sources["picture"], sources["label"])
    session.propagate(2, 2)
    session.add_slice_exemplar(2)
    session.set_use_class(False)
    session.segment(5)
    session.accept(3)
    session.undo()
    session.undo()
    return session


def described(session: Session) -> tuple[object, ...]:
    depth = session.shape[2]
    clicks = [session.clicks(index) for index in range(depth)]
    return session.states(), clicks, session.task, session.use_class, session.exemplars


def test_a_killed_session_is_restored_to_the_bit(
    killed: Path, model: PromptModel, sources: dict[str, Path], tmp_path: Path
) -> None:
    restored, other = Session.restore(copy(killed, tmp_path), model), same_work(sources["ct"], model, sources)
    assert described(restored) == described(other)
    assert np.array_equal(restored.volume_mask(), other.volume_mask())
    assert restored.can_redo
    for session in (restored, other):  # a click goes on from logits that were not saved
        session.click(20, 25, False, index=4)
        session.click(12, 12, index=1)
    assert np.array_equal(restored.volume_mask(), other.volume_mask())
    assert not restored.can_redo
    while other.can_undo:
        restored.undo(), other.undo()
        assert described(restored) == described(other)
        assert np.array_equal(restored.volume_mask(), other.volume_mask())
    assert not restored.can_undo
    while other.can_redo:
        restored.redo(), other.redo()
        assert np.array_equal(restored.volume_mask(), other.volume_mask())


def test_what_was_taken_back_can_be_taken_again_after_a_kill(
    killed: Path, model: PromptModel, sources: dict[str, Path], tmp_path: Path
) -> None:
    restored, other = Session.restore(copy(killed, tmp_path), model), same_work(sources["ct"], model, sources)
    for _ in range(2):
        restored.redo(), other.redo()
    assert described(restored) == described(other)
    assert np.array_equal(restored.volume_mask(), other.volume_mask())


def test_saving_leaves_out_only_what_cannot_be_reached(
    killed: Path, model: PromptModel, sources: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy(killed, tmp_path)
    session, other = Session.restore(folder, model), same_work(sources["ct"], model, sources)
    for one in (session, other):
        one.click(30, 9, False, index=5)  # the two steps that were taken back are gone
        one.click(9, 30, False, index=5)
        one.undo()
    before = (folder / "session.jsonl").stat().st_size
    session.save()
    session.click(3, 3, index=0)
    session.close()
    other.click(3, 3, index=0)
    again = Session.restore(folder, model)
    assert (folder / "session.jsonl").stat().st_size < before
    assert described(again) == described(other)
    while other.can_undo:
        again.undo(), other.undo()
        assert np.array_equal(again.volume_mask(), other.volume_mask())


def test_a_line_that_was_cut_is_left_out(killed: Path, model: PromptModel, tmp_path: Path) -> None:
    folder = copy(killed, tmp_path)
    whole = Session.restore(folder, model)
    expected = described(whole)
    whole.close()
    with (folder / "session.jsonl").open("ab") as file:
        file.write(b'{"index":2,"slice":{"cli')
    session = Session.restore(folder, model)
    assert described(session) == expected
    session.click(3, 3, index=0)
    session.close()
    assert Session.restore(folder, model).clicks(0) == session.clicks(0)


def test_a_saved_session_is_small(killed: Path) -> None:
    journal = (killed / "session.jsonl").read_text()
    assert len(journal) < 20_000
    assert len(journal.splitlines()) == 1 + 10 + 2  # head, steps, moves back


def test_other_weights_or_a_changed_source_are_refused(
    killed: Path, model: PromptModel, weights: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    other = PromptModel(write_weights(tmp_path / "other.pt", seed=1), "cpu")
    folder = copy(killed, tmp_path)
    with pytest.raises(SessionError, match="made with other weights"):
        Session.restore(folder, other)
    with pytest.raises(SessionError, match="made with other threshold"):
        Session.restore(folder, PromptModel(weights, "cpu", threshold=0.4))
    with pytest.raises(SessionError, match="has changed"):
        Session.restore(folder, model, sources["mr"])
    record = json.loads((folder / "source.json").read_text())
    record["paths"] = [str(tmp_path / "gone.nii.gz")]
    (folder / "source.json").write_text(json.dumps(record))
    with pytest.raises(SessionError, match="has moved"):
        Session.restore(folder, model)
    moved = tmp_path / "elsewhere" / sources["ct"].name
    moved.parent.mkdir()
    shutil.copy(sources["ct"], moved)
    session = Session.restore(folder, model, moved)
    assert session.states()[2] == "edited"
    session.close()
    assert Session.restore(folder, model).source == moved
    (folder / "source.json").unlink()
    with pytest.raises(SessionError, match="does not identify its source"):
        Session.restore(folder, model)


@pytest.mark.parametrize("line", [b"null\n", b"{\n", b'{"move":1}\n', b'{"index":1,"slice":{"clicks":[]}}\n'])
def test_a_damaged_session_is_refused(killed: Path, model: PromptModel, tmp_path: Path, line: bytes) -> None:
    folder = copy(killed, tmp_path)
    path = folder / "session.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]) + line)
    with pytest.raises(SessionError, match="is damaged"):
        Session.restore(folder, model)


def test_a_damaged_mask_or_exemplar_is_refused(killed: Path, model: PromptModel, tmp_path: Path) -> None:
    folder = copy(killed, tmp_path)
    path = folder / "session.jsonl"
    text = path.read_text()
    at = text.index('"levels":"') + 20
    path.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    with pytest.raises(SessionError, match="is damaged"):
        Session.restore(folder, model)
    path.write_text(text)
    picture = next((folder / "exemplars").iterdir())
    data = bytearray(picture.read_bytes())
    data[len(data) // 2] ^= 1
    picture.write_bytes(data)
    with pytest.raises(SessionError, match="exemplar"):
        Session.restore(folder, model)


def test_a_folder_is_for_one_session(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    first = Session(sources["picture"], model, "skin_lesion", tmp_path / "a")
    with pytest.raises(SessionError, match="in use"):
        Session(sources["picture"], model, "skin_lesion", tmp_path / "a")
    with pytest.raises(SessionError, match="in use"):
        Session.restore(tmp_path / "a", model)
    first.close()
    with pytest.raises(SessionError, match="holds a session"):
        Session(sources["picture"], model, "skin_lesion", tmp_path / "a")
    with pytest.raises(SessionError, match="holds no saved session"):
        Session.restore(tmp_path / "b", model)
    with pytest.raises(SessionError, match="has no folder"):
        Session(sources["picture"], model, "skin_lesion").save()


def test_a_session_that_was_closed_says_so(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["picture"], model, folder=tmp_path / "work")
    session.close()
    for work in (session.save, lambda: session.click(5, 5)):
        with pytest.raises(SessionError, match="was closed; restore it"):
            work()
    assert not session.mask(0).any()


def test_a_session_that_was_killed_before_it_began(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "session.jsonl").touch()
    with pytest.raises(SessionError, match="is damaged"):
        Session.restore(tmp_path, model)
    Session(sources["picture"], model, "skin_lesion", tmp_path).close()
    assert Session.restore(tmp_path, model).task == "skin_lesion"


def test_a_folder_without_a_whole_first_line_is_begun_anew(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SessionError, match="No space left"):
            Session(sources["picture"], model, "skin_lesion", tmp_path / "a")
    (tmp_path / "a" / "session.jsonl").write_bytes(b'{"schema":1,"wei')  # a kill within the first line
    session = Session(sources["picture"], model, "skin_lesion", tmp_path / "a")
    session.click(5, 5)
    session.close()
    assert len(Session.restore(tmp_path / "a", model).clicks()) == 1
    workspace = Workspace(
        [("b", Entry(sources["picture"].name, sources["picture"].parent, "skin_lesion", "00"))], model, tmp_path
    )
    journal = tmp_path / "sessions" / "b" / "session.jsonl"
    journal.parent.mkdir(parents=True)
    journal.touch()  # a kill before anything was written
    assert workspace.state()["cases"][0]["kept"] == ""
    assert workspace.open(0, None)["cases"][0]["kept"] == "begun"
    workspace.close()


def test_what_another_session_has_added_meanwhile_is_not_cut_off(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Session(sources["picture"], model, "skin_lesion", tmp_path)
    read = session_module.read_saved

    def read_early(folder: Path) -> Saved:
        found = read(folder)
        first.click(5, 5)  # while the other one reads the source
        first.close()
        return found

    monkeypatch.setattr(session_module, "read_saved", read_early)
    with pytest.raises(SessionError, match="restore it again"):
        Session.restore(tmp_path, model)
    monkeypatch.undo()
    assert len(Session.restore(tmp_path, model).clicks()) == 1


def test_a_save_that_fails_leaves_the_session_as_it_was(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(sources["picture"], model, "skin_lesion", tmp_path / "a")
    session.click(5, 5)
    before = (tmp_path / "a" / "session.jsonl").read_bytes()

    def refused(source: object, target: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refused)
        with pytest.raises(SessionError, match="Permission denied"):
            session.save()
        with pytest.raises(SessionError, match="Permission denied"):
            session.add_exemplar(sources["picture"], sources["label"])
        with pytest.raises(SessionError, match="Permission denied"):
            Session(sources["picture"], model, "skin_lesion", tmp_path / "b")
    assert (tmp_path / "a" / "session.jsonl").read_bytes() == before
    session.click(9, 9)
    session.close()
    assert len(Session.restore(tmp_path / "a", model).clicks()) == 2
    Session(sources["picture"], model, "skin_lesion", tmp_path / "b").close()  # nobody holds it


def test_what_cannot_be_written_down_does_not_happen(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(sources["picture"], model, "skin_lesion", tmp_path / "a")
    session.click(5, 5)
    before, mask = (tmp_path / "a" / "session.jsonl").read_bytes(), session.mask()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for request in (lambda: session.click(9, 9), session.undo, lambda: session.set_use_class(False)):
            with pytest.raises(SessionError, match="No space left"):
                request()
    assert (tmp_path / "a" / "session.jsonl").read_bytes() == before
    assert len(session.clicks()) == 1
    assert np.array_equal(session.mask(), mask)
    session.click(9, 9)
    session.close()
    assert len(Session.restore(tmp_path / "a", model).clicks()) == 2


def test_the_folder_names_nobody(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    marked = tmp_path / "ZZMARKER" / "ZZMARKER.png"
    marked.parent.mkdir()
    for old, new in (("picture", marked), ("label", marked.with_name("ZZMARKER_label.png"))):
        shutil.copy(sources[old], new)
    folder = tmp_path / "session"
    old_mask = os.umask(0)
    try:
        session = Session(marked, model, "skin_lesion", folder)
        session.click(9, 9)
        session.add_exemplar(marked, marked.with_name("ZZMARKER_label.png"))
        session.segment()
        session.save()
    finally:
        os.umask(old_mask)
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in files if b"ZZMARKER" in path.read_bytes()} == {"source.json"}
    assert not [path for path in files if "ZZMARKER" in path.name]
    assert stat.S_IMODE((folder / "source.json").stat().st_mode) == 0o600

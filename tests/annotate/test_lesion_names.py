"""Names of lesions: they stay with their lesions, undo takes them back, and exports carry them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.annotate.session.history import LesionName
from monai_tpseg.annotate.session.lesion_names import deepest, named_lesions
from monai_tpseg.follow.changes import own_name


@pytest.fixture
def session(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> Session:
    """A CT series with a large lesion on two slices and a small one."""
    made = Session(sources["series"], model, "lung_infection", tmp_path / "work")
    made.brush([(10, 8), (10, 14)], 7, index=1)
    made.brush([(10, 8)], 5, index=2)
    made.brush([(24, 30)], 5, index=4)
    return made


def called(session: Session) -> list[str]:
    return [one.name for one in session.lesions()]


def test_a_name_stays_with_its_lesion(session: Session) -> None:
    session.name_lesion(24, 30, "  target   2 ", 4)
    assert called(session) == ["", "target 2"]
    session.brush([(24, 24), (24, 34)], 11, index=4)  # it is the largest now
    session.brush([(24, 24), (24, 34)], 11, index=5)
    assert called(session) == ["target 2", ""]
    session.brush([(24, 24)], 7, mark=False, index=4)
    assert called(session) == ["target 2", ""]
    session.name_lesion(10, 8, "Übersicht", 1)
    assert called(session) == ["target 2", "Übersicht"]
    with pytest.raises(SessionError, match="Another lesion of this case has that name"):
        session.name_lesion(10, 8, "target 2", 1)
    session.name_lesion(24, 30, "target 1", 4)
    assert called(session) == ["target 1", "Übersicht"]
    session.name_lesion(10, 8, "target 2", 1)  # it is free again
    assert called(session) == ["target 1", "target 2"]
    session.name_lesion(24, 30, "", 4)
    assert called(session) == ["", "target 2"]
    row, column = session.lesions()[1].place[1:]
    session.remove_lesion(row, column, session.lesions()[1].place[0])
    assert called(session) == [""]
    session.undo()
    assert called(session) == ["", "target 2"]


def test_undo_and_a_kill_keep_names(session: Session, model: PromptModel, tmp_path: Path) -> None:
    session.name_lesion(10, 8, "first", 1)
    session.name_lesion(10, 8, "second", 1)
    session.undo()
    assert called(session) == ["first", ""]
    session.close()
    restored = Session.restore(tmp_path / "work", model)
    assert called(restored) == ["first", ""]
    restored.redo()
    assert called(restored) == ["second", ""]
    restored.undo()
    restored.undo()
    assert called(restored) == ["", ""]
    restored.redo()
    restored.save()
    restored.close()
    assert called(Session.restore(tmp_path / "work", model)) == ["first", ""]


def test_naming_takes_done_back(session: Session) -> None:
    session.set_done()
    session.name_lesion(10, 8, "target 1", 1)
    assert not session.done


def test_exports_carry_names(session: Session, tmp_path: Path) -> None:
    before = session.export(tmp_path / "before")
    session.name_lesion(24, 30, "target Ä", 4)
    first, second = session.export(tmp_path / "a"), session.export(tmp_path / "b")
    with first["lesions"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stem = first["seg"].name.removesuffix("_seg.dcm")
    assert [row["tracking_id"] for row in rows] == [f"{stem}_1", "target Ä"]
    assert [own_name(row) for row in rows] == [f"{stem}_1", "target Ä"]
    assert json.loads(first["result"].read_text())["provenance"]["config"]["names"] == {"2": "target Ä"}

    seg = pydicom.dcmread(first["seg"])
    assert [one.SegmentLabel for one in seg.SegmentSequence][1] == "target Ä"
    assert [one.TrackingID for one in seg.SegmentSequence] == [f"{stem}_1", "target Ä"]
    values = [
        item.TextValue
        for group in groups(pydicom.dcmread(first["sr"]))
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Tracking Identifier"
    ]
    assert values == [f"{stem}_1", "target Ä"]
    for kind in ("seg", "sr"):
        assert first[kind].read_bytes() == second[kind].read_bytes()
        old, new = (pydicom.dcmread(files[kind]).SOPInstanceUID for files in (before, first))
        assert old != new  # other content is another object


def groups(report: Any) -> list[Any]:
    (found,) = (item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010")
    return list(found.ContentSequence)


@pytest.mark.parametrize("name", ["a" * 65, "a\\b", "=1+1", "-", "a\0b", 3, None])
def test_what_is_no_name(session: Session, name: Any) -> None:
    with pytest.raises(SessionError, match="A lesion's name has 64 letters at most"):
        session.name_lesion(10, 8, name, 1)
    with pytest.raises(SessionError, match="There is no lesion at row 0, column 0 of slice 1"):
        session.name_lesion(0, 0, "target", 1)
    assert session.names == ()


def test_of_two_names_in_one_lesion_the_earlier_counts() -> None:
    names = [LesionName("b", 0, 1, 1), LesionName("a", 0, 2, 2), LesionName("gone", 0, 3, 3)]
    assert named_lesions(names, lambda _, row, __: {1: 5, 2: 5}.get(row, 0)) == {5: "b"}


def test_the_deepest_pixel_is_furthest_from_the_outline() -> None:
    mask = np.zeros((9, 12), bool)
    mask[1:8, 0:7] = True  # at the edge of the picture: outside counts as outline
    mask[1, 7:12] = True
    assert deepest(mask) == (4, 3)


def test_a_name_that_ends_like_the_shared_segment_is_a_name() -> None:
    assert own_name({"tracking_id": "two others", "lesion": "2"}) == "two others"
    assert own_name({"tracking_id": "c_skin_lesion_others", "lesion": "57"}) == "c_skin_lesion_57"

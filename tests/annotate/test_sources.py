"""The viewer never touches a source itself: a pipe, a hang or a crash costs one request."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from monai_tpseg.annotate import PromptModel
from monai_tpseg.annotate.session import sources as apart
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.annotate.session.sources import IsolatedSources
from monai_tpseg.annotate.web.workspace import Workspace
from monai_tpseg.cli import main
from monai_tpseg.io import ReadError
from monai_tpseg.studies import Limits, prepare_output, scan

FALL = "tests.studies.conftest:read_or_fall"


def workspace_of(folder: Path, model: PromptModel, out: Path) -> Workspace:
    cases = prepare_output(out, scan(folder), "salted", resume=True, tasks=None)
    return Workspace(cases, model, out, "skin_lesion", IsolatedSources(Limits(seconds=3.0), read=FALL))


def test_what_does_not_answer_costs_one_request(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("crash.png", "good.png", "hang.png", "pipe.png"):
        (tmp_path / "in" / name).write_bytes(sources["picture"].read_bytes())
    workspace = workspace_of(tmp_path / "in", model, tmp_path / "out")
    (tmp_path / "in" / "pipe.png").unlink()
    os.mkfifo(tmp_path / "in" / "pipe.png")
    for number, error, words in (
        (0, SessionError, "crashes its decoder"),
        (2, SessionError, "took over 3 s to answer"),
        (3, ReadError, "not a regular file"),
    ):
        with pytest.raises(error, match=words):
            workspace.open(number, None)
    workspace.open(1, None)
    assert workspace.session(1).shape == (36, 52, 1)
    workspace.close()


def hang(*arguments: object) -> None:
    """A decoder that never ends."""
    time.sleep(100)


def test_files_that_are_sent_are_read_in_a_process_that_may_be_ended(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "READ_MASK", f"{__name__}:hang")
    monkeypatch.setattr(apart, "READ_PAIR", f"{__name__}:hang")
    picture = sources["picture"].read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.png").write_bytes(picture)
    workspace = workspace_of(tmp_path / "in", model, tmp_path / "out")
    workspace.open(0, None)
    for send in (
        lambda: workspace.open_mask(workspace.session(0), "mask.png", picture),
        lambda: workspace.add_exemplar(workspace.session(0), picture, picture),
    ):
        with pytest.raises(SessionError, match=r"^The file took over 3 s to answer"):
            send()
    assert workspace.session(0).is_empty
    workspace.close()


def test_a_slice_of_dicom_that_is_gone_is_still_exported(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path
) -> None:
    """The headers came with the pixels: the segmentation is written without another look at the source."""
    series = tmp_path / "in" / "series"
    series.mkdir(parents=True)
    for path in sources["series"].iterdir():
        (series / path.name).write_bytes(path.read_bytes())
    workspace = workspace_of(tmp_path / "in", model, tmp_path / "out")
    workspace.open(0, "lung_infection")
    workspace.session(0).brush([(12.0, 20.0), (15.0, 20.0)], 4.0)
    for path in series.iterdir():
        path.unlink()
    assert "seg" in workspace.save(0)["kinds"]
    workspace.close()


def test_a_pipe_that_is_named_is_refused_in_one_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = ["annotate", str(tmp_path / "pipe"), "--checkpoint", str(weights), "--out", str(tmp_path / "out")]
    assert main([*command, "--no-browser"]) == 1
    assert capsys.readouterr().err == "Error: pipe is a pipe, not a regular file; give a file or a folder. [E_FORMAT]\n"
    assert not (tmp_path / "out").exists()

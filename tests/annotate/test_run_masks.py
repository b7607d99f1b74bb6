"""Sessions that begin with the masks of a run: TP-Seg finds, a person corrects."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.annotate import PromptModel, SessionError
from monai_tpseg.annotate.web.run_masks import masks_of_run
from monai_tpseg.annotate.web.workspace import SESSIONS, Workspace
from monai_tpseg.cli import main
from monai_tpseg.results import StudyError
from monai_tpseg.studies import prepare_output
from monai_tpseg.studies.scan import scan_images
from tests.studies.conftest import write_weights

from .serving import ReadHere


@pytest.fixture(scope="module")
def scans(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for name in ("a.png", "b.png"):
        shutil.copy(sources["picture"], folder / name)
    with Image.open(folder / "b.png") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "b.png")
    return folder


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tpseg run` has found with random weights, one mask drawn over so that it marks something."""
    folder = tmp_path_factory.mktemp("run")
    weights = write_weights(folder / "model.pt")
    out = folder / "out"
    common = ["--checkpoint", str(weights), "--device", "cpu", "--quiet"]
    assert main(["run", str(scans), "--task", "skin_lesion", "--out", str(out), *common]) in (0, 3)
    for path in out.glob("cases/*/*_mask.png"):
        mask = np.asarray(Image.open(path)).copy()
        mask[:] = 0
        mask[4:10, 6:20] = 255
        Image.fromarray(mask).save(path)
    return out


def workspace(scans: Path, run: Path, model: PromptModel, out: Path) -> Workspace:
    cases = prepare_output(out, scan_images(scans)[0], "salted", resume=True, tasks=None)
    return Workspace(cases, model, out, sources=ReadHere(), masks=masks_of_run(run))


def test_a_new_case_begins_with_the_mask_of_the_run(scans: Path, run: Path, model: PromptModel, tmp_path: Path) -> None:
    one = workspace(scans, run, model, tmp_path / "out")
    assert one.open(0, None)["status"]["task"] == "skin_lesion"  # of the run: a picture names none
    session = one.session(0)
    assert session.states() == ["proposed"]
    assert np.argwhere(session.mask()).min(axis=0).tolist() == [4, 6]
    assert int(session.mask().sum()) == 6 * 14
    session.undo()
    assert session.is_empty
    one.close()
    again = workspace(scans, run, model, tmp_path / "out")
    again.open(0, None)
    assert again.session(0).is_empty  # as it was left, not begun anew
    again.close()


def test_a_mask_that_does_not_fit_begins_no_session(scans: Path, run: Path, model: PromptModel, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "run"))
    for path in other.glob("cases/*/*_mask.png"):
        Image.new("L", (5, 5)).save(path)
    one = workspace(scans, other, model, tmp_path / "out")
    with pytest.raises((SessionError, ValueError)):
        one.open(0, None)
    assert not list((tmp_path / "out" / SESSIONS).iterdir())
    one.close()


def test_what_is_no_run_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="contains no results of tpseg run"):
        masks_of_run(tmp_path)
    with pytest.raises(StudyError, match="has no mask of wet_amd"):
        masks_of_run(run, "wet_amd")

"""The lesions of a mask are numbered once, whoever needs them: table, segmentation, overlay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monai_tpseg.keys import LESIONS, PRED
from monai_tpseg.lesions import label_lesions
from monai_tpseg.results.case_files import write_segmented
from monai_tpseg.results.folder import provenance
from monai_tpseg.results.save import SaveResultd
from monai_tpseg.segment import FinishMaskd
from monai_tpseg.studies import Model, Settings
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from monai_tpseg.transforms import LoadMedicalImaged
from tests.studies.conftest import write_weights

TASK = "lung_infection"
USERS = ("segment.finish", "transforms.overlay", "transforms.postprocess")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the masks that are numbered."""
    shapes: list[tuple[int, ...]] = []

    def counted(mask: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(mask.shape)
        return label_lesions(mask, *args, **kwargs)

    for user in USERS:
        monkeypatch.setattr(f"monai_tpseg.{user}.label_lesions", counted)
    return shapes


def test_every_user_is_counted() -> None:
    package = Path(__file__).resolve().parents[2] / "monai_tpseg"
    found = {path for path in package.rglob("*.py") if "import label_lesions" in path.read_text()}
    names = {".".join(path.relative_to(package).with_suffix("").parts) for path in found}
    # of the pixel that a person points at, of labels beside masks, of the masks of earlier runs
    assert names == {*USERS, "annotate.session.drawing", "evaluation.details", "follow.visits"}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More slices than an overlay shows: it must know where the largest lesion lies."""
    return write_dicom_series(make_volume(TASK, 1, (32, 32, 14)), tmp_path_factory.mktemp("in") / "series")


def test_a_run_numbers_once(tmp_path: Path, series: Path, calls: list[tuple[int, ...]]) -> None:
    model = Model(write_weights(tmp_path / "model.pt"), "cpu", Settings(0.4, 5))
    found = model.segment(series, TASK)
    (tmp_path / "out").mkdir()
    _, more = write_segmented(found, TASK, "a", tmp_path / "out", provenance(model.info, model.config))
    assert {"mask", "lesions", "overlay"} <= more["files"].keys()
    assert calls == [(32, 32, 14)]


def test_a_bundle_numbers_once(tmp_path: Path, series: Path, calls: list[tuple[int, ...]]) -> None:
    case = LoadMedicalImaged("image")({"image": series, "task_name": TASK})
    case[PRED] = torch.zeros(1, 32, 32, 14)
    case[PRED][0, 4:9, 4:9, 2:12] = 0.8
    save = SaveResultd(tmp_path / "out", checkpoint=write_weights(tmp_path / "model.pt"))
    case = save(FinishMaskd(PRED, 0.5, 5)(case))
    assert np.array_equal(case[LESIONS][0], case[PRED][0])
    assert calls == [(32, 32, 14)]

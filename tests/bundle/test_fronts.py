"""Bundle, `tpseg run`, viewer and Python make the same masks of the same images with the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_tpseg import load_model
from monai_tpseg.annotate import PromptModel, Session
from monai_tpseg.studies import Model, Run, Settings, find_entries, prepare_output
from monai_tpseg.testing.phantoms import (
    make_phantom,
    make_volume,
    write_dicom_cine,
    write_dicom_picture,
    write_dicom_series,
    write_nifti,
    write_png,
)
from monai_tpseg.transforms import MaskWriter
from tests.annotate.conftest import write_weights as write_kprism
from tests.bundle.conftest import SOURCE, run
from tests.studies.conftest import write_weights as write_tpseg

BUNDLES = {"tpseg": SOURCE, "kprism": SOURCE.parent / "kprism_universal_segmentation"}
WEIGHTS = {"tpseg": write_tpseg, "kprism": write_kprism}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CT folder, a PNG, a NIfTI volume, an ultrasound picture and a cine, by name."""
    folder = tmp_path_factory.mktemp("sources")
    write_png(make_phantom("skin_lesion", 4, (36, 52)).image, folder / "photo.png")
    write_dicom_series(make_volume("lung_infection", 1, (40, 48, 6)), folder / "chest")
    write_nifti(make_volume("brain_tumor", 3, (40, 36, 6)), folder / "head.nii.gz")[1].unlink()
    write_dicom_cine(make_volume("breast_lesion", 2, (40, 48, 6)), folder / "cine.dcm")
    write_dicom_picture(make_phantom("breast_lesion", 2, (40, 48)), folder / "breast.dcm")
    return {path.name.split(".")[0]: path for path in folder.iterdir()}


def between(prob: torch.Tensor) -> float:
    """A threshold near the middle that no probability lies close to: a batch may change the last digit."""
    values = prob.unique()
    middle = values[len(values) * 2 // 5 : len(values) * 3 // 5]
    gap = int(middle.diff().argmax())
    return float(middle[gap : gap + 2].mean())


def files(folder: Path) -> dict[str, bytes]:
    """Mask files by name."""
    return {path.name: path.read_bytes() for path in folder.rglob("*_mask.*")}


@pytest.mark.parametrize(("network", "task"), [("kprism", "lung_infection"), ("tpseg", "breast_lesion")])
def test_all_fronts_make_the_same_masks(tmp_path: Path, sources: dict[str, Path], network: str, task: str) -> None:
    weights, folder = WEIGHTS[network](tmp_path / "model.pt"), sources["photo"].parent
    model = load_model(weights, "cpu")
    threshold = between(torch.cat([model.segment(path, task).prob.flatten() for path in sources.values()]))

    cases = prepare_output(tmp_path / "run", find_entries(folder, task), "source", False)
    Run(Model(weights, "cpu", Settings(threshold)), tmp_path / "run", quiet=True)(cases)
    found = files(tmp_path / "run")
    assert len(found) == len(sources) == 5

    settings = {"checkpoint": str(weights), "threshold": threshold, "device": "cpu", "progress": False}
    run(BUNDLES[network], "inference", dataset_dir=str(folder), task=task, output_dir=str(tmp_path / "b"), **settings)
    assert files(tmp_path / "b") == found

    model = load_model(weights, "cpu", threshold)
    viewer = PromptModel(weights, "cpu", threshold) if network == "kprism" else None  # it takes no other
    for name, source in sources.items():
        ours = model.segment(source, task)
        mask = ours.mask[0].numpy()
        assert 0 < mask.mean() < 1  # there is something to differ in
        (written,) = (tmp_path / "run" / "cases").glob(f"{name}_*/*_mask.*")
        python = MaskWriter(tmp_path / "python", save_overlay=False).write(ours.mask, None, ours.image.meta, task, name)
        assert python["mask"].read_bytes() == written.read_bytes()
        if viewer is None:
            continue
        session = Session(source, viewer, task)
        for index in range(session.shape[2]):
            session.segment(index)
        assert np.array_equal(session.volume_mask(), mask.reshape(session.shape))
        assert session.export(tmp_path / "viewer", name)["mask"].read_bytes() == written.read_bytes()


def test_other_thresholds_make_other_masks(tmp_path: Path, sources: dict[str, Path]) -> None:
    weights = write_tpseg(tmp_path / "model.pt")
    prob = load_model(weights, "cpu").segment(sources["photo"], "skin_lesion").prob
    low, high = (float(prob.quantile(share)) for share in (0.3, 0.7))
    few, many = (load_model(weights, "cpu", t, 5).segment(sources["photo"], "skin_lesion") for t in (high, low))
    assert few.mask.sum() < many.mask.sum()
    assert np.bincount(many.lesions.ravel())[1:].min() >= 5

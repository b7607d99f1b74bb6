"""Sessions on real files: what is exported lies where the source lies."""

from __future__ import annotations

from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import SimpleITK

from monai_tpseg.annotate import PromptModel, Session


def test_a_ct_of_a_scanner(model: PromptModel, shared_dir: Path, tmp_path: Path) -> None:
    source = next((shared_dir / "data" / "volumes" / "deeplesion").glob("*_image.nii.gz"))
    session = Session(source, model, "lung_infection")
    height, width, depth = session.shape
    session.click(height / 2, width / 2, index=depth // 2)
    session.click(height / 4, width / 2, False, depth // 2)
    assert session.mask(depth // 2).any()
    written = session.export(tmp_path)
    mask, image = nibabel.load(written["mask"]), nibabel.load(source)
    assert mask.shape == image.shape
    assert np.array_equal(mask.affine, image.affine)
    marked = np.argwhere(np.asarray(mask.dataobj) > 0)
    assert len(marked) == session.volume_mask().sum()
    placed, plain = (SimpleITK.ReadImage(str(path)) for path in (written["mask"], source))
    assert np.allclose(placed.GetOrigin(), plain.GetOrigin())
    assert np.allclose(placed.GetDirection(), plain.GetDirection())


def test_a_dicom_series_of_three_slices(model: PromptModel, shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "data" / "volumes" / "dcmqi" / "ct-3slice"
    session = Session(source, model, "lung_infection", tmp_path / "work")
    assert session.shape[2] == 3
    assert session.spacing is not None
    session.click(session.shape[0] / 2, session.shape[1] / 2, index=1)
    session.propagate(1, 1)
    session.propagate(1, 1, -1)
    session.close()
    restored = Session.restore(tmp_path / "work", model)
    written = restored.export(tmp_path)
    mask = restored.volume_mask()
    assert mask.any()
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in source.iterdir() if path.is_file()]
    headers.sort(key=lambda header: header.ImagePositionPatient[2])
    seg = highdicom.seg.segread(written["seg"])
    frames = seg.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in headers], combine_segments=True, ignore_spatial_locations=True
    )
    assert np.array_equal((frames > 0).transpose(1, 2, 0), mask)

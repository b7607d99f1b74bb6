"""What a person sees of a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
import yaml
from monai.data import MetaTensor
from PIL import Image

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.annotate.session.pixels import Pixels
from monai_tpseg.catalogue import Modality
from monai_tpseg.io import meta_keys
from monai_tpseg.transforms.pipelines import load_pipeline, pipeline_path
from monai_tpseg.transforms.transfer import load_case


def test_pictures_are_seen_as_they_are(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    seen = session.view(0)
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, np.asarray(Image.open(sources["picture"]).convert("RGB")))
    assert session.window_default == (0.0, 255.0)
    assert session.shape == (36, 52, 1)
    assert session.spacing is None


def test_ct_is_seen_in_hounsfield_units(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    values = load_case(sources["ct"])[0].numpy()
    assert session.shape == values.shape
    assert session.value_range == (values.min(), values.max())
    assert session.spacing == pytest.approx(load_case(sources["ct"]).meta[meta_keys.SPACING])
    seen = session.view(3, (-160.0, 240.0))
    expected = np.rint(np.clip((values[..., 3] + 160) / 400, 0, 1) * 255)
    assert np.abs(seen[..., 0] - expected).max() <= 1
    assert np.array_equal(seen[..., 0], seen[..., 2])
    assert session.window_default == Modality.CT.windows["lung"]


def test_the_window_of_ct_is_that_of_its_pipeline() -> None:
    step = yaml.safe_load(pipeline_path(Modality.CT).read_text())["physical"][0]
    assert (step["a_min"], step["a_max"]) == Modality.CT.windows["lung"]


def test_other_values_are_seen_by_percentiles(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["mr"], model, "brain_tumor")
    low, high = session.window_default
    values = load_case(sources["mr"]).numpy()
    assert values.min() <= low < high <= values.max()
    assert (session.view(3) > 0).any()


@pytest.mark.parametrize(
    "window", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf")), (1,), "ab", 3, (0, "1"), (0, 10**400)]
)
def test_windows_that_cannot_be(model: PromptModel, sources: dict[str, Path], window: Any) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    with pytest.raises(SessionError, match="A window is two finite numbers"):
        session.view(0, window)


def test_monochrome1_is_turned_once(sources: dict[str, Path], tmp_path: Path) -> None:
    header = pydicom.dcmread(sources["us"])
    header.PhotometricInterpretation = "MONOCHROME1"
    header.save_as(tmp_path / "turned.dcm")
    plain, turned = (Pixels(load_case(path)) for path in (sources["us"], tmp_path / "turned.dcm"))
    assert np.array_equal(turned.view(0, (0, 255)), 255 - plain.view(0, (0, 255)))


def test_a_constant_image_has_a_window() -> None:
    meta = {
        meta_keys.KIND: "volume",
        meta_keys.INTENSITY: "physical",
        meta_keys.SPATIAL_SHAPE: np.array([4, 5, 2]),
        meta_keys.INVERTED: False,
    }
    pixels = Pixels(MetaTensor(torch.full((3, 4, 5, 2), 7.0), meta=meta))
    assert pixels.window_default(Modality.MRI) == (7.0, 8.0)
    assert not pixels.view(1, pixels.window_default(Modality.MRI)).any()


def test_what_a_task_does_not_say_is_the_same_for_all_pictures() -> None:
    image = MetaTensor(torch.rand(3, 4, 5) * 255, meta={meta_keys.INTENSITY: "display", meta_keys.INVERTED: False})
    inputs = [load_pipeline(modality, "display")({"image": image})["image"] for modality in Modality]
    assert all(torch.equal(one, inputs[0]) for one in inputs)


def test_a_grey_case_is_kept_as_one_channel(sources: dict[str, Path]) -> None:
    pixels = Pixels(load_case(sources["ct"]))
    assert pixels._values.shape[0] == 1
    assert pixels._values.base is None
    assert torch.equal(pixels.image.as_tensor(), load_case(sources["ct"]).as_tensor())


def test_slices_of_an_irregular_series(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    places = {path: pydicom.dcmread(path).ImagePositionPatient[2] for path in sources["series"].iterdir()}
    kept = tuple(sorted(places, key=places.__getitem__))
    source = (*kept[:2], *kept[3:])
    session = Session(source, model, "lung_infection", tmp_path / "work")
    assert session.shape[2] == 5
    assert session.spacing is not None
    assert len(session.spacing) == 2
    session.click(16, 20, index=3)
    written = session.export(tmp_path)
    assert sorted(path.name for path in written["mask"].iterdir()) == [f"slice_{n:04d}.nii.gz" for n in range(1, 6)]
    session.close()
    restored = Session.restore(tmp_path / "work", model)
    assert restored.source == source
    assert np.array_equal(restored.volume_mask(), session.volume_mask())


def test_no_data_has_no_part_in_the_window() -> None:
    values = np.random.default_rng(0).normal(500, 50, (40, 40)).astype(np.float32)
    padded = values.copy()
    padded[:, :20] = -9999
    plain, other = (
        Pixels(
            MetaTensor(
                torch.from_numpy(v)[None].repeat(3, 1, 1),
                meta={meta_keys.KIND: "picture", meta_keys.INTENSITY: "physical"} | more,
            )
        )
        for v, more in ((values[:, 20:], {}), (padded, {meta_keys.NO_DATA: -9999.0}))
    )
    assert other.window_default(Modality.MRI) == plain.window_default(Modality.MRI)

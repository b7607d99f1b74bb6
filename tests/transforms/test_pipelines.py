"""The seven YAML files: each builds, ends where it should, and a mistake in one is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor
from PIL import Image

from monai_tpseg.catalogue import TASKS, Modality
from monai_tpseg.io.meta_keys import Intensity
from monai_tpseg.transforms import (
    InvertMonochrome1d,
    LoadMedicalImaged,
    NormalizeByModalityd,
    TaskToIndexd,
    load_pipeline,
    pipeline_path,
    pipelines_hash,
)

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
INTENSITIES: tuple[Intensity, ...] = ("physical", "display")


def image(values: torch.Tensor, intensity: str, inverted: bool = False) -> MetaTensor:
    return MetaTensor(values.clone(), meta={"intensity": intensity, "inverted": inverted})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the seven files that a test may spoil."""
    shutil.copytree(pipeline_path("ct").parent, tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("intensity", INTENSITIES)
def test_every_pipeline_ends_in_0_to_1_and_then_in_imagenet_units(modality: Modality, intensity: Intensity) -> None:
    values = torch.linspace(-1500, 3000, 3 * 64).reshape(3, 8, 8)
    data = {"image": image(values, intensity)}
    shown = load_pipeline(modality, intensity, network=False)(data)["image"]
    assert shown.min() == pytest.approx(0.0)
    assert shown.max() == pytest.approx(1.0)
    network = load_pipeline(modality, intensity)(data)["image"]
    torch.testing.assert_close(network.as_tensor(), (shown.as_tensor() - MEAN[:, None, None]) / STD[:, None, None])
    torch.testing.assert_close(data["image"].as_tensor(), values)  # the input is left as it was


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("intensity", INTENSITIES)
def test_constant_and_large_images_stay_finite(modality: Modality, intensity: Intensity) -> None:
    constant = torch.full((3, 4, 4, 2), 77.0)
    found = load_pipeline(modality, intensity, network=False)({"image": image(constant, intensity)})["image"]
    assert torch.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_pictures_are_divided_by_255_whatever_the_task(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    expected = (torch.from_numpy(rgb / 255.0).float().permute(2, 0, 1) - MEAN[:, None, None]) / STD[:, None, None]
    normalise = NormalizeByModalityd()
    for task in TASKS:
        case = normalise(LoadMedicalImaged()({"image": tmp_path / "a.png", "task": task.name}))
        torch.testing.assert_close(case["image"].as_tensor(), expected, atol=1e-5, rtol=1e-5)
        assert case["image"].dtype == torch.float32


def test_ct_is_windowed_in_hu() -> None:
    hu = torch.tensor([-3000.0, -1350.0, -600.0, 150.0, 3000.0]).repeat(3, 1, 1)
    shown = NormalizeByModalityd(network=False)({"image": image(hu, "physical"), "task": "lung_infection"})["image"]
    torch.testing.assert_close(shown[0, 0].as_tensor(), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_mr_percentiles_are_those_of_the_volume() -> None:
    values = torch.arange(3 * 1000.0).reshape(1, 10, 10, 30).repeat(3, 1, 1, 1)
    shown = NormalizeByModalityd(network=False)({"image": image(values, "physical"), "task": "brain_tumor"})["image"]
    low, high = np.percentile(values.numpy(), [0.5, 99.5])
    np.testing.assert_allclose(shown.numpy(), np.clip((values.numpy() - low) / (high - low), 0, 1), atol=1e-3)


def test_monochrome1_is_inverted_once_after_the_window() -> None:
    hu = torch.tensor([-3000.0, -600.0, 75.0]).repeat(3, 1, 1)
    case = {"image": image(hu, "physical", inverted=True), "task": "lung_infection"}
    shown = NormalizeByModalityd(network=False)(case)["image"]
    torch.testing.assert_close(shown[0, 0].as_tensor(), torch.tensor([1.0, 0.5, 0.05]))
    assert not shown.meta["inverted"]
    torch.testing.assert_close(InvertMonochrome1d()({"image": shown})["image"], shown)
    network = NormalizeByModalityd()(case)["image"]
    torch.testing.assert_close(network.as_tensor(), (shown.as_tensor() - MEAN[:, None, None]) / STD[:, None, None])


def test_works_before_and_after_the_task_became_a_row() -> None:
    case = {"image": image(torch.rand(3, 4, 4) * 255, "display"), "task": "skin_lesion"}
    before = NormalizeByModalityd()(case)["image"]
    after = NormalizeByModalityd()(TaskToIndexd()(case))["image"]
    torch.testing.assert_close(before, after)


def test_cases_without_task_or_meaning_are_refused() -> None:
    normalise = NormalizeByModalityd()
    with pytest.raises(ValueError, match="no task name under 'task', got None"):
        normalise({"image": image(torch.rand(3, 4, 4), "display")})
    with pytest.raises(ValueError, match="Unknown task 'lung'"):
        normalise({"image": image(torch.rand(3, 4, 4), "display"), "task": "lung"})
    with pytest.raises(ValueError, match="read it with LoadMedicalImaged"):
        normalise({"image": torch.rand(3, 4, 4), "task": "skin_lesion"})


def test_hash_follows_the_numbers_and_not_the_comments(folder: Path) -> None:
    original = pipelines_hash()
    assert pipelines_hash(folder) == original
    assert len(original) == 64
    text = (folder / "ct.yaml").read_text()
    (folder / "ct.yaml").write_text("# a remark\n" + yaml.safe_dump(yaml.safe_load(text), sort_keys=True))
    assert pipelines_hash(folder) == original
    (folder / "ct.yaml").write_text(text.replace("150.0", "151.0"))
    assert pipelines_hash(folder) != original


def test_a_folder_of_ones_own_is_used(folder: Path) -> None:
    (folder / "ct.yaml").write_text((folder / "ct.yaml").read_text().replace("150.0", "1350.0"))
    hu = image(torch.zeros(3, 1, 1), "physical")
    shown = NormalizeByModalityd(directory=folder, network=False)({"image": hu, "task": "lung_infection"})["image"]
    assert shown[0, 0, 0] == pytest.approx(0.5)


def test_a_section_of_a_file_replaces_the_shared_one(folder: Path) -> None:
    shared = yaml.safe_load((folder / "base.yaml").read_text())
    physical = yaml.safe_load((folder / "ct.yaml").read_text())
    assert not shared.keys() & physical.keys()
    original = pipelines_hash()
    for path in folder.glob("*.yaml"):  # a folder from before there was a base
        if path.name != "base.yaml":
            path.write_text(yaml.safe_dump({**shared, **yaml.safe_load(path.read_text())}))
    (folder / "base.yaml").unlink()
    assert pipelines_hash(folder) == original
    (folder / "base.yaml").write_text("display: []\nnetwork: []\n")
    assert pipelines_hash(folder) == original


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"No pipeline .*ct\.yaml; the folder needs oct\.yaml, mri\.yaml"),
        ("physcal: []\ndisplay: []\nnetwork: []\n", r"have the sections \['display', 'network', 'physcal'\]"),
        ("physical: []\ndisplay: {}\nnetwork: []\n", r"display must be a list of transforms"),
        ("physical: [{a: 1}]\ndisplay: []\nnetwork: []\n", r"physical must be a list of transforms"),
        ("physical: [{_target_: Scal}]\ndisplay: []\nnetwork: []\n", r"cannot build Scal"),
        ("physical: [{_target_: ScaleIntensityd}]\ndisplay: []\nnetwork: []\n", r"cannot build ScaleIntensityd"),
        ("physical: [\n", r"no valid YAML at line 2"),
        ("", r"ct\.yaml contains no sections"),
        ("display: []\n", r"have the sections \['display', 'network'\]"),
    ],
)
def test_mistakes_in_a_folder_are_named_in_one_line(folder: Path, content: str | None, message: str) -> None:
    if content is None:
        (folder / "ct.yaml").unlink()
    else:
        (folder / "ct.yaml").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        NormalizeByModalityd(directory=folder)
    assert "\n" not in str(caught.value)


def test_unknown_modality_lists_the_choices() -> None:
    with pytest.raises(ValueError, match=r"Unknown modality 'xray'; choose one of oct, mri"):
        pipeline_path("xray")
    with pytest.raises(ValueError, match="Unknown intensity 'hu'; choose physical or display"):
        load_pipeline("ct", "hu")  # type: ignore[arg-type]

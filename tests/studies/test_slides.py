"""A whole slide from file to files: the mask lies where the lesion is, its contours cover it, glass is left out."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import openslide
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry import shape as to_shape
from torch import Tensor, nn

from monai_tpseg.cli import main
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.io import ReadError
from monai_tpseg.io.slide_reader import SlideReader
from monai_tpseg.results.run_length import RunMask
from monai_tpseg.results.slide_files import write_pyramid
from monai_tpseg.segment import Segmenter
from monai_tpseg.studies import Model, Settings, read_manifest
from monai_tpseg.studies.slide_process import SlideProcess
from monai_tpseg.studies.slides import is_glass, segment_slide
from monai_tpseg.testing.phantoms import make_phantom, write_png
from monai_tpseg.testing.phantoms.slide_phantom import make_slide, write_slide

from ..wsi import write_dicom_slide

SHAPE, TASK = (520, 760), "adenocarcinoma"


def blue_is_lesion(image: Tensor, task: Tensor) -> Tensor:
    """A network that says what a pixel is: lesion where green, undone from ImageNet's scale, is dark."""
    return 300 * (0.3 - (image[:, 1:2] * 0.224 + 0.456))


def model(**settings: Any) -> Model:
    """What a slide needs of a model, around `blue_is_lesion`."""
    info = SimpleNamespace(image_size=(64, 96), tasks=("skin_lesion", TASK))
    chosen = Settings(**settings)
    segmenter = Segmenter(cast(nn.Module, blue_is_lesion), info.tasks, TaskInferer(info.image_size), chosen.finish)
    parts = {"info": info, "device": torch.device("cpu"), "slice_batch": 3, "segmenter": segmenter}
    return cast(Model, SimpleNamespace(**parts, settings=chosen))


def segment(path: Path, folder: Path, mpp: float = 0.5, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Flags and record of a slide that is read in this process."""
    outcome, more = segment_slide(model(**settings), SlideReader(path, mpp), TASK, "c", folder)
    return outcome.flags, more


def scene() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A slide with one lesion with a hole, and a small one beside it."""
    image, _ = make_slide(3, SHAPE, 320)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ellipse = (rows - 300) ** 2 / 90**2 + (columns - 430) ** 2 / 60**2 < 1
    label = ellipse & ((rows - 290) ** 2 + (columns - 425) ** 2 > 20**2)
    label |= (rows - 180) ** 2 + (columns - 330) ** 2 < 15**2
    image = np.where(label[..., None], (90, 20, 160), np.maximum(image, 120)).astype(np.uint8)
    return image, label


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.25 micrometres per pixel."""
    return write_slide(scene()[0], tmp_path_factory.mktemp("slide") / "a.tif")


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("mpp", [0.2, 0.25, 0.5, 0.6])
def test_the_mask_lies_on_the_lesion(slide: Path, tmp_path: Path, mpp: float) -> None:
    flags, more = segment(slide, tmp_path, mpp)
    label = scene()[1]
    mask = openslide.OpenSlide(tmp_path / more["files"]["mask"])
    pixels = np.asarray(mask.read_region((0, 0), 0, mask.dimensions).convert("L"))
    assert set(np.unique(pixels)) == {0, 255}
    at_slide = np.asarray(Image.fromarray(pixels).resize(SHAPE[::-1], Image.Resampling.NEAREST)) > 0
    assert dice(at_slide, label) >= 0.98
    assert float(mask.properties["openslide.mpp-x"]) == pytest.approx(mpp, rel=0.01)
    assert flags == (("enlarged",) if mpp == 0.2 else ())
    assert more["voxels"] == (pixels > 0).sum()
    assert more["lesions"] == 2
    assert more["decisions"]["downsample"] == pytest.approx([mpp / 0.25] * 2, rel=0.01)


def test_contours_cover_the_mask_and_carry_its_numbers(slide: Path, tmp_path: Path) -> None:
    _, more = segment(slide, tmp_path)
    content = json.loads((tmp_path / more["files"]["contours"]).read_text())
    assert content["type"] == "FeatureCollection"
    with (tmp_path / "lesions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(content["features"]) == 2
    for row, feature, centre in zip(rows, content["features"], ((300, 430), (180, 330)), strict=True):
        assert feature["type"] == "Feature"
        found, properties = to_shape(feature["geometry"]), feature["properties"]
        assert found.is_valid
        assert found.area == pytest.approx(int(row["voxels"]) * 4, rel=1e-9)  # 2 x 2 pixels of the slide in one
        assert found.area * 0.25**2 == pytest.approx(float(row["size"]))
        assert properties["measurements"]["area um^2"] == float(row["size"])
        assert properties["objectType"] == "annotation"
        assert properties["classification"]["name"]
        assert (found.centroid.y, found.centroid.x) == pytest.approx(centre, abs=3)
        place = (float(row["row"]), float(row["column"]))
        assert place == pytest.approx((found.centroid.y - 0.5, found.centroid.x - 0.5), abs=0.01)
        assert (row["size_unit"], row["diameter_unit"], row["right_mm"]) == ("um2", "um", "")
    assert len(content["features"][0]["geometry"]["coordinates"]) == 2  # the hole
    assert float(rows[0]["diameter"]) == pytest.approx(180 * 0.25, rel=0.03)


def test_glass_is_not_run_and_does_not_change_the_mask(slide: Path, tmp_path: Path) -> None:
    masks = []
    for skip in (True, False):
        folder = tmp_path / str(skip)
        folder.mkdir()
        _, more = segment(slide, folder, skip_glass=skip)
        masks.append((folder / more["files"]["mask"]).read_bytes())
        assert (more["decisions"]["windows_glass"] > 0) is skip
    assert masks[0] == masks[1]


def test_glass_is_told_from_faint_tissue() -> None:
    rng = np.random.default_rng(0)
    glass = rng.integers(225, 250, (3, 64, 96), np.uint8)
    assert is_glass(glass)
    faint = glass.copy()
    faint[1, 10:18, 10:18] -= 30  # pink
    assert not is_glass(faint)
    grey = glass.copy()
    grey[:, 10:18, 10:18] = 150
    assert not is_glass(grey)
    assert is_glass(np.full((3, 64, 96), 255, np.uint8))


def test_a_slide_without_tissue_says_so(tmp_path: Path) -> None:
    path = write_slide(np.full((200, 300, 3), 240, np.uint8), tmp_path / "a.tif")
    flags, more = segment(path, tmp_path)
    assert flags == ("no_tissue", "empty")
    assert more["voxels"] == 0
    assert json.loads((tmp_path / more["files"]["contours"]).read_text())["features"] == []


def test_small_lesions_are_dropped_on_request(slide: Path, tmp_path: Path) -> None:
    _, more = segment(slide, tmp_path, min_lesion_area=1000)
    assert more["lesions"] == 1


def test_a_mask_becomes_a_tiled_pyramid(tmp_path: Path) -> None:
    mask = np.zeros((1100, 2300), bool)
    mask[100:700, 300:2000] = True
    write_pyramid(RunMask.encode(mask), (0.5, 0.5), tmp_path / "m.tiff")
    with tifffile.TiffFile(tmp_path / "m.tiff") as file:
        assert [page.shape for page in file.pages] == [(1100, 2300), (550, 1150), (275, 575)]
        assert all(page.is_tiled for page in file.pages)
        assert np.array_equal(file.pages[0].asarray() > 0, mask)
        assert np.array_equal(file.pages[1].asarray() > 0, mask[::2, ::2])
    assert openslide.OpenSlide(tmp_path / "m.tiff").level_count == 3
    first = (tmp_path / "m.tiff").read_bytes()
    write_pyramid(RunMask.encode(mask), (0.5, 0.5), tmp_path / "m.tiff")
    assert (tmp_path / "m.tiff").read_bytes() == first


def test_slides_go_through_a_run_like_any_case(slide: Path, weights: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.tif", "b.svs"):
        shutil.copy(slide, source / name)
    write_slide(scene()[0], source / "no_scale.tif", mpp=None)
    (source / "broken.ndpi").write_bytes(b"no slide")
    write_dicom_slide(scene()[0], source / "dicom")
    write_png(make_phantom(TASK, 0, 40).image, source / "picture.png")
    manifest, out = tmp_path / "m.csv", tmp_path / "out"
    assert main(["scan", str(source), "--out", str(manifest), "--quiet"]) == 0
    rows = {entry.path: entry for entry in read_manifest(manifest)}
    assert {path: row.task for path, row in rows.items() if row.task} == {
        "b.svs": TASK, "broken.ndpi": TASK, "dicom": TASK,
    }  # fmt: skip
    run = ["run", str(source), "--task", TASK, "--out", str(out), "--checkpoint", str(weights), "--device", "cpu"]
    assert main([*run, "--quiet", "--mpp", "1.0"]) == 3
    names = {entry.case: entry.path for entry in read_manifest(out / "manifest.csv")}
    found = {names[path.name]: json.loads((path / "result.json").read_text()) for path in (out / "cases").iterdir()}
    assert {path: record["code"] for path, record in found.items()} == {
        "a.tif": "", "b.svs": "", "dicom": "", "picture.png": "", "no_scale.tif": "E_NO_MPP", "broken.ndpi": "E_FORMAT",
    }  # fmt: skip
    for path in ("a.tif", "b.svs", "dicom"):
        assert found[path]["files"]["mask"].endswith("_mask.tiff")
        assert found[path]["decisions"]["downsample"] == [4.0, 4.0]
        assert found[path]["voxels"] == pytest.approx(
            found["a.tif"]["voxels"], rel=0.05
        )  # other levels lie in the DICOM
    assert found["picture.png"]["files"]["mask"].endswith("_mask.png")
    assert main([*run, "--quiet", "--resume", "--mpp", "1.0", "--slide-mpp", "0.25"]) == 3
    assert found["b.svs"]["voxels"] == found["a.tif"]["voxels"] > 0
    again = json.loads((out / "cases" / found["no_scale.tif"]["case"] / "result.json").read_text())
    assert again["voxels"] == found["a.tif"]["voxels"]
    assert main(["report", str(out), "--quiet"]) == 0
    assert "um2" in (out / "report.html").read_text()


def test_a_slide_process_reads_as_the_reader_does_and_crashes_apart(slide: Path, tmp_path: Path) -> None:
    reader, corners = SlideReader(slide, 0.5), [(0, 0), (100, 100), (200, 300)]
    with closing(SlideProcess(slide, 0.5)) as process:
        assert process.grid == reader.grid
        windows = process.windows(corners, (64, 96))
        assert all(np.array_equal(a, b) for a, b in zip(windows, reader.windows(corners, (64, 96)), strict=True))
        assert np.array_equal(process.thumbnail(50), reader.thumbnail(50))
    (tmp_path / "a.svs").write_bytes(b"no slide")
    with pytest.raises(ReadError) as caught:
        SlideProcess(tmp_path / "a.svs", 0.5)
    assert caught.value.code == "E_FORMAT"

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image
from torch import Tensor

from monai_tpseg.handlers import overlays
from monai_tpseg.handlers.overlays import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LABEL_COLOR,
    PRED_COLOR,
    ValidationOverlays,
    contact_sheet,
    overlay_image,
    save_png,
)

NAMES = ("wet_amd", "skin_lesion")


def normalised(rgb: Tensor) -> Tensor:
    return (rgb - torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1)) / torch.tensor(IMAGENET_STD).reshape(3, 1, 1)


def square(start: int = 8, stop: int = 24, size: int = 32) -> Tensor:
    mask = torch.zeros(1, size, size)
    mask[:, start:stop, start:stop] = 1
    return mask


def has(picture: np.ndarray[Any, Any], color: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    return (picture == np.array(color)).all(-1)


def test_the_picture_is_the_image_before_normalisation() -> None:
    rgb = (torch.rand(3, 20, 30) * 255).round() / 255
    picture = overlay_image(normalised(rgb), torch.zeros(1, 20, 30), size=None)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, (rgb * 255).byte().permute(1, 2, 0).numpy())


def test_outlines_follow_the_masks() -> None:
    image = normalised(torch.full((3, 32, 32), 0.5))
    picture = overlay_image(image, square(), square(4, 28), size=128, width=2)
    pred, label = has(picture, PRED_COLOR), has(picture, LABEL_COLOR)
    rows, columns = np.nonzero(pred)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (31, 96, 31, 96)  # 4 px for 1, line centred
    rows, columns = np.nonzero(label)
    assert rows.min() in (14, 15)
    assert columns.max() in (112, 113)
    assert (picture[40:88, 40:88] == 128).all()  # the inside is left as it is
    assert not has(overlay_image(image, square(), size=128), LABEL_COLOR).any()


def test_proportions_come_from_the_mask_and_size_from_the_caller() -> None:
    image, mask = torch.zeros(3, 16, 16), torch.zeros(1, 50, 100)
    assert overlay_image(image, mask).shape == (128, 256, 3)
    assert overlay_image(image, mask, size=40).shape == (20, 40, 3)
    assert overlay_image(image, mask[0], size=None).shape == (50, 100, 3)
    assert overlay_image(torch.zeros(1, 16, 16), mask, mean=[0.0], std=[1.0]).shape == (128, 256, 3)


def test_a_lesion_of_one_pixel_is_seen_in_a_small_picture() -> None:
    mask = torch.zeros(1, 512, 512)
    mask[0, 300, 100] = 1
    picture = overlay_image(normalised(torch.full((3, 512, 512), 0.5)), mask, size=64)
    changed = (np.abs(picture.astype(int) - 128) > 30).any(-1)
    rows, columns = np.nonzero(changed)
    assert 0 < changed.sum() < 40
    assert abs(rows.mean() - 37.5) < 2
    assert abs(columns.mean() - 12.5) < 2


def test_a_lesion_that_fills_the_image_is_framed() -> None:
    picture = overlay_image(torch.zeros(3, 16, 16), torch.ones(1, 16, 16), size=64, width=3)
    frame = has(picture, PRED_COLOR)
    assert frame[0].all()
    assert frame[:, -1].all()
    assert not frame[5:-5, 5:-5].any()


def test_shapes_that_do_not_fit_are_refused() -> None:
    image, mask = torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match=r"\(3, H, W\) or \(1, H, W\), got \(3, 8, 8, 4\)"):
        overlay_image(torch.zeros(3, 8, 8, 4), mask)
    with pytest.raises(ValueError, match="A mask must be"):
        overlay_image(image, torch.zeros(2, 8, 8))
    with pytest.raises(ValueError, match="must have the same shape"):
        overlay_image(image, mask, torch.zeros(1, 9, 9))


def test_a_sheet_holds_every_tile_in_its_place() -> None:
    tiles = [np.full((h, 20, 3), 10 * h, np.uint8) for h in (10, 14, 12)]
    sheet = contact_sheet([*tiles, None], ["a", "b", "c", ""], columns=2)
    assert sheet.dtype == np.uint8
    for tile in tiles:
        rows, columns = np.nonzero((sheet == tile[0, 0]).all(-1))
        assert len(rows) >= tile.shape[0] * 20
        assert columns.max() - columns.min() >= 19
    left = [np.nonzero((sheet == tile[0, 0]).all(-1))[1].min() for tile in tiles]
    top = [np.nonzero((sheet == tile[0, 0]).all(-1))[0].min() for tile in tiles]
    assert left[0] == left[2] < left[1]
    assert top[0] == top[1] < top[2]
    captioned = contact_sheet([*tiles, None], ["a", "b", "c", ""], 2, caption="Epoch 1")
    assert captioned.shape[0] > sheet.shape[0]


def test_a_long_title_stays_above_its_tile() -> None:
    tile = np.zeros((10, 60, 3), np.uint8)
    sheet = contact_sheet([tile, tile], ["w" * 100, ""], columns=2)
    assert (sheet[:20, 67:] == sheet[0, 0]).all()
    assert (sheet[:20, :66] != sheet[0, 0]).any()


def test_a_sheet_refuses_what_does_not_add_up() -> None:
    tile = np.zeros((10, 10, 3), np.uint8)
    for tiles, titles, columns in (([], [], 1), ([tile], [], 1), ([tile], ["a"], 0)):
        with pytest.raises(ValueError, match="A sheet needs"):
            contact_sheet(tiles, titles, columns)


def test_png_round_trip(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    save_png(tmp_path / "new" / "a.png", picture)
    with Image.open(tmp_path / "new" / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    assert len(list((tmp_path / "new").iterdir())) == 1


def case(number: int, overlap: int, task: int = 0, depth: int = 0) -> dict[str, Any]:
    """A case whose Dice is overlap / 16."""
    label, pred = square(), square()
    pred[:, 8 : 24 - overlap] = 0
    pred[:, :, :] = pred.roll(-(16 - overlap), 1) if overlap else square(0, 4)
    image = MetaTensor(torch.zeros(3, 32, 32), meta={"filename_or_obj": f"/data/case_{number}.png"})
    item = {"image": image, "pred": pred, "label": label, "task": task}
    if depth:
        volume = {key: torch.stack([item[key] * 0] * (depth - 1) + [item[key]], -1) for key in ("pred", "label")}
        item |= volume | {"image": torch.stack([image] * depth, -1)}
    return item


def titles_of_a_run(
    cases: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch, count: int = 1
) -> list[str]:
    seen: list[list[str]] = []

    def sheet(tiles: Any, titles: list[str], *args: Any) -> Any:
        seen.append(titles)
        assert [tile is None for tile in tiles] == [title == "" for title in titles]
        return contact_sheet(tiles, titles, *args)

    monkeypatch.setattr(overlays, "contact_sheet", sheet)
    engine = Engine(lambda engine, batch: [batch])
    ValidationOverlays(folder, count, NAMES, size=32).attach(engine)
    engine.run(cases)
    assert (folder / "overlays/epoch_001.png").stat().st_size > 100
    return seen[-1]


def test_a_row_shows_the_first_the_worst_and_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlaps = [8, 12, 2, 16, 4]
    cases = [case(i, overlap) for i, overlap in enumerate(overlaps)] + [case(9, 16, task=1)]
    titles = titles_of_a_run(cases, tmp_path, monkeypatch)
    assert [title.split()[:2] for title in titles] == [
        ["wet_amd", "case"],
        ["wet_amd", "worst"],
        ["wet_amd", "best"],
        ["skin_lesion", "case"],
        [],
        [],
    ]
    assert [title.split()[-1] for title in titles[:3]] == ["case_0.png", "case_2.png", "case_3.png"]


@pytest.mark.parametrize(
    ("overlaps", "expected"),
    [
        ([2, 8], ["worst 0", "best 1", ""]),
        ([2, 8, 4], ["worst 0", "best 1", "case 2"]),
        ([4, 2, 8, 6, 5], ["case 0", "worst 1", "best 2"]),
        ([16, 8, 4, 6, 2], ["best 0", "case 1", "worst 4"]),
        ([8, 8, 8, 8], ["case 0", "case 1", "case 2"]),
    ],
)
def test_no_place_is_empty_while_there_are_cases(
    overlaps: list[int], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = titles_of_a_run([case(i, overlap) for i, overlap in enumerate(overlaps)], tmp_path, monkeypatch)
    shown = [f"{title.split()[1]} {title.split('_')[-1].removesuffix('.png')}" if title else "" for title in titles]
    assert shown == expected


def test_an_evaluation_of_its_own_has_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []
    monkeypatch.setattr(overlays, "contact_sheet", lambda *args: (captions.append(args[-1]), contact_sheet(*args))[1])
    engine = Engine(lambda engine, batch: [batch])
    ValidationOverlays(tmp_path, 1, NAMES, size=32, name="evaluation").attach(engine)
    engine.run([case(0, 8)])
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["evaluation.png"]
    assert captions == ["Evaluation: prediction amber, label blue, Dice"]


def test_only_tiles_of_shown_cases_are_kept(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: [batch])
    handler = ValidationOverlays(tmp_path, 2, NAMES, size=32)
    handler.attach(engine)
    engine.run([case(i, i % 17) for i in range(40)])
    row = handler._rows[0]
    assert row.seen == 40
    assert len(row.first) == 4
    assert all(shown.tile.shape == (32, 32, 3) for shown in row.first)


def test_of_a_volume_the_slice_with_the_lesion_is_shown(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: [batch])
    handler = ValidationOverlays(tmp_path, 1, NAMES, size=64)
    handler.attach(engine)
    engine.run([case(0, 16, depth=5)])
    assert handler._rows[0].first[0].tile.std(axis=(0, 1)).min() > 1  # an empty slice would be of one colour


def test_epochs_write_their_own_sheets_and_bad_counts_are_refused(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: [batch])
    ValidationOverlays(tmp_path, 0, NAMES, size=32).attach(engine)
    engine.run([case(0, 8)], max_epochs=2)
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == ["epoch_001.png", "epoch_002.png"]
    with pytest.raises(ValueError, match="count_per_task"):
        ValidationOverlays(tmp_path, -1)


def test_a_sheet_without_images_shows_outlines_alone(tmp_path: Path) -> None:
    overlays = ValidationOverlays(tmp_path, task_names=("a",), show_images=False)
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:9, 4:9] = 1
    tile = overlays._tile({"image": torch.rand(3, 16, 16) + 1, "pred": mask, "label": mask})
    assert (tile.sum(-1) == 0).mean() > 0.5
    assert (tile.sum(-1) > 300).any()

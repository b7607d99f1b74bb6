"""Pictures of predictions during validation: outlines over the images, a sheet per epoch with a row per task."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from ignite.distributed import get_rank
from ignite.engine import Events
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from monai_tpseg.catalogue import TASK_NAMES, resolve_task
from monai_tpseg.catalogue import task_names as checked_names
from monai_tpseg.files import write_atomically
from monai_tpseg.handlers.lesion_metrics import case_name, evaluated_cases
from monai_tpseg.keys import IMAGE, LABEL, PRED, TASK
from monai_tpseg.metrics import dice_per_image
from monai_tpseg.words import count

__all__ = ["ValidationOverlays", "contact_sheet", "overlay_image", "save_png"]

Picture: TypeAlias = NDArray[np.uint8]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# distinct for colour-blind readers too
PRED_COLOR = (255, 176, 0)
LABEL_COLOR = (0, 200, 255)
SEAM = (0, 0, 0)
GROUND, TEXT = (28, 28, 30), (235, 235, 235)


def overlay_image(
    image: Tensor,
    mask: Tensor,
    label: Tensor | None = None,
    size: int | None = 256,
    width: float = 1.5,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Picture:
    """Draw the outline of a mask over its image, and that of the label, wider, beneath it.

    The outlines are drawn at the picture's resolution, smooth at any scale: amber for the mask, blue for the label.

    Args:
        image: (3, h, w) or (1, h, w) float, normalised with `mean` and `std`; it may be on another grid than the mask
            as long as both cover the same field of view.
        mask: (1, H, W) or (H, W) in {0, 1}; its grid gives the proportions.
        label: of the mask's shape, in {0, 1}.
        size: the longer side of the picture in pixels, default 256; None keeps the grid of the mask.
        width: width of the mask's outline in pixels of the picture.
        mean: the mean of each channel that was subtracted.
        std: the standard deviation of each channel that was divided by.

    Returns:
        (H', W', 3) uint8, RGB.

    Raises:
        ValueError: a shape does not fit.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"The image must be (3, H, W) or (1, H, W), got {tuple(image.shape)}; select a slice first.")
    flat = [_plane(part) for part in (mask, label) if part is not None]
    if len({part.shape for part in flat}) > 1:
        raise ValueError(f"Mask {flat[0].shape} and label {flat[1].shape} must have the same shape.")
    rows, columns = flat[0].shape
    scale = 1.0 if size is None else size / max(rows, columns)
    shape = max(round(rows * scale), 1), max(round(columns * scale), 1)
    picture = _resize(_pixels(image, mean, std), shape).astype(np.float64)
    if label is not None:
        picture = _stroke(picture, _edge_distance(flat[1], shape), 2 * width, LABEL_COLOR)
    picture = _stroke(picture, _edge_distance(flat[0], shape), width, PRED_COLOR)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def contact_sheet(
    tiles: Sequence[Picture | None], titles: Sequence[str], columns: int, caption: str = "", font_size: int = 13
) -> Picture:
    """Lay pictures out in rows, each under its title.

    Args:
        tiles: (h, w, 3) uint8 pictures of any sizes, row by row; None leaves a place empty.
        titles: a line of text for each, truncated with an ellipsis if too long.
        columns: pictures in a row, 1 or more.
        caption: a line of text above all.
        font_size: height of the titles in pixels.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: no tiles, a different number of titles, or no columns.
    """
    if not tiles or len(tiles) != len(titles) or columns < 1:
        counts = f"{count(len(tiles), 'place')}, {count(len(titles), 'title')} and {count(columns, 'column')}"
        raise ValueError(f"A sheet needs cells, a title for each and columns, got {counts}.")
    font, gap, line = ImageFont.load_default(size=font_size), 6, font_size + 6
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    width = max((tile.shape[1] for tile in tiles if tile is not None), default=1)
    heights = [max((tile.shape[0] for tile in row if tile is not None), default=1) + line + gap for row in rows]
    head = line + gap if caption else gap
    sheet = Image.new("RGB", (columns * (width + gap) + gap, head + sum(heights)), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap), _cut(caption, sheet.width - 2 * gap, font), font=font, fill=TEXT)
    for place, (tile, title) in enumerate(zip(tiles, titles, strict=True)):
        row, column = divmod(place, columns)
        left, top = gap + column * (width + gap), head + sum(heights[:row])
        draw.text((left, top), _cut(title, width, font), font=font, fill=TEXT)
        if tile is not None:
            sheet.paste(Image.fromarray(tile), (left, top + line))
    return np.asarray(sheet)


def save_png(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, atomically; its folder is created if absent."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="PNG")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data.getvalue())


class ValidationOverlays:
    """Writes `overlays/epoch_XXX.png` after each validation: a row per task with the first cases, the worst, the best.

    The first cases are the same in every epoch unless the loader shuffles; if the worst or the best is among them, the
    next case fills the free place. Only the tiles of currently shown cases are kept. Rank 0 shows only its own cases.
    Of a volume, the slice with the largest label is shown (with the largest prediction if there is no label), with the
    Dice of the volume.

    Args:
        output_dir: parent folder of `overlays`.
        count_per_task: first cases of each task to show, 0 or more.
        task_names: names in row order.
        size: the longer side of a tile in pixels.
        mean: the mean of each channel that the images were normalised with.
        std: the standard deviation of each channel that the images were normalised with.
        show_images: False draws only the outlines, for images that must not be shared.
        name: of the sheet, in place of the epoch: "evaluation" writes `overlays/evaluation.png`. "" counts epochs.

    Raises:
        ValueError: `count_per_task` is negative, or the names are empty or repeated.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        count_per_task: int = 2,
        task_names: Sequence[str] = TASK_NAMES,
        size: int = 256,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        show_images: bool = True,
        name: str = "",
    ) -> None:
        if count_per_task < 0:
            raise ValueError(f"count_per_task must be 0 or more cases, got {count_per_task}.")
        self.output_dir = Path(output_dir)
        self.count_per_task = count_per_task
        self.task_names = checked_names(task_names)
        self.size = size
        self.mean = mean
        self.std = std
        self.show_images = show_images
        self.name = name
        self._rows: dict[int, _Row] = {}

    def attach(self, engine: Any) -> None:
        """Attach to an evaluator whose output holds `image`, and `pred` and `label` masks of one size, per case."""
        if get_rank() != 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Any) -> None:
        self._rows = {}

    def _collect(self, engine: Any) -> None:
        for case in evaluated_cases(engine):
            task = case[TASK] if isinstance(case[TASK], str) else int(case[TASK])
            row = self._rows.setdefault(resolve_task(task, self.task_names), _Row(self.count_per_task))
            dice = float(dice_per_image(case[PRED][None], case[LABEL][None]))
            if row.wants(dice):
                name = Path(case_name(case, str(row.seen))).name
                row.add(_Shown(row.seen, dice, name, self._tile(case)))
            row.seen += 1

    def _tile(self, case: dict[str, Any]) -> Picture:
        image, pred, label = (case[key].detach().as_subclass(Tensor).cpu() for key in (IMAGE, PRED, LABEL))
        if pred.ndim == 4:
            image, pred, label = _largest_slice(image, pred, label)
        if not self.show_images:
            image = torch.full((1, 1, 1), -self.mean[0] / self.std[0])  # black
        return overlay_image(image, pred, label, self.size, mean=self.mean, std=self.std)

    def _write(self, engine: Any) -> None:
        tiles: list[Picture | None] = []
        titles: list[str] = []
        for task, row in sorted(self._rows.items()):
            for kind, shown in row.shown():
                tiles.append(shown.tile if shown else None)
                titles.append(f"{self.task_names[task]} {kind} {shown.dice:.3f} {shown.name}" if shown else "")
        if not tiles:
            return
        columns = self.count_per_task + 2
        name = self.name or f"epoch_{engine.state.epoch:03d}"
        title = self.name.capitalize() or f"Epoch {engine.state.epoch}"
        sheet = contact_sheet(tiles, titles, columns, f"{title}: prediction amber, label blue, Dice")
        save_png(self.output_dir / "overlays" / f"{name}.png", sheet)


class _Shown(NamedTuple):
    """A drawn case: its number within its task, its Dice, its name and its tile."""

    number: int
    dice: float
    name: str
    tile: Picture


class _Row:
    """The cases of one task that a sheet shows: the first few, the worst and the best so far."""

    def __init__(self, count: int) -> None:
        self.places = count + 2
        self.seen = 0
        self.first: list[_Shown] = []
        self.worst: _Shown | None = None
        self.best: _Shown | None = None

    def wants(self, dice: float) -> bool:
        """Return whether a case of this Dice would be shown as things stand."""
        if self.worst is None or self.best is None or len(self.first) < self.places:
            return True
        return dice < self.worst.dice or dice > self.best.dice

    def add(self, case: _Shown) -> None:
        """Take a case in wherever it belongs."""
        if len(self.first) < self.places:
            self.first.append(case)
        if self.worst is None or case.dice < self.worst.dice:
            self.worst = case
        if self.best is None or case.dice > self.best.dice:
            self.best = case

    def shown(self) -> list[tuple[str, _Shown | None]]:
        """Return as many places as there are, with the kind of each case; a place is empty if the cases are fewer."""
        ends: dict[int, tuple[str, _Shown]] = {}
        if self.worst and self.best and self.worst.dice < self.best.dice:
            ends = {case.number: (kind, case) for kind, case in (("worst", self.worst), ("best", self.best))}
        others = [case.number for case in self.first if case.number not in ends][: self.places - len(ends)]
        kept = [case for case in self.first if case.number in ends or case.number in others]
        shown: list[tuple[str, _Shown | None]] = [ends.pop(case.number, ("case", case)) for case in kept]
        shown += ends.values()
        return [*shown, *[("", None)] * (self.places - len(shown))]


def _largest_slice(image: Tensor, pred: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slice with the most label, else the most prediction, of volumes (C, H, W, D)."""
    if image.shape[-1] != pred.shape[-1]:
        raise ValueError(
            f"Image and prediction must have the same number of slices, got {image.shape[-1]} and {pred.shape[-1]}."
        )
    area = (label if label.any() else pred).bool().flatten(0, 2).sum(0)
    index = int(area.argmax())
    return image[..., index], pred[..., index], label[..., index]


def _plane(mask: Tensor) -> NDArray[np.bool_]:
    """Return a mask (1, H, W) or (H, W) as (H, W) bool."""
    plane = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    if plane.ndim != 2:
        raise ValueError(f"A mask must be (1, H, W) or (H, W), got {tuple(mask.shape)}; select a slice first.")
    return plane.detach().as_subclass(Tensor).cpu().numpy().astype(np.bool_)


def _pixels(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Picture:
    """Undo the normalisation: (1 or 3, h, w) -> (h, w, 3) uint8."""
    offset, factor = (torch.tensor(values).reshape(-1, 1, 1) for values in (mean, std))
    shown = (image.detach().as_subclass(Tensor).cpu().float() * factor + offset).nan_to_num().clamp(0, 1)
    return shown.expand(3, -1, -1).permute(1, 2, 0).mul(255).round().byte().numpy()


def _resize(picture: Picture, shape: tuple[int, int]) -> Picture:
    rows, columns = shape
    return np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BICUBIC))


def _edge_distance(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return for each pixel of a picture of `shape` the distance to the mask's edge, measured on a grid twice as fine.

    The frame of the picture closes a mask that it cuts. Without a mask all distances are infinite.
    """
    rows, columns = shape
    fine = Image.fromarray(mask.astype(np.uint8) * 255).resize((columns * 2, rows * 2), Image.Resampling.BILINEAR)
    soft = np.asarray(fine, dtype=np.float64)
    if not soft.any():
        return np.full(shape, np.inf)
    inside = np.pad(soft > 0.5 * soft.max(), 1)  # half of the most, so that a lesion smaller than a pixel is seen
    distance = np.where(inside, ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside)) - 0.5
    coarse: NDArray[np.float64] = distance[1:-1, 1:-1].reshape(rows, 2, columns, 2).mean((1, 3)) / 2
    return coarse


def _stroke(
    picture: NDArray[np.float64], distance: NDArray[np.float64], width: float, color: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Draw a line of `width` pixels along distance 0, in a dark seam that keeps it visible on any ground."""
    for reach, shade, strength in ((width + 1.5, SEAM, 0.5), (width, color, 1.0)):
        alpha = np.clip(reach / 2 + 0.5 - distance, 0, 1)[..., None] * strength
        picture = np.asarray(picture * (1 - alpha) + np.array(shade) * alpha)
    return picture


def _cut(title: str, width: int, font: Any) -> str:
    """Shorten a title to `width` pixels."""
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(title + "…") > width:
        title = title[:-1]
    return title + "…"

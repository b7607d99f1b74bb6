"""Time and memory of reading, blending, measuring and writing slides of growing size: the table of docs/slides.md.

    python -m benchmarks.slides                  print the table
    python -m benchmarks.slides docs/slides.md   renew it between the two marks of that page

Each slide is a checker of pieces of tissue and of glass, with round lesions, 0.25 micrometres per pixel. It is
segmented at 0.5 in a process of its own by a network that only compares colours, so that what is measured is everything
but the network. The mask has to agree with what was drawn.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import tifffile
import torch

from benchmarks.page_tables import renew
from monai_tpseg.inferers import TaskInferer
from monai_tpseg.io.slide_reader import SlideReader
from monai_tpseg.segment import Segmenter
from monai_tpseg.studies.model import Settings
from monai_tpseg.studies.slides import segment_slide

SIZES = ((4096, 4096), (8192, 4096), (16384, 4096), (8192, 8192))
TILE, MPP = 512, (0.25, 0.5)
PIECE = 4  # tiles along a piece of tissue or of glass
RADIUS = 150  # pixels of the slide: one lesion in each tile of tissue


def tiles(rows: int, columns: int, step: int) -> Iterator[Any]:
    """The tiles of a level: glass, or tissue with a lesion in its middle."""
    rng = np.random.default_rng(0)
    kinds = []
    place = np.hypot(*(np.mgrid[:TILE, :TILE] - TILE / 2 + 0.5))
    for lesion in (True, False):
        tile = np.full((TILE, TILE, 3), 244, np.uint8)
        if lesion:
            tile[:] = (225, 170, 205)
            tile[place < RADIUS] = (90, 20, 160)
        kinds.append(tile + rng.integers(-3, 4, tile.shape).astype(np.int8).astype(np.uint8))
    for row in range(rows // TILE // step):
        for column in range(columns // TILE // step):
            of = [[int(is_glass(row * step + r, column * step + c)) for c in range(step)] for r in range(step)]
            yield _shrunk([[kinds[kind] for kind in line] for line in of])


def is_glass(row: int, column: int) -> bool:
    """Say what the tile of the finest level in this row and column is."""
    return (row // PIECE + column // PIECE) % 2 == 1


def _shrunk(tiles: list[list[Any]]) -> Any:
    step = len(tiles)
    whole = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    return whole.reshape(TILE, step, TILE, step, 3).mean((1, 3)).round().astype(np.uint8) if step > 1 else whole


def write(path: Path, shape: tuple[int, int]) -> None:
    """Write a slide of three levels."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for step in (1, 2, 4):
            file.write(
                tiles(*shape, step), shape=(shape[0] // step, shape[1] // step, 3), dtype=np.uint8, tile=(TILE, TILE),
                photometric="rgb", compression="zlib", subfiletype=int(step > 1), metadata=None,
                resolution=(1e4 / MPP[0], 1e4 / MPP[0]), resolutionunit="CENTIMETER",
            )  # fmt: skip


def colours(image: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
    """Lesion where green, undone from ImageNet's scale, is dark."""
    return 300 * (0.3 - (image[:, 1:2] * 0.224 + 0.456))


def child(path: str) -> None:
    """Segment one slide and print what it took."""
    info = SimpleNamespace(image_size=(512, 512), tasks=("adenocarcinoma",))
    settings = Settings(mpp=MPP[1])
    segmenter = Segmenter(cast(Any, colours), info.tasks, TaskInferer(info.image_size), settings.finish)
    model = SimpleNamespace(
        info=info, segmenter=segmenter, device=torch.device("cpu"), slice_batch=8, settings=settings
    )
    before, started = peak(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        reader = SlideReader(Path(path), MPP[1])
        _, more = segment_slide(cast(Any, model), reader, "adenocarcinoma", "case", Path(folder))
        mask = (Path(folder) / more["files"]["mask"]).stat().st_size
    took = {"seconds": time.monotonic() - started, "before": before, "grown": peak() - before, "mask": mask / 1e6}
    print(json.dumps({**took, "lesions": more["lesions"], "voxels": more["voxels"], **more["decisions"]}))


def peak() -> float:
    """MB of memory that this process has needed at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(shape: tuple[int, int]) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        write(path, shape)
        done = subprocess.run(
            [sys.executable, __file__, "--child", str(path)], capture_output=True, text=True, check=True
        )
    got = json.loads(done.stdout)
    expected = sum(not is_glass(r, c) for r in range(shape[0] // TILE) for c in range(shape[1] // TILE))
    area = expected * np.pi * (RADIUS * MPP[0] / MPP[1]) ** 2
    if got["lesions"] != expected or abs(got["voxels"] / area - 1) > 0.01:
        raise SystemExit(f"The mask of {shape} is wrong: {got['lesions']} lesions of {expected}.")
    size = f"{shape[0]} x {shape[1]}"
    run = got["windows"] - got["windows_glass"]
    return (
        f"| {size} | {got['windows']} ({run}) | {got['lesions']} | {got['seconds']:.0f} | {got['grown']:.0f} "
        f"| {shape[0] * shape[1] * 4 / MPP[1] ** 2 * MPP[0] ** 2 / 1e6:.0f} |"
    )


def main() -> None:
    """Print or renew the table."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
        return
    head = "| slide, pixels | windows (run) | lesions | seconds | memory, MB | all probabilities at once, MB |"
    text = "\n".join([head, "|---" * 6 + "|", *(measure(shape) for shape in SIZES)])
    if len(sys.argv) < 2:
        print(text)
        return
    renew(Path(sys.argv[1]), "slides", text)


if __name__ == "__main__":
    main()

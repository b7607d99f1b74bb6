"""Draw the picture at the top of the README: a phantom of each task and what the network of `make demo` finds in it.

    make demo && python -m benchmarks.draw_readme demo_output

The phantoms are those of the validation list, the first of each task in its own modality; none is chosen by its result.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from monai_tpseg import load_model
from monai_tpseg.catalogue import TASKS
from monai_tpseg.defaults import THRESHOLD
from monai_tpseg.studies.model import Model
from monai_tpseg.transforms import draw_overlay

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "tasks.jpg"
_COLUMNS, _SIDE, _GAP = 4, 320, 8  # pixels


def tile(model: Model, path: Path, task: str, title: str) -> Image.Image:
    """The overlay that `tpseg run` draws, for a picture of any size."""
    found = model.segment(path, task)
    image = found.image.numpy().transpose(1, 2, 0).astype("uint8")
    large = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    prob = Image.fromarray(found.prob[0].numpy()).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    mask = np.asarray(prob) > THRESHOLD
    return draw_overlay(np.asarray(large, np.float32).transpose(2, 0, 1) / 255, mask.astype(np.uint8), title)


def main() -> None:
    """Draw one tile a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, metavar="DEMO", help="output folder of `make demo`")
    parser.add_argument("--out", type=Path, default=PICTURE, help="picture (docs/figures/tasks.jpg)")
    arguments = parser.parse_args()
    data = arguments.demo / "data"
    listed = json.loads((data / "datalist.json").read_text())["validation"]
    model = load_model(arguments.demo / "run" / "model.pt", device="cpu")
    tiles = []
    for task in TASKS:
        own = [e for e in listed if e["task"] == task.name]
        name = next(e["image"] for e in own if Path(e["image"]).name.startswith(task.name))
        tiles.append(tile(model, data / name, task.name, f"{task.title} · {task.modality.display_name}"))
    width, height = tiles[0].size
    rows = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white")
    for n, one in enumerate(tiles):
        sheet.paste(one, ((n % _COLUMNS) * (width + _GAP), (n // _COLUMNS) * (height + _GAP)))
    sheet.save(arguments.out, quality=88)


if __name__ == "__main__":
    main()

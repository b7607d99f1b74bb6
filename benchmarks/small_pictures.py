"""A data set small enough to carry to another machine: JPEG pictures and 1-bit masks of one size, the same lists.

python -m benchmarks.small_pictures DATA OUT --size 256 --per-task 400
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from PIL import Image

_QUALITY = 90  # of JPEG


def small(path: Path, size: int, label: bool) -> Image.Image:
    """Return a picture, or a mask of 0 and 1, at (size, size)."""
    with Image.open(path) as picture:
        if not label:
            shown = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
            return shown.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
        mask = picture.convert("L").point([0] + 255 * [255]).resize((size, size), Image.Resampling.BILINEAR)
        return mask.point(128 * [0] + 128 * [255]).convert("1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with datalist.json")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--per-task", type=int, default=400, help="pictures of a task in each list, at most (400)")
    args = parser.parse_args()
    lists = json.loads((args.data / "datalist.json").read_text())
    kept: dict[str, list[dict[str, str]]] = {}
    for name in ("training", "validation"):
        count: Counter[str] = Counter()
        for n, item in enumerate(lists[name]):
            count[item["task"]] += 1
            if count[item["task"]] > args.per_task:
                continue
            files = {"image": f"images/{name}_{n:05d}.jpg", "label": f"labels/{name}_{n:05d}.png"}
            for key, file in files.items():
                (args.out / file).parent.mkdir(parents=True, exist_ok=True)
                small(args.data / item[key], args.size, key == "label").save(args.out / file, quality=_QUALITY)
            kept.setdefault(name, []).append({**files, "task": item["task"]})
    (args.out / "datalist.json").write_text(json.dumps(kept))


if __name__ == "__main__":
    main()

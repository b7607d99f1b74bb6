"""What `skip_empty` loses and saves: real slices with lesions, each between slices of air with noise.

    python -m benchmarks.speed_empty --dataset_dir DATA --volumes VOLUME [VOLUME ...]

A wrongly skipped slice loses its whole mask, so the error is the share of labelled pixels in skipped slices. Slices are
the MR and CT pictures of a datalist, training and validation; whole volumes are looked at as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import arguments, save
from monai_tpseg.catalogue import TASK_NAMES, TASKS, Modality
from monai_tpseg.data import read_datalist
from monai_tpseg.inferers.tissue import tissue_slices
from monai_tpseg.transforms import LoadMedicalImaged, NormalizeByModalityd

NOISE = (0.0, 0.01, 0.02, 0.03, 0.05)  # standard deviation, of the range of the volume
SIDES = (0.5, 0.25, 0.125, 0.0625)  # of the slice that a shrunken picture takes, as at the ends of a body


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument("--volumes", nargs="*", default=[], help="files or series of MR or CT")
    args = parser.parse_args()
    slices = list(labelled_slices(args.dataset_dir))
    rows = [between_air(slices, noise, 1.0) for noise in NOISE] + [between_air(slices, 0.02, side) for side in SIDES]
    read, normalise = LoadMedicalImaged("image"), NormalizeByModalityd()
    whole = [normalise(read({"image": path, "task": "brain_tumor"}))["image"].as_tensor() for path in args.volumes]
    kept = {
        "volumes": len(whole),
        "slices": sum(v.shape[-1] for v in whole),
        "run": sum(len(tissue_slices(v)) for v in whole),
    }
    args.dataset_dir, args.volumes = "DATA", [Path(path).name for path in args.volumes]
    save("empty", args, cases=len(slices), rows=rows, volumes=kept)


def labelled_slices(folder: str) -> Iterator[tuple[Tensor, int]]:
    """Yield slices of MR and CT as the network takes them, (3, H, W), with the number of labelled pixels."""
    tasks = [task.name for task in TASKS if task.modality in (Modality.MRI, Modality.CT)]
    read, normalise = LoadMedicalImaged(["image", "label"]), NormalizeByModalityd()
    for split in ("training", "validation"):
        for case in read_datalist(str(Path(folder) / "datalist.json"), split, folder, TASK_NAMES):
            if case["task"] not in tasks:
                continue
            loaded = read({key: case[key] for key in ("image", "label", "task")})
            lesion = int((loaded["label"].as_tensor() > 0.5).sum())
            yield normalise(loaded)["image"].as_tensor(), lesion


def between_air(slices: list[tuple[Tensor, int]], noise: float, side: float) -> dict[str, Any]:
    """Return what is skipped when every slice, shrunk to a share of its side, lies between two of air."""
    torch.manual_seed(0)
    lost, lost_pixels, air_run = 0, 0, 0
    for image, lesion in slices:
        low, span = image.min(), image.max() - image.min()
        above, below = (low + span * noise * torch.randn(1, *image.shape[1:]).abs().expand_as(image) for _ in range(2))
        found = tissue_slices(torch.stack([above, shrunk(image, side), below], dim=-1))
        air_run += len(set(found) - {1})
        if 1 not in found:
            lost, lost_pixels = lost + 1, lost_pixels + lesion
    labelled = sum(lesion for _, lesion in slices)
    return {
        "noise": noise,
        "side": side,
        "slices_lost": lost,
        "share_of_lesion_pixels_lost": lost_pixels / labelled,
        "share_of_air_skipped": 1 - air_run / (2 * len(slices)),
    }


def shrunk(image: Tensor, side: float) -> Tensor:
    """Return the picture at a share of its size in the corner of an empty one of its size."""
    if side == 1.0:
        return image
    small = F.interpolate(image[None], scale_factor=side, mode="area")[0]
    empty = torch.full_like(image, float(image.min()))
    empty[:, : small.shape[1], : small.shape[2]] = small
    return empty


if __name__ == "__main__":
    main()

"""How well the mask of one slice proposes the next: Dice by distance from the slice that was clicked. Writes JSON.

Volumes are phantoms that no training of ours has seen. A simulated user clicks on the slice where the lesion is
largest, then the mask goes from slice to slice both ways, once as a mask to be corrected and once as an exemplar.
`clicks` is what the same number of clicks gives on each slice, and `copied` the first mask as it is. `beyond` counts
slices without lesion that got a mask. Without weights, the smallest network is trained here on slices of phantoms.

    python -m benchmarks.annotate_propagation --out docs/results/annotate_propagation.json
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from monai.losses import DiceCELoss
from numpy.typing import NDArray

from benchmarks.logs import write_log
from monai_tpseg.annotate import PromptModel, Session
from monai_tpseg.annotate.session.propagation import Proposal
from monai_tpseg.catalogue import get_task
from monai_tpseg.clicks import next_clicks
from monai_tpseg.engines import train_rounds
from monai_tpseg.losses import DeepSupervisionLoss
from monai_tpseg.networks import Prompt, kprism_demo
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.testing.phantoms import make_volume, write_nifti
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.transforms.pipelines import load_pipeline

Mask = NDArray[np.uint8]


def training_slices(task: str, size: int, volumes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slices with lesion (N, 3, H, W), normalised, and their masks (N, 1, H, W)."""
    pipeline, images, labels = load_pipeline(get_task(task).modality, "physical"), [], []
    for seed in range(volumes):
        volume = make_volume(task, seed, (size, size, 12))
        image = torch.from_numpy(volume.values)[None].repeat(3, 1, 1, 1)
        normalised = torch.as_tensor(pipeline({"image": image})["image"])
        for n in np.flatnonzero(volume.label.any(axis=(0, 1))):
            images.append(normalised[..., n])
            labels.append(torch.from_numpy(volume.label[None, ..., n]).float())
    return torch.stack(images), torch.stack(labels)


def train(path: Path, task: str, size: int, steps: int, batch: int = 8) -> None:
    """Train with a class, exemplars and clicks at 30, 30 and 40 %, and write the weights."""
    torch.manual_seed(0)
    image, label = training_slices(task, size, 32)
    net = kprism_demo(1).train()
    loss = DeepSupervisionLoss(DiceCELoss(sigmoid=True), outputs=len(net.decoder.layers) - 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        rows, shown = torch.randint(len(image), (2, batch))
        exemplars = Prompt(exemplar_image=image[shown][:, None], exemplar_label=label[shown][:, None])
        start = Prompt(task=0) if step % 10 < 3 else exemplars if step % 10 < 6 else Prompt()
        optimizer.zero_grad()
        train_rounds(net, image[rows], label[rows], start, loss, rounds=2)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network = {"architecture": "kprism", "backbone": "utnet_demo"}
    save_weights(path, net.state_dict(), WeightsInfo((task,), network, (size, size), preprocessing=pipelines_hash()))


def dice(one: Mask, other: Mask) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 1.0 if not total else 2 * int((one & other).sum()) / total


def click(session: Session, truth: Mask, index: int, clicks: int) -> None:
    """Click as somebody would who sees the label."""
    for _ in range(clicks):
        found, wanted = (torch.from_numpy(x > 0)[None, None] for x in (session.mask(index), truth[..., index]))
        row, column, sign = next_clicks(found, wanted, torch.Generator().manual_seed(0))[0, 0].tolist()
        if not sign:
            return
        session.click(row, column, sign > 0, index)


def propagated(session: Session, truth: Mask, by: Proposal, clicks: int) -> dict[int, list[float]]:
    """Propagate both ways; see `by_distance`."""
    sizes = truth.sum(axis=(0, 1))
    start = int(sizes.argmax())
    click(session, truth, start, clicks)
    for direction in (1, -1):
        session.propagate(start, len(sizes), direction, by=by)
    return by_distance(session.volume_mask(), truth, start)


def by_distance(found: Mask, truth: Mask, start: int) -> dict[int, list[float]]:
    """Return the Dice of each slice with lesion by its distance from slice `start`; under -1 the marked others."""
    result = defaultdict(list)
    result[-1] = [float((found.any(axis=(0, 1)) & ~truth.any(axis=(0, 1))).sum())]
    for index in np.flatnonzero(truth.any(axis=(0, 1))):
        result[abs(int(index) - start)].append(dice(found[..., index], truth[..., index]))
    return result


def measure(model: PromptModel, source: Path, truth: Mask, task: str, clicks: int) -> dict[str, dict[int, list[float]]]:
    """Return the Dice by way and distance for one volume.

    Args:
        truth: (H, W, D) in {0, 1}, on the grid of the session.
    """
    result: dict[str, dict[int, list[float]]] = {}
    for by in get_args(Proposal):
        session = Session(source, model, task)
        session.set_use_class(False)
        result[by] = propagated(session, truth, by, clicks)
    start = int(truth.sum(axis=(0, 1)).argmax())
    by_hand = Session(source, model, task)
    by_hand.set_use_class(False)
    for index in np.flatnonzero(truth.any(axis=(0, 1))):
        click(by_hand, truth, int(index), clicks)
    result["clicks"] = by_distance(by_hand.volume_mask(), truth, start)
    copied = np.repeat(by_hand.mask(start)[..., None], truth.shape[2], axis=2)
    result["copied"] = by_distance(copied, truth, start)
    return result


def summary(parts: list[dict[str, dict[int, list[float]]]]) -> dict[str, Any]:
    """Return mean Dice by way and distance, and over all slices but the first; slices beyond the lesion a volume."""
    table: dict[str, Any] = {}
    for way in parts[0]:
        joined: dict[int, list[float]] = defaultdict(list)
        for part in parts:
            for distance, values in part[way].items():
                joined[distance] += values
        beyond = round(statistics.mean(joined.pop(-1)), 2)
        rest = [value for distance, values in joined.items() if distance for value in values]
        table[way] = {"beyond": beyond, "all but the first": round(statistics.mean(rest), 4)} | {
            str(distance): round(statistics.mean(values), 4) for distance, values in sorted(joined.items())
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", help="weights of K-Prism; by default some are trained")
    parser.add_argument("--steps", type=int, default=200, help="of that training (%(default)s)")
    parser.add_argument("--task", default="lung_infection")
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--size", type=int, default=64, help="rows and columns (%(default)s)")
    parser.add_argument("--clicks", type=int, default=3, help="on the first slice (%(default)s)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.checkpoint is None:
            train(Path(folder) / "model.pt", args.task, args.size, args.steps)
        model = PromptModel(args.checkpoint or Path(folder) / "model.pt", "cpu")
    parts = []
    for seed in range(1000, 1000 + args.volumes):
        volume = make_volume(args.task, seed, (args.size, args.size, args.slices))
        with tempfile.TemporaryDirectory() as folder:
            source, _ = write_nifti(volume, Path(folder) / "volume.nii.gz")
            parts.append(measure(model, source, volume.label.astype(np.uint8), args.task, args.clicks))
    said = {key: getattr(args, key) for key in ("task", "volumes", "slices", "size", "clicks", "steps")}
    result = {**said, "dice": summary(parts)}
    write_log(result, args.out, indent=2)


if __name__ == "__main__":
    main()

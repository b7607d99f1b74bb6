"""A K-Prism that was trained for some seconds on slices of phantoms, so that a click marks what lies under it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.engines.rounds import train_rounds
from monai_tpseg.networks import Prompt, kprism_demo
from monai_tpseg.networks.kprism import KPrismOutput
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from monai_tpseg.transforms import pipelines_hash
from monai_tpseg.transforms.pipelines import load_pipeline

TASK = "lung_infection"
SIZE = 64
"""Rows, columns and side of the network's input."""


def slices(seeds: range) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slices with lesion, (N, 3, H, W), normalised as a CT is, and their masks (N, 1, H, W)."""
    images, labels = [], []
    for seed in seeds:
        volume = make_volume(TASK, seed, (SIZE, SIZE, 8))
        for n in np.flatnonzero(volume.label.any(axis=(0, 1))):
            images.append(torch.from_numpy(np.repeat(volume.values[None, :, :, n], 3, 0)).float())
            labels.append(torch.from_numpy(volume.label[None, :, :, n]).float())
    pipeline = load_pipeline("ct", "physical")
    return torch.stack([torch.as_tensor(pipeline({"image": x})["image"]) for x in images]), torch.stack(labels)


def write_trained(path: Path, steps: int = 120, batch: int = 8) -> Path:
    """Train with clicks and with the class, and write the weights."""
    torch.manual_seed(0)
    net = kprism_demo(len(TASK_NAMES)).train()
    image, label = slices(range(24))
    measure = DiceCELoss(sigmoid=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)

    def loss(output: KPrismOutput, truth: torch.Tensor) -> torch.Tensor:
        return torch.stack([measure(x, truth) for x in (output.logits, *output.side_logits)]).mean()

    for step in range(steps):
        rows = torch.randint(len(image), (batch,))
        start = Prompt(task=TASK_NAMES.index(TASK)) if step % 4 == 0 else Prompt()
        optimizer.zero_grad()
        train_rounds(net, image[rows], label[rows], start, loss, rounds=2)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network = {"architecture": "kprism", "backbone": "utnet_demo"}
    info = WeightsInfo(TASK_NAMES, network, (SIZE, SIZE), preprocessing=pipelines_hash())
    save_weights(path, net.state_dict(), info)
    return path


def write_case(folder: Path, seed: int = 101) -> tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Write a CT series that training did not see; return its folder and where its lesion is, (H, W, D)."""
    volume = make_volume(TASK, seed, (SIZE, SIZE, 8))
    return write_dicom_series(volume, folder), np.asarray(volume.label, bool)

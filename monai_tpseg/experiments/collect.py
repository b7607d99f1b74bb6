"""Collection of the results of a finished run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from monai_tpseg.experiments.suite import Run
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.described import build_described
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.parsing import read_record

__all__ = ["collect", "prototype_figures"]


def collect(run: Run, folder: Path, evaluated: Path, data: Path) -> dict[str, Any]:
    """Return the record of a run from the files in its folder.

    Args:
        run: the finished run.
        folder: its output folder.
        evaluated: folder of the metrics of its weights.
        data: folder that the names of the images are given relative to.
    """
    info = read_info(folder / "model.pt")
    network = build_described(folder / "model.pt")
    return {
        "name": run.name,
        "row": run.row,
        "seed": run.seed,
        "tasks": list(run.tasks),
        "options": dict(run.options),
        "parameters": sum(p.numel() for p in network.parameters()),
        "epoch": info.training["epoch"],
        "clock": _json(folder / "clock.json"),
        "metrics": _rounded(_json(evaluated / "metrics.json")),
        "history": _history(folder / "history.json"),
        "images": _images(evaluated / "metrics_per_image.csv", data),
        **_gate_figures(network),
        **prototype_figures(network),
    }


def _json(path: Path) -> Any:
    return read_record(path, kind=(dict, list))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def _history(path: Path) -> list[dict[str, Any]]:
    """Return loss and mean validation Dice by epoch; epochs without validation have a Dice of null."""
    return [
        {"epoch": e["epoch"], "loss": _rounded(e["loss"]), "dice": _rounded(e["metrics"].get("dice/mean"))}
        for e in _json(path)
    ]


def _images(path: Path, data: Path) -> dict[str, list[Any]]:
    """Return names, tasks and counts (tp, fp, fn, tn in pixels) of the validation images; all metrics follow."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: (row["task"], row["case"]))
    return {
        "case": [Path(row["case"]).relative_to(data.absolute()).as_posix() for row in rows],
        "task": [row["task"] for row in rows],
        "counts": [[int(row[key]) for key in ("tp", "fp", "fn", "tn")] for row in rows],
    }


@torch.no_grad()
def _gate_figures(network: nn.Module) -> dict[str, Any]:
    if not isinstance(network, TPSeg) or network.encoder.gate is None:
        return {}
    gate = network.encoder.gate
    inner = torch.sigmoid(gate.logits()[:, 1:])  # before they were made hard
    ends = inner.new_zeros(len(inner), 1)
    table = torch.cat([ends, inner, ends + 1], dim=1)
    return {"split": gate.split_positions().tolist(), "gates": _rounded(table.tolist())}


@torch.no_grad()
def prototype_figures(network: nn.Module) -> dict[str, Any]:
    """Return what Figures 7 and 8 of the paper show, for every PGTD that there is; nothing for other networks.

    Returns:
        `similarity`: cosines of the foreground prototypes of all pairs of tasks, (T, T) a PGTD;
        `separation`: 1 - cosine of foreground and background prototype, (T,) a PGTD.
    """
    if not isinstance(network, TPSeg) or not network.pgtds:
        return {}
    banks = [F.normalize(pgtd.bank.prototypes, dim=-1) for pgtd in network.pgtds]
    return {
        "similarity": [_rounded((bank[:, 1] @ bank[:, 1].T).tolist()) for bank in banks],
        "separation": [_rounded((1 - (bank[:, 0] * bank[:, 1]).sum(-1)).tolist()) for bank in banks],
    }

"""Adding a task to weights, from exemplars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_tpseg.catalogue import TASK_NAMES, Modality, check_name, check_new_name, get_task
from monai_tpseg.data.datalists import DatalistError
from monai_tpseg.data.exemplar_files import find_exemplars
from monai_tpseg.engines.row_tuning import tune_row
from monai_tpseg.files import check_writable
from monai_tpseg.keys import IMAGE, LABEL
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.described import build_described, new_described
from monai_tpseg.networks.new_task_rows import Start, add_task
from monai_tpseg.networks.weights_info import WeightsInfo, info_path, read_info, save_weights
from monai_tpseg.transforms import (
    CropToRegiond,
    LoadMedicalImaged,
    NormalizeByModalityd,
    ResizePictured,
)
from monai_tpseg.transforms.pipelines import warn_of_other_pipelines
from monai_tpseg.words import count

__all__ = [
    "AddedTask",
    "FineTuning",
    "add_task_to_weights",
    "check_new_task",
    "fresh_network",
    "load_tpseg",
    "read_exemplar_tensors",
]


@dataclass(frozen=True)
class FineTuning:
    """A short training of the new rows.

    Attributes:
        steps: steps of the optimiser; 0 trains nothing.
        lr: learning rate.
        seed: random seed.
    """

    steps: int = 0
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"The number of steps must be 0 or more, got {self.steps}.")
        if not 0 < self.lr < 1:
            raise ValueError(f"The learning rate must be above 0 and below 1, got {self.lr}.")


@dataclass(frozen=True)
class AddedTask:
    """Summary of an added task.

    Attributes:
        exemplars: number of them.
        nearest: name of the task whose rows were copied.
        similarities: similarity of the exemplars to each other task by name, most similar first; see `nearest_task`.
    """

    exemplars: int
    nearest: str
    similarities: dict[str, float]


def add_task_to_weights(
    name: str,
    exemplars: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    modality: str | None = None,
    start: Start = "nearest",
    tuning: FineTuning | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
    similar_name: bool = False,
) -> AddedTask:
    """Write weights, and their description, with the tasks of a checkpoint and a new one.

    Args:
        name: name of the new task.
        exemplars: see `find_exemplars`.
        checkpoint: TP-Seg weights.
        out: weights to write, `.pt`; must not exist.
        modality: modality of its pictures; known for a task of the catalogue.
        start: origin of the new rows, see `add_task`.
        tuning: a short training of the new rows.
        device: device of the network.
        progress: show the progress of the tuning.
        similar_name: allow a name that resembles that of a known task, which may be a typo.

    Raises:
        ValueError: one line: a taken, empty or mistyped name, an unknown modality, no exemplar, none with a lesion, or
            weights of another network.
        FileExistsError: `out` exists.
        OSError: `out` cannot be written.
    """
    tuning, out = tuning or FineTuning(), Path(out)
    info = read_info(checkpoint, verify=True)
    wider = _described(name, modality, info, similar_name)
    _check_out(out)
    network = load_tpseg(checkpoint)
    image, label = read_exemplar_tensors(find_exemplars(Path(exemplars), name), wider)
    warn_of_other_pipelines(info.preprocessing)
    check_writable(out)
    grown = fresh_network(wider, tuning.seed).to(device)
    nearest = add_task(network.to(device), grown, image.to(device), label.to(device), start)
    if tuning.steps:
        tune_row(grown, len(info.tasks), image, label, tuning.steps, tuning.lr, tuning.seed, device, progress)
    ranked = sorted(zip(nearest.similarities.tolist(), info.tasks, strict=True), reverse=True)
    added = AddedTask(len(image), info.tasks[nearest.row], {task: round(value, 4) for value, task in ranked})
    training = _history(name, added, start, tuning, info)
    save_weights(out, grown.state_dict(), wider.derived(training=training))
    return added


def check_new_task(
    name: str, modality: str | None, similar_name: bool = False, names: Sequence[str] = TASK_NAMES
) -> dict[str, str]:
    """Check a new task before weights are read.

    Args:
        name: of the task.
        modality: of its pictures; None for a task of the catalogue.
        similar_name: allow a name that resembles one of `names`.
        names: of the known tasks.

    Returns:
        the modality by name; empty for a task of the catalogue, whose modality is known.

    Raises:
        ValueError: an invalid name, one that may be a typo of another, or an unknown, missing or different modality.
    """
    check_name(name)
    if not similar_name:
        check_new_name(name, names, confirm="add --new-task (similar_name=True in Python)")
    if name in TASK_NAMES:
        own = get_task(name).modality.value
        if modality not in (None, own):
            raise ValueError(f"Task '{name}' of the catalogue is of modality '{own}', not '{modality}'; leave it out.")
        return {}
    if modality is None:
        known = ", ".join(choice.value for choice in Modality)
        raise ValueError(f"Task '{name}' is not in the catalogue: give its modality, one of {known}.")
    get_task(name, {name: modality})
    return {name: modality}


def _described(name: str, modality: str | None, info: WeightsInfo, similar_name: bool) -> WeightsInfo:
    """The description of the weights with the new task."""
    if name in info.tasks:
        raise ValueError(f"The weights already have a task '{name}'; choose another name.")
    added = check_new_task(name, modality, similar_name, (*TASK_NAMES, *info.tasks))
    if info.window != "none":
        raise CheckpointError(
            "The weights work on patches, but exemplars are whole pictures; use weights for whole pictures."
        )
    return replace(info, tasks=(*info.tasks, name), modalities={**info.modalities, **added})


def _check_out(out: Path) -> None:
    if out.suffix != ".pt":
        raise ValueError(f"Weights are written to a file with the suffix .pt, not '{out}'; correct it.")
    for path in (out, info_path(out)):
        if path.exists():
            raise FileExistsError(f"'{path}' exists; choose another name.")


def load_tpseg(checkpoint: str | Path) -> TPSeg:
    """Load a TP-Seg with prototypes.

    Raises:
        CheckpointError: another network.
    """
    network = build_described(checkpoint)
    if not isinstance(network, TPSeg) or not network.pgtds:
        kind = "an ablation without prototypes" if isinstance(network, TPSeg) else f"a {type(network).__name__}"
        raise CheckpointError(f"'{checkpoint}' holds {kind}; a new task needs TP-Seg with prototypes.")
    return network


def fresh_network(info: WeightsInfo, seed: int = 0) -> TPSeg:
    """Return a fresh network for the tasks of `info`; the draw follows `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wider = new_described(info)
    assert isinstance(wider, TPSeg)
    return wider.eval()


def read_exemplar_tensors(cases: Sequence[dict[str, Any]], info: WeightsInfo) -> tuple[Tensor, Tensor]:
    """Read exemplars as input of the network of `info`.

    Args:
        cases: see `find_exemplars`.
        info: description of weights that include their task.

    Returns:
        image (K, 3, H, W) and label (K, 1, H, W) in {0, 1}.

    Raises:
        ReadError: a file cannot be read, or a mask differs in size from its picture.
        DatalistError: no mask has a lesion or no mask has background, or a case is a volume.
    """
    steps = (
        LoadMedicalImaged(IMAGE, label_keys=LABEL),
        CropToRegiond((IMAGE, LABEL)),
        NormalizeByModalityd(modalities=info.modalities),
        ResizePictured(info.image_size),
    )
    images, labels = [], []
    for case in cases:
        read: dict[Any, Any] = dict(case)
        for step in steps:
            if step is steps[1] and read[IMAGE].ndim == 4:
                raise DatalistError(f"'{Path(case[IMAGE]).name}' is a volume; give single slices as exemplars.")
            read = step(read)
        images.append(torch.as_tensor(read[IMAGE]))
        labels.append(torch.as_tensor(read[LABEL]))
    image, label = torch.stack(images), torch.stack(labels)
    if not label.any():
        raise DatalistError(f"No mask of {count(len(label), 'exemplar')} holds a lesion; give pictures with a lesion.")
    if label.all():
        raise DatalistError(
            f"The mask of each of {count(len(label), 'exemplar')} covers the whole picture; exemplars need background."
        )
    return image, label


def _history(name: str, added: AddedTask, start: Start, tuning: FineTuning, info: WeightsInfo) -> dict[str, Any]:
    """The training history of the description, with the origin of this task."""
    entry = {
        "name": name,
        "exemplars": added.exemplars,
        "start": start,
        "nearest": added.nearest,
        "similarity": added.similarities[added.nearest],
        "fine_tuning": {"steps": tuning.steps, "lr": tuning.lr, "seed": tuning.seed} if tuning.steps else None,
        "from": info.sha256,
    }
    return {**info.training, "new_tasks": [*info.training.get("new_tasks", []), entry]}

"""The weights that a training starts from: rows of tasks that are known are kept by name, a new task gets its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from monai_tpseg.catalogue import TASK_NAMES, get_task
from monai_tpseg.data.datalists import Case
from monai_tpseg.engines.new_task import fresh_network, load_tpseg, read_exemplar_tensors
from monai_tpseg.io import ReadError
from monai_tpseg.keys import LABEL, TASK
from monai_tpseg.networks.new_task_rows import add_task
from monai_tpseg.networks.tpseg import TPSeg
from monai_tpseg.networks.weights_info import WeightsInfo, read_info, save_weights
from monai_tpseg.training.train_options import TrainingError
from monai_tpseg.transforms import LoadMedicalImage

__all__ = ["extended_info", "new_tasks", "write_start"]

logger = logging.getLogger(__name__)

_EXEMPLARS = 8  # of a new task: what its prototypes and its nearest task are found with


def new_tasks(tasks: Sequence[str], info: WeightsInfo) -> tuple[str, ...]:
    """Return those of `tasks` that the weights do not know, in their order."""
    return tuple(task for task in tasks if task not in info.tasks)


def extended_info(info: WeightsInfo, task: str, modalities: Mapping[str, str]) -> WeightsInfo:
    """Return the description of weights with one task more."""
    more = {} if task in TASK_NAMES else {task: get_task(task, modalities).modality.value}
    return replace(info, tasks=(*info.tasks, task), modalities={**info.modalities, **more})


def write_start(
    checkpoint: Path, cases: Sequence[Case], modalities: Mapping[str, str], device: torch.device, seed: int, out: Path
) -> WeightsInfo:
    """Write the weights that a training of `cases` starts from, with their description.

    All rows of the weights stay, whatever the cases ask for. A new task gets rows as `tpseg new-task` gives them: of
    the task that some of its pictures are most like, with prototypes half way to their own.

    Args:
        checkpoint: TP-Seg weights.
        cases: training pictures; the order of new tasks in them is that of their rows.
        modalities: modalities of tasks beyond the catalogue.
        device: device of the network.
        seed: random seed.
        out: the file, `.pt`.

    Raises:
        CheckpointError: the weights are missing, altered or of another network.
        TrainingError: no picture of a new task shows a lesion.
    """
    info = read_info(checkpoint, verify=True)
    origin = info
    network = load_tpseg(checkpoint).to(device)
    for task in new_tasks(tuple(dict.fromkeys(case[TASK] for case in cases)), info):
        info = extended_info(info, task, modalities)
        network = _with_task(network, info, task, cases, device, seed)
    derived = origin.derived(tasks=info.tasks, modalities=info.modalities)
    return save_weights(out, network.state_dict(), derived)


def _with_task(
    network: TPSeg, info: WeightsInfo, task: str, cases: Sequence[Case], device: torch.device, seed: int
) -> TPSeg:
    own = (case for case in cases if case[TASK] == task and _shows_lesion(case))
    shown = list(islice(own, _EXEMPLARS))
    if not shown:
        raise TrainingError(f"No training picture of the new task '{task}' contains a lesion; give some that do.")
    image, label = (part.to(device) for part in read_exemplar_tensors(shown, info))
    wider = fresh_network(info, seed).to(device)
    nearest = add_task(network, wider, image, label)
    logger.info("New task %s: it starts from the rows of %s, the most similar task.", task, info.tasks[nearest.row])
    return wider


def _shows_lesion(case: Case) -> bool:
    try:
        return bool(LoadMedicalImage("label")(case[LABEL]).any())
    except ReadError as error:
        raise TrainingError(f"'{case[LABEL]}' cannot be read as a mask: {error}") from error

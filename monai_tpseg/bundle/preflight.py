"""The checks that a bundle's `run` makes before anything is built or written.

Each ends the program with one clear line and a non-zero status. `initialize` and the network never do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from monai_tpseg.bundle.command_line import flag, one_line
from monai_tpseg.bundle.components import check_components
from monai_tpseg.bundle.inference_inputs import Asked, check_readable, inference_cases, listed_tasks
from monai_tpseg.bundle.setting_values import check_values, is_expression
from monai_tpseg.bundle.workflow import (
    built_network,
    check_options,
    check_settings,
    computed_settings,
    network_arguments,
    settings,
    written_settings,
)
from monai_tpseg.catalogue import resolve_task, task_names
from monai_tpseg.data.check import check_datalist
from monai_tpseg.data.datalists import DatalistError, read_datalist
from monai_tpseg.data.findings import TRAINING, VALIDATION, Finding, list_findings
from monai_tpseg.files import check_folder
from monai_tpseg.handlers.checkpoints import LAST
from monai_tpseg.handlers.curves import read_history
from monai_tpseg.inferers.task_inferer import autocast, image_size_2d
from monai_tpseg.networks import describe
from monai_tpseg.networks.build import check_options as check_network_options
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.hiera import HIERA_VARIANTS
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.weights import announcement
from monai_tpseg.words import choose, count

__all__ = [
    "check_architecture",
    "check_data",
    "check_description",
    "check_evaluate",
    "check_inference",
    "check_names",
    "check_network",
    "check_settings",
    "check_train",
]

logger = logging.getLogger(__name__)


@one_line
def check_names(
    flags: Mapping[str, Any] | None = None,
    ranges: Mapping[str, tuple[Any, float, float]] | None = None,
    choices: Mapping[str, tuple[Any, Sequence[Any]]] | None = None,
) -> None:
    """Check the command line and all settings, before anything that depends on them is built.

    `monai_tpseg.bundle.setting_values` knows what most settings may be. Arguments are for those whose values depend on
    the bundle or on another setting. What they list is resolved before this function is called; a choice from which
    other settings follow is therefore checked by a call of its own.

    Args:
        flags: values of switches by key.
        ranges: value, smallest and largest allowed value of numbers by key.
        choices: value and allowed values by key, e.g. `{"recipe": ("paper", ["paper", "from_scratch"])}`.
    """
    check_options()
    check_values(settings())
    check_components(written_settings(), settings())
    for key, value in (flags or {}).items():
        flag(value, key)
    for key, (value, low, high) in (ranges or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{key} must be a number from {low:g} to {high:g}, got {value!r}.")
    for key, (value, allowed) in (choices or {}).items():
        if value not in allowed:
            raise ValueError(f"Unknown {key} {value!r}; {choose(value, (one for one in allowed if one is not None))}.")
    check_values(computed_settings())


@one_line
def check_description(checkpoint: str | None) -> None:
    """Check that weights which are there have a description that can be read; configs take the network from it."""
    check_values({"checkpoint": checkpoint})
    if checkpoint and Path(checkpoint).is_file():
        read_info(checkpoint)


@one_line
def check_network(checkpoint: str | None) -> None:
    """Build the network that the config and the command line describe, and check that weights are of it.

    Args:
        checkpoint: file of the weights, or None.

    Raises:
        SystemExit: with one line that names the first argument which differs, and the way out.
    """
    network = built_network()
    if not checkpoint or network is None:
        return
    trained = read_info(checkpoint).network
    for key, value in describe(network).items():
        if key in trained and _listed(trained[key]) != value:
            raise CheckpointError(
                f"'{checkpoint}' holds weights of {key} '{trained[key]}', not '{value}'; leave that option out."
            )


@one_line
def check_architecture() -> None:
    """Refuse arguments of `network_def` that its architecture does not have, before it is built.

    Raises:
        SystemExit: with one line that names the argument and those that there are.
    """
    options = network_arguments()
    check_network_options(options.pop("architecture", "tpseg"), options)


@one_line
def check_train(
    datalist: str,
    dataset_dir: str,
    tasks: Sequence[str],
    output_dir: str,
    backbone: str | None,
    image_size: int | Sequence[int],
    freeze_encoder: bool | str,
    encoder_checkpoint: str | None,
    checkpoint: str | None,
    resume: str | bool,
    amp: str,
    device: str | torch.device,
    backbones: Sequence[str] = tuple(HIERA_VARIANTS),
) -> None:
    """Check everything a training needs; arguments are the keys of `train.json`.

    Raises:
        SystemExit: with one line that names the value and the way out.
    """
    task_names(tasks)
    image_size_2d(image_size)
    _check_device(device, amp)
    if backbone is not None and backbone not in backbones:  # None: of an architecture that has none
        raise ValueError(f"Unknown backbone {backbone!r}; {choose(backbone, backbones)}.")
    lists = {section: _named_cases(datalist, section, dataset_dir, tasks) for section in (TRAINING, VALIDATION)}
    _say(list_findings(lists, tasks))
    if flag(freeze_encoder, "freeze_encoder") and not encoder_checkpoint and not checkpoint:
        raise ValueError(
            f"freeze_encoder=true needs weights: give --encoder_checkpoint (SAM 2's file for {backbone}) or "
            "--checkpoint (TP-Seg weights), or train the trunk too with --freeze_encoder false (recipe from_scratch)."
        )
    if encoder_checkpoint and not Path(encoder_checkpoint).is_file():
        raise CheckpointError(f"No file at '{encoder_checkpoint}'; correct --encoder_checkpoint.")
    if checkpoint:
        _check_weights(checkpoint, tasks)
    last = Path(output_dir) / LAST
    if str(resume).lower() == "false" and last.is_file():
        raise FileExistsError(
            f"'{output_dir}' already holds a run ({LAST}): use --resume true, or choose another --output_dir."
        )
    if str(resume).lower() == "true" and not last.is_file():
        raise CheckpointError(f"Nothing to resume: no '{last}'; start without --resume, or use --resume auto.")
    read_history(Path(output_dir) / "history.json")
    if not (dist.is_initialized() and dist.get_rank() > 0):
        check_folder(output_dir, output_dir, "--output_dir")


@one_line
def check_evaluate(
    datalist: str,
    dataset_dir: str,
    tasks: Sequence[str],
    checkpoint: str,
    window: str,
    image_size: int | Sequence[int],
    roi_size: int | Sequence[int],
    amp: str,
    device: str | torch.device,
) -> None:
    """Check everything an evaluation needs; arguments are the keys of `evaluate.json`.

    Raises:
        SystemExit: with one line that names the value and the way out.
    """
    _check_device(device, amp)
    info = _check_weights(checkpoint, tasks)
    _check_scale(info, window, image_size, roi_size)
    cases = _named_cases(datalist, "validation", dataset_dir, tasks)
    _check_output()
    if dist.is_initialized() and len(cases) < dist.get_world_size():
        raise ValueError(f"{dist.get_world_size()} processes are more than {count(len(cases), 'case')}; start fewer.")
    _name_weights(checkpoint, info)


@one_line
def check_inference(
    dataset_dir: str,
    datalist: str | None,
    task: Asked,
    tasks: Sequence[str],
    checkpoint: str,
    window: str,
    image_size: int | Sequence[int],
    roi_size: int | Sequence[int],
    amp: str,
    device: str | torch.device,
    check_inputs: bool | str = True,
    read_timeout: float = 300.0,
) -> None:
    """Check everything an inference needs; arguments are the keys of `inference.json`.

    Raises:
        SystemExit: with one line that names the value and the way out.
    """
    asked = listed_tasks(task)
    if not asked and not datalist:
        raise ValueError(f"Inference has no default task: give --task, one of {', '.join(tasks)}.")
    for one in asked:
        resolve_task(one, tasks)
    _check_device(device, amp)
    info = _check_weights(checkpoint, tasks)
    _check_scale(info, window, image_size, roi_size)
    if not dataset_dir and not datalist:
        raise ValueError("No input: give a picture, a volume, a DICOM folder or a folder of them with --dataset_dir.")
    cases = inference_cases(dataset_dir, datalist, task, tasks, info.modalities)
    _check_output()
    if flag(check_inputs):
        check_readable((case["image"] for case in cases), read_timeout)
    _name_weights(checkpoint, info)


@one_line
def check_data(check: bool | str, datalist: str, dataset_dir: str, tasks: Sequence[str], num_workers: int) -> None:
    """Read every file of both lists before the first step, if asked to; arguments are the keys of `train.json`.

    Raises:
        SystemExit: with one line, a file cannot be trained on.
    """
    if not flag(check, "check_data") or (dist.is_initialized() and dist.get_rank() > 0):
        return
    report = check_datalist(datalist, dataset_dir, tasks, num_workers, progress=True)
    errors = [finding for finding in report.findings if finding.level == "error"]
    if errors:
        first = f"{errors[0].where}: {errors[0].message} [{errors[0].code}]"
        raise DatalistError(f"Entries unusable for training: {len(errors)}, e.g. {first}; tpseg check lists all.")
    logger.info("Datalist\n%s", report.markdown())


def _check_output() -> None:
    folder = settings().get("output_dir")
    if folder and not is_expression(folder) and not (dist.is_initialized() and dist.get_rank() > 0):
        check_folder(folder, folder, "--output_dir")


def _name_weights(checkpoint: str, info: WeightsInfo) -> None:
    """Say which weights of the catalogue run; MONAI's logging goes to standard output, and that may be a pipe."""
    if info.title and not (dist.is_initialized() and dist.get_rank() > 0):
        sys.stderr.write(f"{announcement(Path(checkpoint))}\n")


def _say(findings: Sequence[Finding]) -> None:
    """Warn of what would spoil the training without ending it; `tpseg check` reads the pixels too."""
    if dist.is_initialized() and dist.get_rank() > 0:
        return
    for finding in findings:
        level = logging.INFO if finding.level == "note" else logging.WARNING
        logger.log(level, "Datalist, %s: %s [%s]", finding.where, finding.message, finding.code)


def _named_cases(datalist: str, section: str, dataset_dir: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    if not dataset_dir:
        raise ValueError(
            "No data: give a folder that contains datalist.json with --dataset_dir (and --datalist if elsewhere)."
        )
    return read_datalist(datalist, section, dataset_dir, tasks)


def _check_scale(
    info: WeightsInfo, window: str, image_size: int | Sequence[int], roi_size: int | Sequence[int]
) -> None:
    if window != info.window:
        raise ValueError(
            f"window '{window}' does not fit weights trained with window '{info.window}'; use --window {info.window}."
        )
    size = image_size_2d(roi_size if window == "sliding" else image_size)
    if size != info.image_size:
        raise ValueError(
            f"An input of {size[0]} x {size[1]} does not fit weights trained at {info.image_size[0]} x "
            f"{info.image_size[1]}; do not set image_size and roi_size."
        )


def _check_device(device: str | torch.device, amp: str) -> None:
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"Device '{device}' is not available; use --device cpu.")
    autocast(torch.device(kind), amp)  # type: ignore[arg-type]  # the value is what is being checked
    if amp == "fp16" and kind == "cpu":
        raise ValueError("amp 'fp16' needs a GPU; use --amp bf16 or none.")


def _check_weights(checkpoint: str, tasks: Sequence[str]) -> WeightsInfo:
    info = read_info(checkpoint, verify=True)
    if tuple(tasks) != info.tasks:
        raise CheckpointError(f"'{checkpoint}' was trained for {', '.join(info.tasks)}; got tasks {', '.join(tasks)}.")
    return info


def _listed(value: Any) -> Any:
    """A tuple of a config and the list that JSON made of it are the same."""
    return list(value) if isinstance(value, tuple) else value

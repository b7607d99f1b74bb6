"""What bundle configs call: where the bundle lies, what weights are, and the checks before anything runs.

A bundle's `run` starts with one of the `preflight_*` functions. They end the program with one clear line and a
non-zero status before anything is built or written; `initialize` and the network never do.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_tpseg.data.datalists import DatalistError, read_datalist
from monai_tpseg.handlers.checkpoints import LAST
from monai_tpseg.inferers.task import autocast, image_size_2d
from monai_tpseg.keys import IMAGE, TASK
from monai_tpseg.networks.checkpoint import CheckpointError, load_sam2_trunk, load_weights
from monai_tpseg.networks.hiera import HIERA_VARIANTS
from monai_tpseg.networks.tpseg import TPSeg, unwrap
from monai_tpseg.networks.weights import WeightsInfo, read_info
from monai_tpseg.tasks import TASK_NAMES, resolve_task, task_names
from monai_tpseg.transforms import LoadMedicalImage, ReadError, find_read_error, list_cases, pipelines_hash

__all__ = [
    "data_root",
    "describe",
    "find_bundle_root",
    "flag",
    "from_recipe",
    "from_weights",
    "inference_cases",
    "load_start",
    "preflight_evaluate",
    "preflight_inference",
    "preflight_names",
    "preflight_train",
    "run_engine",
]

logger = logging.getLogger(__name__)

_EXPECTED = (CheckpointError, DatalistError, ReadError, ValueError, FileExistsError)


def _one_line(check: Callable[..., None]) -> Callable[..., None]:
    """End the program with the message of an expected error alone: no traceback, status 1."""

    @wraps(check)
    def checked(*args: Any, **kwargs: Any) -> None:
        try:
            check(*args, **kwargs)
        except _EXPECTED as error:
            _stop(error)

    return checked


def _stop(error: BaseException) -> NoReturn:
    raise SystemExit("Error: " + " ".join(str(error).split()))


def find_bundle_root() -> str:
    """Return the folder of the bundle whose config is being evaluated, or "." where no workflow evaluates it.

    MONAI does not tell a config where it lies, so this asks the workflow that called it, up the stack. The result does
    not depend on the working directory.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigWorkflow):
            folder = Path(caller.config_root_path).absolute()
            return str(folder.parent if folder.name == "configs" else folder)
        frame = frame.f_back
    return "."


def flag(value: Any, key: str = "switch") -> bool:
    """Return a switch of a config as a bool; the command line gives `--key false` as a word.

    Args:
        value: of the key.
        key: its name, for the error.

    Raises:
        ValueError: neither true nor false.
    """
    known = {"true": True, "false": False, "1": True, "0": False}
    if str(value).lower() not in known:
        raise ValueError(f"Unknown {key} {value!r}; choose one of true, false.")
    return known[str(value).lower()]


def from_recipe(recipes: Mapping[str, Mapping[str, Any]], recipe: str, key: str) -> Any:
    """Return `key` of a named recipe.

    Raises:
        ValueError: no such recipe.
    """
    if recipe not in recipes:
        raise ValueError(f"Unknown recipe {recipe!r}; choose one of {', '.join(recipes)}.")
    return recipes[recipe][key]


def from_weights(checkpoint: str, key: str, default: Any) -> Any:
    """Return an attribute of the weights' description, or `default` while there are no weights.

    Evaluation and inference take tasks, network and image size from the file that training wrote, so that nothing has
    to be repeated on the command line. Tools that only build the network run without weights and get the default; the
    preflight of `run` refuses to go on without.

    Args:
        checkpoint: path of `model.pt`.
        key: attribute of `WeightsInfo`, or a key of its `network`.
        default: value without weights.
    """
    try:
        info = read_info(checkpoint) if checkpoint else None
    except CheckpointError:  # missing or damaged: the preflight of `run` says so, in one line
        info = None
    if info is None:
        return default
    value = getattr(info, key) if hasattr(info, key) else info.network.get(key, default)
    return list(value) if isinstance(value, tuple) else value


def describe(
    tasks: Sequence[str],
    network: Mapping[str, Any],
    image_size: int | Sequence[int],
    window: str = "none",
    **training: Any,
) -> WeightsInfo:
    """Return the description that training writes beside its weights."""
    return WeightsInfo(
        tasks=task_names(tasks),
        network=dict(network),
        image_size=image_size_2d(image_size),
        window=window,
        preprocessing=pipelines_hash(),
        training=training,
    )


# ---------------------------------------------------------------------------------------------------------------------
# checks


@_one_line
def preflight_names(
    flags: Mapping[str, Any] | None = None, ranges: Mapping[str, tuple[Any, float, float]] | None = None, **choices: Any
) -> None:
    """Check the command line and closed choices, before anything that depends on them is resolved.

    Args:
        flags: values of switches by key.
        ranges: value, smallest and largest allowed value of numbers by key.
        **choices: value and allowed values of a key, e.g. `recipe=("paper", ["paper", "from_scratch"])`.
    """
    _check_overrides(sys.argv[1:])
    for key, value in (flags or {}).items():
        flag(value, key)
    for key, (value, low, high) in (ranges or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{key} must be a number from {low:g} to {high:g}, got {value!r}.")
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise ValueError(f"Unknown {key} {value!r}; choose one of {', '.join(map(str, allowed))}.")


def _check_overrides(arguments: Sequence[str]) -> None:
    """Refuse `--name` on a `monai.bundle run` command line when the configs have no such key."""
    if "run" not in arguments:
        return
    names = [a.lstrip("-").partition("=")[0] for a in arguments if re.match(r"--?[A-Za-z]", a)]
    values = _config_files(arguments)
    if not values:
        return
    parser = ConfigParser()
    parser.read_config(values)
    own = {
        "config_file",
        "meta_file",
        "logging_file",
        "run_id",
        "init_id",
        "final_id",
        "tracking",
        "args_file",
        "workflow_type",
    }
    for name in names:
        key = name.replace("#", "::")
        if key in own or name.startswith("_") or key in parser:
            continue
        keys = [k for k, v in parser.get().items() if not k.startswith("_") and k != "bundle_root" and _is_setting(v)]
        close = difflib.get_close_matches(name, keys, n=1)
        hint = f"did you mean --{close[0]}? " if close else ""
        raise ValueError(f"Unknown option --{name}: {hint}The keys are {', '.join(sorted(keys))}.")


def _is_setting(value: Any) -> bool:
    """Whether a top-level value of a config is a number, a name or a rule for one, and no component."""
    return not isinstance(value, dict | list) and not str(value).startswith(("$@network_def", "$optim.", "$dist."))


def _config_files(arguments: Sequence[str]) -> list[str]:
    for i, argument in enumerate(arguments):
        if argument.startswith("--config_file"):
            text = argument.partition("=")[2] or (arguments[i + 1] if i + 1 < len(arguments) else "")
            return [part.strip(" '\"") for part in text.strip("[]()").split(",") if part.strip(" '\"")]
    return []


@_one_line
def preflight_train(
    datalist: str,
    dataset_dir: str,
    tasks: Sequence[str],
    output_dir: str,
    backbone: str,
    network: Mapping[str, Any],
    image_size: int | Sequence[int],
    freeze_encoder: bool | str,
    encoder_checkpoint: str | None,
    checkpoint: str | None,
    resume: str | bool,
    amp: str,
    device: str | torch.device,
    max_epochs: int,
    batch_size: int,
) -> None:
    """Check everything a training needs; arguments are the keys of `train.json`.

    Raises:
        SystemExit: with one line that names the value and the way out.
    """
    task_names(tasks)
    image_size_2d(image_size)
    _check_device(device, amp)
    if backbone not in HIERA_VARIANTS:
        raise ValueError(f"Unknown backbone {backbone!r}; choose one of {', '.join(HIERA_VARIANTS)}.")
    for key, number in (("max_epochs", max_epochs), ("batch_size", batch_size)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{key} must be a whole number of at least 1, got {number!r}.")
    if not dataset_dir:
        raise ValueError(
            "No data: name a folder that holds datalist.json with --dataset_dir (and --datalist if elsewhere)."
        )
    for section in ("training", "validation"):
        read_datalist(datalist, section, dataset_dir, tasks)
    if flag(freeze_encoder, "freeze_encoder") and not encoder_checkpoint and not checkpoint:
        raise ValueError(
            f"freeze_encoder=true needs weights: give --encoder_checkpoint (SAM 2's file for {backbone}) or "
            "--checkpoint (TP-Seg weights), or train the trunk too with --freeze_encoder false (recipe from_scratch)."
        )
    if encoder_checkpoint and not Path(encoder_checkpoint).is_file():
        raise CheckpointError(f"No file at '{encoder_checkpoint}'; correct --encoder_checkpoint.")
    if checkpoint:
        _check_weights(checkpoint, tasks, network)
    last = Path(output_dir) / LAST
    if str(resume).lower() == "false" and last.is_file():
        raise FileExistsError(
            f"'{output_dir}' already holds a run ({LAST}): use --resume true, or choose another --output_dir."
        )
    if str(resume).lower() == "true" and not last.is_file():
        raise CheckpointError(f"Nothing to resume: no '{last}'; start without --resume, or use --resume auto.")


@_one_line
def preflight_evaluate(
    datalist: str,
    dataset_dir: str,
    tasks: Sequence[str],
    checkpoint: str,
    network: Mapping[str, Any],
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
    _check_scale(_check_weights(checkpoint, tasks, network), window, image_size, roi_size)
    if not dataset_dir:
        raise ValueError(
            "No data: name a folder that holds datalist.json with --dataset_dir (and --datalist if elsewhere)."
        )
    cases = read_datalist(datalist, "validation", dataset_dir, tasks)
    if dist.is_initialized() and len(cases) < dist.get_world_size():
        raise ValueError(f"{len(cases)} cases are fewer than {dist.get_world_size()} processes; start fewer.")


@_one_line
def preflight_inference(
    dataset_dir: str,
    datalist: str | None,
    task: str | int | None,
    tasks: Sequence[str],
    checkpoint: str,
    network: Mapping[str, Any],
    window: str,
    image_size: int | Sequence[int],
    roi_size: int | Sequence[int],
    amp: str,
    device: str | torch.device,
    check_inputs: bool | str = True,
) -> None:
    """Check everything an inference needs; arguments are the keys of `inference.json`.

    Raises:
        SystemExit: with one line that names the value and the way out.
    """
    if not task and task != 0 and not datalist:
        raise ValueError(f"Inference has no default task: give --task, one of {', '.join(tasks)}.")
    if task or task == 0:
        resolve_task(task, tasks)
    _check_device(device, amp)
    info = _check_weights(checkpoint, tasks, network)
    _check_scale(info, window, image_size, roi_size)
    if not dataset_dir and not datalist:
        raise ValueError("No input: name a picture, a volume, a DICOM folder or a folder of them with --dataset_dir.")
    cases = inference_cases(dataset_dir, datalist, task, tasks)
    if flag(check_inputs):
        for case in cases:
            LoadMedicalImage()(case["image"])


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
            f"{info.image_size[1]}; leave image_size and roi_size alone."
        )


def _check_device(device: str | torch.device, amp: str) -> None:
    kind = torch.device(device).type
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"Device '{device}' is not available; use --device cpu.")
    autocast(torch.device(kind), amp)  # type: ignore[arg-type]  # the value is what is being checked
    if amp == "fp16" and kind == "cpu":
        raise ValueError("amp 'fp16' needs a GPU; use --amp bf16 or none.")


def _check_weights(checkpoint: str, tasks: Sequence[str], network: Mapping[str, Any]) -> WeightsInfo:
    info = read_info(checkpoint, verify=True)
    if tuple(tasks) != info.tasks:
        raise CheckpointError(f"'{checkpoint}' was trained for {', '.join(info.tasks)}; got tasks {', '.join(tasks)}.")
    for key, value in network.items():
        trained = info.network.get(key, value)
        if (list(trained) if isinstance(trained, list | tuple) else trained) != (
            list(value) if isinstance(value, list | tuple) else value
        ):
            raise CheckpointError(
                f"'{checkpoint}' holds weights of {key} '{trained}', not '{value}'; leave --{key} out."
            )
    return info


# ---------------------------------------------------------------------------------------------------------------------
# steps


def inference_cases(
    dataset_dir: str, datalist: str | None, task: str | int | None, tasks: Sequence[str] = TASK_NAMES
) -> list[dict[str, Any]]:
    """Return `{"image", "task"}` of everything to segment.

    Args:
        dataset_dir: a file, a folder of files, a DICOM series or folders of them; with `datalist`, where its relative
            paths start. An empty string without `datalist` means that nothing has been named yet.
        datalist: a MONAI datalist; its "validation" (or "testing") entries are segmented for their own task, or for
            `task` where it is given.
        task: name or row of the task.
        tasks: names in row order.

    Raises:
        DatalistError, ReadError: something named is not there.
    """
    if datalist:
        entries = _listed(datalist, dataset_dir or str(Path(datalist).parent), tasks)
        return [{**entry, "task": entry["task"] if task is None else task} for entry in entries]
    if not dataset_dir:
        return []
    return [{"image": str(path), "task": task} for path in list_cases(dataset_dir)]


def data_root(dataset_dir: str, datalist: str | None) -> str | None:
    """Return the folder whose sub-folders an inference repeats in its output, or None for a single input."""
    if datalist:
        return dataset_dir or str(Path(datalist).parent)
    return dataset_dir if dataset_dir and Path(dataset_dir).is_dir() else None


def _listed(datalist: str, base_dir: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    content = ConfigParser.load_config_file(datalist) if Path(datalist).is_file() else None
    section = "testing" if content and "testing" in content else "validation"
    cases = read_datalist(datalist, section, base_dir, tasks, label=False)
    return [{IMAGE: case[IMAGE], TASK: case[TASK]} for case in cases]


@_one_line
def load_start(
    network: Any, encoder_checkpoint: str | None, checkpoint: str | None, backbone: str, resume: str | bool = False
) -> None:
    """Fill a network before training: SAM 2's trunk, or all TP-Seg weights. A resumed run brings its own.

    Args:
        network: TP-Seg, bare or wrapped for parallel training.
        encoder_checkpoint: official SAM 2 file, or None.
        checkpoint: `model.pt`, or None.
        backbone: name of the trunk's variant.
        resume: only for the log.
    """
    net = unwrap(network)
    if encoder_checkpoint and isinstance(net, TPSeg):
        load_sam2_trunk(net.encoder.trunk, encoder_checkpoint, backbone)
    if checkpoint:
        load_weights(net, checkpoint)
        logger.info("Started from %s", Path(checkpoint).name)
    if str(resume).lower() == "true":
        logger.info("Resuming: the state of the run replaces the weights above.")


def run_engine(engine: Any) -> None:
    """Run a trainer or evaluator; a file that cannot be read, or weights that do not fit, end it with one line."""
    try:
        engine.run()
    except Exception as error:
        expected = find_read_error(error) or _find(error, (CheckpointError, DatalistError))
        if expected is None:
            raise
        _stop(expected)


def _find(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, kinds):
        seen = seen.__cause__ or seen.__context__
    return seen

"""The steps of `tpseg train`: lists, start weights, a look before, the bundle's training, a look after."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from monai_tpseg.bundle.components import check_components, error_of_component
from monai_tpseg.bundle.setting_values import check_values, is_expression
from monai_tpseg.files import write_atomically
from monai_tpseg.networks.encoder_file import EncoderInfo, read_encoder_info
from monai_tpseg.networks.fast.inference_form import choose_device
from monai_tpseg.networks.peers import PEERS
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.parsing import read_json, read_record
from monai_tpseg.training.lists import DATALIST, Lists, write_lists
from monai_tpseg.training.plan import Plan, make_plan, network_to_train
from monai_tpseg.training.start import write_start
from monai_tpseg.training.train_options import TrainingError, TrainOptions, recorded_request
from monai_tpseg.weights import choose_weights
from monai_tpseg.words import choose, count, nearest

__all__ = ["Trained", "bundle_config", "check_options", "train"]

logger = logging.getLogger(__name__)

_BUNDLE = "tpseg_lesion_segmentation"
_OWN = {
    "dataset_dir": "give the data with --data",
    "datalist": "give the data with --data",
    "output_dir": "give the folder with --out",
    "checkpoint": "give the initial weights with --checkpoint",
    "encoder_checkpoint": "give a pretrained trunk with --encoder",
    "resume": "continue a training with --resume",
    "tasks": "they are those of the initial weights and of the data; --tasks A,B trains some of a datalist",
    "described": "it is the description of the initial weights",
    "options": "these are options of the network, each of which has its own name",
    "bundle_root": "it is the place of the bundle",
    "modalities": "give the modality of a new task with --modality TASK=MODALITY",
    "run": "tpseg train runs the steps of the bundle",
    "initialize": "tpseg train runs the steps of the bundle",
    "finalize": "tpseg train runs the steps of the bundle",
}
"""Options of train.json that a training sets itself, with what sets them."""

_START, _MODEL, _DONE = "start.pt", "model.pt", "trained"


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes:
        weights: the file, with its description beside it.
        pictures: number of held-out pictures.
        before: mean Dice of the initial weights per task, and `mean`, on the held-out part; empty from scratch.
        after: mean Dice of the new weights per task, and `mean`.
        untrained: tasks of the weights without data: their own rows are unchanged, shared parameters are not.
        licence: licence of the initial weights, or "".
    """

    weights: Path
    pictures: int
    before: dict[str, float]
    after: dict[str, float]
    untrained: tuple[str, ...]
    licence: str = ""


def bundle_config(name: str) -> Path:
    """Return a config of the TP-Seg bundle: in a wheel below `monai_tpseg/bundles`, in a checkout beside the package.

    Raises:
        TrainingError: it is in neither.
    """
    package = Path(str(files("monai_tpseg")))
    for folder in (package / "bundles", package.parent / "bundles"):
        path = folder / _BUNDLE / "configs" / f"{name}.json"
        if path.is_file():
            return path
    raise TrainingError(f"No bundle beside '{package}'; install monai-tpseg again.")


def train(request: TrainOptions, out: Path, resume: bool = False) -> Trained:
    """Train on one's own data.

    Args:
        request: data, start, length.
        out: folder of the training; it holds `model.pt`, the lists, the two evaluations and what a training writes.
        resume: go on with what is there; what is done is not done again.

    Raises:
        TrainingError: what was asked for cannot be done; one line.
        ValueError: a picture, a datalist or weights that cannot be used; one line.
    """
    device = choose_device(request.device)
    start = None if request.starts_from_scratch else choose_weights(request.checkpoint)
    encoder = read_encoder_info(request.encoder) if request.encoder else None
    known = None if start is None else read_info(start, verify=True)
    check_options(request.options)
    _check_start(request.options, start, known)
    with recorded_request(request, out, resume):
        lists = write_lists(request, out, {} if known is None else known.modalities)
    logger.info("Data: %d pictures train, %d are held out.", len(lists.training), len(lists.validation))
    info, before = _start(request, encoder, start, known, lists, device, out)
    plan = make_plan(request, lists, info, device, out)
    if not (out / _DONE).is_file():
        _announce(plan, info, device)
        _run(bundle_config("train"), out, output_dir=out, resume="auto", **plan.options, **_from(request, start, out))
        write_atomically(out / _DONE, b"")
    after = _evaluated(out / _MODEL, out, "after", device)
    untrained = tuple(task for task in info.tasks if task not in lists.tasks)
    licence = "" if known is None else str(known.card.get("licence", ""))
    return Trained(out / _MODEL, len(lists.validation), before, after, untrained, licence)


def check_options(options: Mapping[str, Any]) -> None:
    """Check names and values of options of the bundle's training, before anything is written.

    Raises:
        TrainingError: an option that train.json does not have, one that a training sets itself, or a value that is not
            allowed.
    """
    config = read_json(bundle_config("train"))
    choices = _choices(config)
    for name, value in options.items():
        if name.partition("::")[0] not in config:
            close = nearest(name, config)
            hint = f"did you mean {close}? " if close else ""
            raise TrainingError(f"Unknown option {name!r} of --set: {hint}docs/bundle.md lists them under train.json.")
        if name in _OWN:
            raise TrainingError(f"{name} cannot be changed with --set; {_OWN[name]}.")
        if name in choices and not is_expression(value) and value not in choices[name]:
            there = choose(value, (one for one in choices[name] if one is not None))
            raise TrainingError(f"Unknown {name} {value!r}; {there}.")
    try:
        check_values(options)
        check_components([config], options)
    except ValueError as error:
        raise TrainingError(f"{error}") from error


def _choices(config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The closed choices that the checks of a config list, by name of the setting."""
    checks = [step.get("choices", {}) for step in config["run"] if isinstance(step, dict)]
    listed = {name: allowed for check in checks for name, (_, allowed) in check.items() if isinstance(allowed, list)}
    return {**listed, "recipe": [*config["recipes"]], "architecture": ["tpseg", *PEERS]}


def _check_start(options: Mapping[str, Any], start: Path | None, known: WeightsInfo | None) -> None:
    """Check the initial weights, and what is asked of the network that they hold.

    Raises:
        TrainingError: another network than TP-Seg, or an option by which the weights would not fit.
    """
    if start is None or known is None:
        return
    if known.method != "TP-Seg":
        raise TrainingError(
            f"'{start}' holds {known.method}; tpseg train needs TP-Seg weights, see tpseg weights list."
        )
    for name, value in options.items():
        held = known.network.get(name, value)
        if value != held and not is_expression(value):
            raise TrainingError(f"'{start}' holds weights of {name} {held!r}, not {value!r}; leave that option out.")


def _start(
    request: TrainOptions,
    encoder: EncoderInfo | None,
    start: Path | None,
    known: WeightsInfo | None,
    lists: Lists,
    device: torch.device,
    out: Path,
) -> tuple[WeightsInfo, dict[str, float]]:
    """The description of what is trained, and how good it is before."""
    if start is None or known is None:
        size = (request.image_size, request.image_size)
        beyond = {task: lists.modalities[task] for task in lists.tasks if task in lists.modalities}
        return WeightsInfo(lists.tasks, network_to_train(encoder), size, modalities=beyond), {}
    if not (out / _START).is_file():
        write_start(start, lists.training, {**known.modalities, **lists.modalities}, device, request.seed, out / _START)
    before = _evaluated(out / _START, out, "before", device)
    logger.info("Before: mean Dice %.1f on the held-out part.", before["mean"])
    return read_info(out / _START, verify=True), before


def _announce(plan: Plan, info: WeightsInfo, device: torch.device) -> None:
    size = " x ".join(map(str, info.image_size))
    batch = plan.options["batch_size"]
    where = f"{device}, {count(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else f"{device}"
    line = "Training: %s of %s at %s pixels on %s, about %s. --resume continues it if stopped."
    steps, pictures = count(plan.steps, "step"), count(batch, "picture")
    minutes = count(max(1, round(plan.minutes)), "minute")
    logger.info(line, steps, pictures, size, where, minutes)


def _from(request: TrainOptions, start: Path | None, out: Path) -> dict[str, Any]:
    if request.encoder:
        return {"encoder_checkpoint": str(Path(request.encoder).absolute())}
    return {} if start is None else {"checkpoint": str(out / _START)}


def _evaluated(weights: Path, out: Path, name: str, device: torch.device) -> dict[str, float]:
    """Dice a task in percent over the held-out part, by the bundle's evaluation, unless it is there."""
    path = out / name / "metrics.json"
    if not path.is_file():
        options = {"output_dir": out / name, "checkpoint": str(weights), "device": str(device), "num_workers": 0}
        options["progress"] = False
        _run(bundle_config("evaluate"), out, **options)
    tasks = dict.fromkeys(read_record(path), dict)
    metrics: Mapping[str, Mapping[str, float]] = read_record(path, {**tasks, "mean": dict})
    return {task: 100 * row["dice"] for task, row in metrics.items() if row.get("n", 1)}


def _run(config: Path, out: Path, **options: Any) -> None:
    """Run a config of the bundle in this process."""
    given = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    with _one_line(), _calm():
        workflow = ConfigWorkflow(
            str(config), logging_file=False, dataset_dir=str(out), datalist=str(out / DATALIST), **given
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()


_CHATTY = (
    "monai.bundle.workflows",  # writes to standard output that no file of logging is used
    *(
        f"monai_tpseg.{name}"
        for name in ("bundle.config", "bundle.preflight", "handlers.gates", "handlers.lesion_metrics")
    ),
)


@contextmanager
def _calm() -> Iterator[None]:
    """Epochs and the time that is left are told; tables of every validation lie in the folder."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR if one.name.startswith("monai.") else logging.WARNING)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


@contextmanager
def _one_line() -> Iterator[None]:
    """The bundle's checks end a program, and MONAI wraps what a component raises; here both are errors like others."""
    try:
        yield
    except SystemExit as end:
        raise TrainingError(str(end.code).removeprefix("Error: ")) from end
    except RuntimeError as error:
        if not str(error).startswith(("Failed to instantiate", "Failed to evaluate")):
            raise
        what = error_of_component(error)
        raise TrainingError(f"The training cannot be built ({what}); is an option of --set wrong?") from error

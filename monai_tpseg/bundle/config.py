"""Functions for bundle configs: location of the bundle, its weights, loading them, and running an engine."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from monai.engines import Trainer

from monai_tpseg.bundle.case_loader import CaseLoader, Sources
from monai_tpseg.bundle.command_line import error_line, flag, one_line, stop
from monai_tpseg.bundle.inference_inputs import SourceLost, data_root, inference_cases
from monai_tpseg.bundle.network import described, described_options
from monai_tpseg.bundle.trust import trust_digests, trust_inferer
from monai_tpseg.bundle.workflow import find_bundle_root
from monai_tpseg.cores import crowded, fit_threads
from monai_tpseg.data.datalists import DatalistError
from monai_tpseg.files import FULL, threads_in_one_line
from monai_tpseg.handlers.divergence import DivergenceError
from monai_tpseg.inferers.task_inferer import image_size_2d
from monai_tpseg.io import find_read_error
from monai_tpseg.networks import TPSeg
from monai_tpseg.networks.build import hiera_of
from monai_tpseg.networks.checkpoint import CheckpointError, load_weights
from monai_tpseg.networks.compiled import compile_parts
from monai_tpseg.networks.fast.inference_form import choose_precision
from monai_tpseg.networks.sam2_trunk import load_sam2_trunk
from monai_tpseg.networks.tpseg import unwrap
from monai_tpseg.subprocesses import NoProcessError
from monai_tpseg.weights import CatalogueError, weights_path
from monai_tpseg.words import choose, count

__all__ = [
    "CaseLoader",
    "Sources",
    "amp_of_device",
    "bundle_weights",
    "data_root",
    "described",
    "described_options",
    "find_bundle_root",
    "flag",
    "from_recipe",
    "image_size_2d",
    "inference_cases",
    "load_start",
    "prepare_network",
    "run_engine",
    "start_loader",
    "trust_digests",
    "trust_inferer",
]

logger = logging.getLogger(__name__)

_EXPECTED = (CheckpointError, DatalistError, DivergenceError, NoProcessError, SourceLost)
_LOST = re.compile(r"(closed|reset) by peer|Broken pipe|Timed out waiting|NCCL|Watchdog", re.I)
"""Messages of gloo and NCCL about a process that has ended."""


def prepare_network(
    network: Any,
    device: Any,
    checkpoint_activations: bool | str = False,
    channels_last: bool | str = False,
    compile: bool | str = False,
) -> Any:
    """Return `network` on `device`, ready to train.

    Args:
        network: any of `build_network`.
        device: to move it to.
        checkpoint_activations: keep less for the backward pass, see `TPSeg.checkpoint_activations`.
        channels_last: store convolution kernels channels last, as the trunk's maps are.
        compile: let `torch.compile` make code of its parts when they first run, of a network other than TP-Seg as a
            whole; names of parameters and classes stay.

    Raises:
        ValueError: checkpointing asked of a network that has no such choice, or neither true nor false.
    """
    if flag(checkpoint_activations, "checkpoint_activations"):
        if not isinstance(network, TPSeg):
            raise ValueError(
                f"checkpoint_activations=true is only for TP-Seg, not {type(network).__name__}; leave it out."
            )
        network.checkpoint_activations()
    network = network.to(device)
    if flag(channels_last, "channels_last"):
        network = network.to(memory_format=torch.channels_last)
    if flag(compile, "compile"):
        if torch.device(device).type == "cpu":
            logger.warning("compile=true on a CPU takes minutes and makes the steps slower; it is for GPUs.")
        if isinstance(network, TPSeg):
            network.compile_parts()
        else:
            compile_parts([network])
    return network


def bundle_weights(bundle_root: str, network: str) -> str:
    """Return the weights that a bundle runs where none are named.

    Those in its folder `models`, `model.pt` or `model.safetensors`; else the starter weights of the catalogue. Where
    those are not there either it is the path of the first, and the preflight of `run` says that nothing lies there.

    Args:
        bundle_root: folder of the bundle.
        network: "tpseg" or "kprism".
    """
    own = [Path(bundle_root) / "models" / name for name in ("model.pt", "model.safetensors")]
    for path in own:
        if path.is_file():
            return str(path)
    try:
        return str(weights_path(None, network))
    except CatalogueError as error:
        logger.info("%s", error)
        return str(own[0])


def from_recipe(recipes: Mapping[str, Mapping[str, Any]], recipe: str, key: str) -> Any:
    """Return `key` of a named recipe.

    Raises:
        ValueError: no such recipe.
    """
    if recipe not in recipes:
        raise ValueError(f"Unknown recipe {recipe!r}; {choose(recipe, recipes)}.")
    return recipes[recipe][key]


def amp_of_device(amp: str, device: str | torch.device) -> str:
    """Return `amp`; "auto" becomes "none", "bf16" or "fp16", what the device is fastest at, see `choose_precision`.

    Args:
        amp: "none", "bf16", "fp16" or "auto"; anything else is for the checks that follow.
        device: device of the computation.
    """
    if amp != "auto":
        return amp
    chosen = choose_precision(amp, torch.device(device))
    return "none" if chosen == "fp32" else chosen


@one_line
def load_start(network: Any, encoder_checkpoint: str | None, checkpoint: str | None, backbone: str) -> None:
    """Fill a network before training: SAM 2's trunk, or all weights. A resumed run brings its own.

    Args:
        network: TP-Seg or K-Prism, bare or wrapped for parallel training.
        encoder_checkpoint: official SAM 2 file, that of `tpseg pretrain`, or None.
        checkpoint: `model.pt`, or None.
        backbone: name of the trunk's variant.
    """
    net = unwrap(network)
    hiera = hiera_of(net)
    if encoder_checkpoint and hiera is not None:
        load_sam2_trunk(hiera.trunk, encoder_checkpoint, backbone)
    if checkpoint:
        load_weights(net, checkpoint)
        logger.info("Started from %s", Path(checkpoint).name)


def start_loader(
    network: Any, encoder_checkpoint: str | None, checkpoint: str | None, backbone: str
) -> Callable[[], None] | None:
    """Return what loads the weights of a training's start, see `load_start`; None where it starts from none."""
    if not encoder_checkpoint and not checkpoint:
        return None
    return partial(load_start, network, encoder_checkpoint, checkpoint, backbone)


def run_engine(engine: Any, sources: Sources | None = None) -> None:
    """Run a trainer or evaluator.

    A file that cannot be read, weights that do not fit, a training that diverges, a full disc, or a lost process of a
    parallel training end it with one line. PyTorch computes with no more threads than there are cores for it.

    Args:
        engine: to run.
        sources: sources of an inference; unreadable ones are named at the end, after all others have results.
    """
    computing = fit_threads()
    if not torch.cuda.is_available() and (hint := crowded(computing)):
        logger.warning("%s", hint)
    try:
        with threads_in_one_line():  # of TensorBoard
            engine.run()
    except Exception as error:
        expected = find_read_error(error) or _find(error, _EXPECTED)
        expected = expected or _no_writing(error, isinstance(engine, Trainer))
        if expected is None and (lost := _lost_process(error)) is not None:
            _leave(lost)
        if expected is None:
            raise
        stop(expected)
    if sources is not None and sources.lost:
        stop(ValueError(f"No result for {count(len(sources.lost), 'case')}, e.g.: {sources.lost[0]}"))


def _no_writing(error: BaseException, training: bool) -> OSError | None:
    found = _find(error, (OSError,))
    if not isinstance(found, OSError) or found.errno not in (*FULL, errno.EROFS):
        return None
    where = f" '{found.filename}'" if found.filename else ""
    way = "Free some space" if found.errno in FULL else "Make the folder writable"
    then = "training then continues from the last complete epoch with --resume true" if training else "then run again"
    return OSError(f"Cannot write{where}: {found.strerror}. {way}; {then}.")


def _lost_process(error: BaseException) -> RuntimeError | None:
    found = _find(error, (RuntimeError,))
    if found is None or not (dist.is_available() and dist.is_initialized() and _LOST.search(str(found))):
        return None
    return RuntimeError(
        f"Process {dist.get_rank()} of {dist.get_world_size()} lost another process, whose output gives the "
        "reason; continue from the last complete epoch with --resume true."
    )


def _leave(error: RuntimeError) -> NoReturn:
    """End this process with one line and status 1, without the destructors of the lost group: gloo's may abort."""
    sys.stderr.write(error_line(error) + "\n")
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _find(error: BaseException, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, kinds):
        seen = seen.__cause__ or seen.__context__
    return seen

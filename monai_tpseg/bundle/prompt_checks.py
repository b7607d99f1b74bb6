"""Prompts of an inference, and their checks before anything is built."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from monai_tpseg.bundle.command_line import flag, one_line
from monai_tpseg.bundle.inference_inputs import inference_cases
from monai_tpseg.catalogue import TASK_NAMES, resolve_task
from monai_tpseg.data import ExemplarPool, read_datalist
from monai_tpseg.data.prompts import clicks_of, read_clicks, read_exemplars
from monai_tpseg.keys import CLICKS, IMAGE
from monai_tpseg.networks.kprism import BACKBONES
from monai_tpseg.words import choose

__all__ = ["check_exemplars", "check_prompt", "check_recipe", "exemplar_cases", "prompted_cases"]


def prompted_cases(
    dataset_dir: str,
    datalist: str | None,
    task: str | int | None,
    tasks: Sequence[str] = TASK_NAMES,
    clicks: str | None = None,
) -> list[dict[str, Any]]:
    """Return `inference_cases`, each with its clicks where a file of clicks is named.

    Raises:
        DatalistError, ReadError: something named is not there, or a picture has no clicks.
    """
    cases = inference_cases(dataset_dir, datalist, task, tasks)
    if not clicks:
        return cases
    said = read_clicks(clicks)
    return [{**case, CLICKS: clicks_of(said, case[IMAGE])} for case in cases]


def exemplar_cases(exemplars: str | None, task: str | int | None, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Return the cases of a file of exemplars; none where no file is named.

    Raises:
        ValueError: no task is named.
        DatalistError: see `read_exemplars`.
    """
    if not exemplars:
        return []
    if task is None or task == "":
        raise ValueError(f"Exemplars need --task, which determines how pixels become input: one of {', '.join(tasks)}.")
    return read_exemplars(exemplars, tasks[resolve_task(task, tasks)])


@one_line
def check_prompt(
    dataset_dir: str,
    datalist: str | None,
    task: str | int | None,
    tasks: Sequence[str],
    use_class: bool | str,
    exemplars: str | None,
    clicks: str | None,
) -> None:
    """Check the prompt of an inference; arguments are the keys of `inference.json`.

    Raises:
        SystemExit: with one line that names the value and the way out.
    """
    for key, path in (("exemplars", exemplars), ("clicks", clicks)):
        if path is not None and not isinstance(path, str | os.PathLike):
            raise ValueError(f"{key} must be the path of a JSON file, got {path!r}.")
    if not flag(use_class, "use_class") and not exemplars and not clicks:
        raise ValueError("use_class=false needs another prompt: give --exemplars or --clicks.")
    exemplar_cases(exemplars, task, tasks)
    cases = prompted_cases(dataset_dir, datalist, task, tasks, clicks)
    if clicks and "" in read_clicks(clicks) and len(cases) > 1:
        raise ValueError(f"'{clicks}' holds one list of clicks for {len(cases)} inputs; name the picture of each list.")


@one_line
def check_recipe(
    backbone: str,
    freeze_encoder: bool | str,
    encoder_checkpoint: str | None,
    rounds: int,
    exemplars: int,
    shares: Sequence[float],
) -> None:
    """Check what only K-Prism's training has; arguments are keys of `train.json`.

    Raises:
        SystemExit: with one line that names the value and the way out.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"Unknown backbone {backbone!r}; {choose(backbone, BACKBONES)}.")
    utnet = backbone.startswith("utnet")
    for key, given in (("encoder_checkpoint", encoder_checkpoint), ("freeze_encoder", flag(freeze_encoder))):
        if utnet and given:
            raise ValueError(f"{key} is only for SAM 2's trunks, not for backbone '{backbone}'; leave it out.")
    for key, number in (("rounds", rounds), ("exemplars", exemplars)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{key} must be a whole number of at least 1, got {number!r}.")
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        given = ", ".join(f"{share:g}" for share in shares)
        raise ValueError(f"semantic_share, in_context_share and interactive_share must add up to 1, got {given}.")


@one_line
def check_exemplars(
    datalist: str, dataset_dir: str, tasks: Sequence[str], exemplars: int, section: str = "training"
) -> None:
    """Check that every case of a list has enough other pictures of its task under "training".

    Args:
        datalist, dataset_dir, tasks: keys of the config.
        exemplars: K; 0 checks nothing.
        section: list of the cases.

    Raises:
        SystemExit: with one line that names the case.
    """
    if isinstance(exemplars, bool) or not isinstance(exemplars, int) or exemplars < 0:
        raise ValueError(f"exemplars must be a whole number of at least 1, got {exemplars!r}.")
    if not exemplars:
        return
    pool = ExemplarPool(read_datalist(datalist, "training", dataset_dir, tasks), exemplars)
    for case in read_datalist(datalist, section, dataset_dir, tasks):
        pool.candidates(case)

"""From what a training wrote to what the catalogue takes: half precision on disc, and a card in the description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from monai_tpseg.files import complete, file_sha256
from monai_tpseg.networks.checkpoint import load_strictly, read_checkpoint
from monai_tpseg.networks.described import new_described
from monai_tpseg.networks.weights_info import WeightsInfo, read_info
from monai_tpseg.parsing import read_json
from monai_tpseg.trust.fitted_files import FittedFiles
from monai_tpseg.weights.card import CatalogueError, check_weights_name

__all__ = ["half_precision_state", "pack", "read_sources", "write_card"]

_LOSS = 1e-3  # of a tensor's norm; rounding to 11 bits of mantissa changes it by some 3e-4


def half_precision_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in half precision, but for what half precision cannot hold.

    A floating tensor that rounding would change by more than a thousandth of its norm stays as it is: very large and
    very small numbers. Integers stay.
    """
    return {name: _half(value.detach().cpu()).contiguous() for name, value in state.items()}


def _half(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.to(torch.float16)
    lost = torch.linalg.vector_norm(half.double() - value.double())
    return half if bool(lost <= _LOSS * torch.linalg.vector_norm(value.double())) else value


def pack(weights: Path, folder: Path, name: str, card: Mapping[str, Any], replace_old: bool = False) -> WeightsInfo:
    """Write `name.safetensors` in half precision and `name.json` with a card into a folder of the catalogue.

    What `tpseg calibrate` has fitted beside the weights goes with them.

    Args:
        weights: weights of a training, with their description beside them.
        folder: made when needed.
        name: name of the weights in the catalogue.
        card: status, licence, intended use, date, sources; what is not given stays away.
        replace_old: write over weights of that name.

    Returns:
        the description that was written.

    Raises:
        CheckpointError: the weights are missing, damaged, or do not fit their description, or what was fitted does not
            belong to them.
        CatalogueError: a name that is none, weights without prototypes or with numbers that are not finite.
        FileExistsError: there are weights of that name.
    """
    check_weights_name(name)
    file = folder / f"{name}.safetensors"
    for path in (file, file.with_suffix(".json")):
        if path.exists() and not replace_old:
            raise FileExistsError(f"'{path}' exists; choose another --name, or add --replace.")
    info = read_info(weights, verify=True)
    beside = FittedFiles.of(weights, info.sha256)
    state = read_checkpoint(weights)
    load_strictly(new_described(info), state, str(weights))
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise CatalogueError(f"'{weights}' contains non-finite numbers (first in {bad[0]}); train again.")
    written = _write(file, half_precision_state(state), info, {"name": name, **card})
    beside.write(file, written.sha256)
    return written


def _write(file: Path, state: dict[str, Tensor], info: WeightsInfo, card: dict[str, Any]) -> WeightsInfo:
    description = file.with_suffix(".json")
    with complete(description) as text, complete(file) as part:  # two renames in a row, once both are whole
        save_file(state, part, metadata={"format": "pt"})
        written = replace(info, sha256=file_sha256(part), card={**card, "size": part.stat().st_size})
        text.write_text(_json(written), encoding="utf-8")
    return written


def write_card(weights: Path, changes: Mapping[str, Any]) -> WeightsInfo:
    """Change fields of the card beside a weights file; None takes one away.

    Args:
        weights: the file, which stays as it is.
        changes: fields of the card.

    Raises:
        CheckpointError: the weights are missing, damaged or altered.
    """
    info = read_info(weights, verify=True)
    card = {key: value for key, value in {**info.card, **changes}.items() if value is not None}
    written = replace(info, card=card)
    with complete(weights.with_suffix(".json")) as text:
        text.write_text(_json(written), encoding="utf-8")
    return written


def read_sources(path: Path) -> Sequence[Mapping[str, Any]]:
    """Read the sources of a training's data: a JSON list of `name`, `tasks`, `pictures`, `terms`, `link`.

    Raises:
        CatalogueError: it is no such list.
    """
    try:
        sources = read_json(path)
    except (OSError, ValueError) as error:
        raise CatalogueError(f"'{path}' cannot be read as JSON ({error}); give a list of sources.") from error
    if not isinstance(sources, list) or not all(isinstance(s, dict) and set(s) >= _NEEDED for s in sources):
        raise CatalogueError(f"'{path}' is not a list of objects with {', '.join(sorted(_NEEDED))}; correct it.")
    return sources


_NEEDED = {"name", "tasks", "pictures", "terms"}


def _json(info: WeightsInfo) -> str:
    return json.dumps(asdict(info), indent=2) + "\n"

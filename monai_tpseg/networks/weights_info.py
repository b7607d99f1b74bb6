"""The description stored beside every weights file: `model.json` beside `model.pt`.

It holds what a flat state dict cannot: the names of the tasks in row order, the network's dimensions, the image size
and the preprocessing. Every command reads it, so that weights always run as the network they were trained as.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_tpseg.files import complete, file_sha256
from monai_tpseg.networks.checkpoint import CheckpointError, write_checkpoint
from monai_tpseg.parsing import read_json

__all__ = ["FORMAT", "WeightsInfo", "info_path", "read_info", "save_weights"]

FORMAT = 1
"""Version of the description; it grows when older programs would misread a new one."""


@dataclass(frozen=True)
class WeightsInfo:
    """Description of trained weights.

    Attributes:
        tasks: task names in row order.
        network: arguments of `build_network`: architecture, backbone, layout, parts and widths.
        image_size: (H, W) of the network's input in training, pixels.
        window: "none" (the whole picture at `image_size`) or "sliding" (patches of that size).
        preprocessing: sha256 over the seven modality files, see `transforms.pipelines.pipelines_hash`.
        mpp: micrometres per pixel of the network's input, if the training pictures had one; the resolution at which
            whole slides are read.
        sha256: digest of the weights file; empty until it is written.
        training: recipe, data and result, for the reader.
        modalities: modality of every task beyond `monai_tpseg.catalogue`, by name.
        card: for weights in the catalogue: status, licence, sources, Dice, see `monai_tpseg.weights.Card`.
        format: version of the description.
    """

    tasks: tuple[str, ...]
    network: dict[str, Any]
    image_size: tuple[int, int]
    window: str = "none"
    preprocessing: str = ""
    sha256: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    mpp: float | None = None
    modalities: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def method(self) -> str:
        """Name of the network, as recorded in its result files."""
        architecture = str(self.network.get("architecture", "tpseg"))
        return {"tpseg": "TP-Seg", "kprism": "K-Prism"}.get(architecture, architecture)

    @property
    def title(self) -> str:
        """Name of the weights in every result: name and status, e.g. `starter-tpseg, research preview`.

        Empty for weights outside the catalogue, whose file names may contain private notes.
        """
        return ", ".join(str(self.card[key]) for key in ("name", "status") if self.card.get(key))

    def derived(self, **changes: Any) -> WeightsInfo:
        """Return the description of weights derived from these: without the card, but with their origin.

        Args:
            **changes: of attributes.
        """
        origin = {key: self.card[key] for key in ("name", "licence") if key in self.card} | {"sha256": self.sha256}
        training = {**changes.pop("training", self.training), "derived_from": origin}
        return replace(self, **{**changes, "training": training, "card": {}, "sha256": ""})


def info_path(weights: str | os.PathLike[str]) -> Path:
    """Return the path of a weights file's description: the same name with `.json`."""
    return Path(weights).with_suffix(".json")


def read_info(weights: str | os.PathLike[str], verify: bool = False) -> WeightsInfo:
    """Read the description of a weights file.

    Args:
        weights: path of the weights.
        verify: also verify the file's sha256.

    Raises:
        CheckpointError: either file is missing or damaged, or the digest differs; one line.
    """
    if not Path(weights).is_file():
        raise CheckpointError(f"No weights file at '{weights}'; train first, or give the path with --checkpoint.")
    path = info_path(weights)
    if path == Path(weights):
        raise CheckpointError(f"'{weights}' holds no weights; give the .pt or .safetensors file written by training.")
    if not path.is_file():
        raise CheckpointError(
            f"'{weights}' has no description: expected '{path.name}' beside it (training writes both)."
        )
    try:
        content = read_json(path)
        if int(content.get("format", 1)) > FORMAT:
            raise CheckpointError(
                f"'{path}' was written by a newer version (format {content['format']}, this one reads up to {FORMAT}); "
                "update monai-tpseg, or give weights of this version."
            )
        for key in ("network", "training", "card"):
            if not isinstance(content.get(key, {}), dict):
                raise ValueError(f"'{key}' is no object")
        lists = {key: tuple(content[key]) for key in ("tasks", "image_size")}
        info = WeightsInfo(**{**content, **lists, "modalities": {**content.get("modalities", {})}})
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"'{path}' is not the description of a weights file ({error}); train again.") from error
    if verify and file_sha256(weights) != info.sha256:
        raise CheckpointError(f"'{weights}' is damaged or not the file that '{path.name}' describes: SHA-256 differs.")
    return info


def save_weights(path: str | os.PathLike[str], state: Mapping[str, Tensor], info: WeightsInfo) -> WeightsInfo:
    """Write a flat state dict and its description, each atomically through a temporary name.

    Returns:
        `info` with the digest of the written file.
    """
    with complete(info_path(path)) as text, complete(path) as part:  # two renames in a row, once both are whole
        write_checkpoint({name: value.detach().cpu().contiguous() for name, value in state.items()}, part)
        written = replace(info, sha256=file_sha256(part))
        text.write_text(json.dumps(asdict(written), indent=2) + "\n", encoding="utf-8")
    return written

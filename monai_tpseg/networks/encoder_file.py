"""The file of a trunk alone, as written by `tpseg pretrain`, with SAM 2's own names and an accompanying description."""

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
from monai_tpseg.networks.sam2_trunk import SAM2_FILES, TRUNK_PREFIX
from monai_tpseg.networks.weights_info import info_path
from monai_tpseg.parsing import ParseError, read_json

__all__ = ["EncoderInfo", "read_encoder_info", "save_encoder"]


@dataclass(frozen=True)
class EncoderInfo:
    """Description of a trained trunk.

    Attributes:
        backbone: a key of `HIERA_VARIANTS`.
        stem: its patch embedding, "patch" or "conv".
        image_size: (H, W) of its input in training, pixels; () if unknown.
        preprocessing: sha256 of the modality files, see `transforms.pipelines.pipelines_hash`.
        training: how, for the reader.
        sha256: digest of the file; empty until it is written.
        encoder: marks such a description.
    """

    backbone: str
    stem: str = "patch"
    image_size: tuple[int, ...] = ()
    preprocessing: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    encoder: int = 1


def save_encoder(path: str | os.PathLike[str], trunk: Mapping[str, Tensor], info: EncoderInfo) -> EncoderInfo:
    """Write a trunk's state dict as `load_sam2_trunk` reads it, and its description; return that with its digest."""
    state = {f"{TRUNK_PREFIX}{name}": value.detach().cpu().contiguous() for name, value in trunk.items()}
    with complete(info_path(path)) as text, complete(path) as part:
        write_checkpoint({"model": state}, part)
        written = replace(info, sha256=file_sha256(part))
        text.write_text(json.dumps(asdict(written), indent=2) + "\n", encoding="utf-8")
    return written


def read_encoder_info(path: str | os.PathLike[str]) -> EncoderInfo:
    """Return the description of a trunk; for SAM 2's own files, derive it from the file name.

    Raises:
        CheckpointError: the file is missing, unidentified or altered; one line.
    """
    file, beside = Path(path), info_path(path)
    if not file.is_file():
        raise CheckpointError(f"No encoder at '{file}'; give the encoder.pt of tpseg pretrain, or a file of SAM 2.")
    for backbone, names in SAM2_FILES.items():
        if file.name in names and not beside.is_file():
            return EncoderInfo(backbone)
    if not beside.is_file() or beside == file:
        raise CheckpointError(
            f"'{file}' does not say which trunk it holds: keep '{beside.name}' beside it, which tpseg pretrain wrote, "
            f"or the name that SAM 2's file came with, e.g. {SAM2_FILES['hiera_large'][0]}."
        )
    try:
        content = read_json(beside)
        if not content.get("encoder"):
            raise CheckpointError(f"'{file}' is a whole network; start from it with --checkpoint.")
        info = EncoderInfo(**{**content, "image_size": tuple(content["image_size"])})
    except CheckpointError:
        raise
    except (ParseError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"'{beside}' is not the description of an encoder ({error}); pretrain again.") from error
    if file_sha256(file) != info.sha256:
        raise CheckpointError(f"'{file}' is damaged or not the file that '{beside.name}' describes: SHA-256 differs.")
    return info

"""Data between page and server: slices as PNG, run-length encoded masks, and states."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.annotate.session import Session
from monai_tpseg.annotate.session.masks import Change
from monai_tpseg.annotate.session.session_error import SessionError

__all__ = ["decode_base64", "decode_png", "encode_png", "opened", "patches", "runs", "status"]

_PNG = b"\x89PNG\r\n\x1a\n"


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture (H, W, 3) as PNG, with one channel if all three are equal."""
    grey = bool((picture == picture[..., :1]).all())
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if grey else picture).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def decode_base64(text: str, what: str) -> bytes:
    """Decode bytes that were sent as base64.

    Args:
        text: base64.
        what: its name in errors.

    Raises:
        SessionError: the text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SessionError(f"{what} arrived damaged; send it again.") from None


def decode_png(text: str, what: str) -> bytes:
    """Decode a PNG that was sent as base64.

    Args:
        text: base64.
        what: its name in errors.

    Raises:
        SessionError: the text is not a PNG in base64.
    """
    data = decode_base64(text, what)
    if not data.startswith(_PNG):
        raise SessionError(f"{what} is not a PNG; save it as PNG first.")
    return data


def runs(mask: NDArray[np.uint8]) -> list[int]:
    """Return the run lengths of 0, 1, 0, ..., row by row; the first one may be 0."""
    flat = mask.ravel()
    if not flat.size:
        return []
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths: list[int] = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def patches(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Return the changes, each with `index`, `box` (None without changed pixels) and `runs` within the box."""
    return [{"index": c.index, "box": c.box, "runs": runs(c.mask)} for c in changes]


def opened(session: Session, number: int, name: str) -> dict[str, Any]:
    """Return the constant data of an open case.

    Args:
        session: session of the case.
        number: number of the case in the list.
        name: name of the case.
    """
    spacing, (low, high) = session.spacing, session.value_range
    return {
        "case": number,
        "name": name,
        "shape": session.shape,
        "spacing": spacing,
        "range": [low, high],
        "sides": session.sides,
        "plane": session.plane,
        "reformats": [one._asdict() for one in session.reformats],
        "modality": session.recorded_modality,
    }


def status(session: Session, revision: int) -> dict[str, Any]:
    """Return the state of a session, without its masks.

    Args:
        session: the open session.
        revision: number of requests with changes since the server started.
    """
    states, window = session.states(), session.window_default
    named = session.named_modality
    worked = [index for index, state in enumerate(states) if state != "empty"]
    return {
        "revision": revision,
        "tasks": session.tasks,
        "task": session.task,
        "task_fits": session.task_fits,
        "use_class": session.use_class,
        "modality": named.display_name if named else "",
        "window": window,
        "presets": _presets(session),
        "states": states,
        "knows_trust": session.knows_trust,
        "trust": {index: said for index in worked if (said := session.trust(index))},
        "clicks": {index: clicks for index in worked if (clicks := session.clicks(index))},
        "exemplars": session.exemplars,
        "names": session.names,
        "empty": session.is_empty,
        "done": session.done,
        "can_undo": session.can_undo,
        "can_redo": session.can_redo,
    }


def _presets(session: Session) -> list[dict[str, Any]]:
    low, high = session.value_range
    named = {"default": session.window_default, **session.windows}
    if high > low:
        named["all values"] = low, high
    return [{"name": name, "low": window[0], "high": window[1]} for name, window in named.items()]

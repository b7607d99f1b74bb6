"""The one place that downloads weights of the catalogue, and only when it is asked to."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from monai_tpseg.files import complete, file_sha256
from monai_tpseg.weights.card import SCHEMES, CatalogueError
from monai_tpseg.weights.lookup import Entry

__all__ = ["fetch"]

_SECONDS = 60  # without a byte
_BLOCK = 1 << 20


def fetch(entry: Entry) -> Path:
    """Download the file of weights whose description names a URL, unless it is there; its sha256 must be right.

    Args:
        entry: entry of the catalogue.

    Returns:
        the file, beside its description.

    Raises:
        CatalogueError: the description names no URL of http or https, the server does not give the file, or the
            digest differs; nothing is left then.
        OSError: the folder cannot be written, or there is no room.
    """
    if entry.file is not None:
        entry.check()
        return entry.file
    url = entry.card.url
    if urlparse(url).scheme not in SCHEMES:
        raise CatalogueError(f"Weights '{entry.card.name}' have no download address; copy the file there.")
    suffix = Path(urlparse(url).path).suffix
    target = entry.folder.path / f"{entry.card.name}{suffix if suffix in ('.pt', '.pth') else '.safetensors'}"
    with complete(target) as part:
        with part.open("wb") as file:
            file.writelines(_blocks(url))
        if (found := file_sha256(part)) != entry.card.sha256:
            raise CatalogueError(f"'{url}' has sha256 {found} instead of {entry.card.sha256}; it was discarded.")
    return target


def _blocks(url: str) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            while block := answer.read(_BLOCK):
                yield block
    except OSError as error:  # URLError, a time-out
        raise CatalogueError(f"'{url}' cannot be fetched ({error}).") from error

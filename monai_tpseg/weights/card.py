"""The record of a weights file: what it is, what it was trained on, and how good it was there.

It is the key `card` of the description that lies beside every weights file. Reading it needs the standard library
alone, so that a list of weights is there at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_tpseg.parsing import read_json

__all__ = ["SCHEMES", "Card", "CatalogueError", "check_weights_name", "read_card"]

SCHEMES = ("http", "https")
"""Schemes of the URLs that weights are fetched from."""


class CatalogueError(ValueError):
    """Weights that are not there, or a description that is none; the message is one line."""


def check_weights_name(name: str) -> str:
    """Return the name of weights in the catalogue, checked to be the stem of a file.

    Raises:
        CatalogueError: it is not.

    >>> check_weights_name("liver-2026")
    'liver-2026'
    """
    if Path(name).name != name or not name or name.startswith("."):
        raise CatalogueError(
            f"{name!r} is not a valid name for weights; use letters, digits, - and _, e.g. liver-2026."
        )
    return name


@dataclass(frozen=True)
class Card:
    """Description of a weights file in the catalogue.

    Attributes:
        name: name of the weights in the catalogue: the stem of both files.
        network: "tpseg", "kprism" or another architecture of `build_network`.
        sha256: of the file.
        tasks: names in row order.
        image_size: (H, W) of the network's input in training, pixels.
        status: in a word or two, e.g. "research preview"; every result repeats it.
        licence: licence of the weights.
        intended_use: in a sentence.
        date: end of the training, YYYY-MM-DD.
        sources: sources of the training data: dictionaries with `name`, `tasks`, `pictures`, `terms` and `link`.
        dice: mean Dice a task in percent on the validation list at the size of the label, and `mean`; of K-Prism a
            dictionary of these for each way of asking.
        validation: data and method of the measurement of `dice`.
        measures: other figures of the same validation, by name, e.g. clicks that were obeyed, percent.
        url: URL of the file, or "".
        size: bytes of the file, 0 where the description does not say.
    """

    name: str
    network: str
    sha256: str
    tasks: tuple[str, ...]
    image_size: tuple[int, ...]
    status: str = ""
    licence: str = ""
    intended_use: str = ""
    date: str = ""
    sources: tuple[Mapping[str, Any], ...] = ()
    dice: Mapping[str, Any] | None = None
    validation: str = ""
    measures: Mapping[str, float] | None = None
    url: str = ""
    size: int = 0


def read_card(path: Path) -> Card:
    """Read the description of a weights file as a card.

    Args:
        path: path of the `.json`; unpacked weights have no card in it, and most fields are empty.

    Raises:
        CatalogueError: it is no description of weights.
    """
    try:
        content = read_json(path)
        more = content.get("card") or {}
        return Card(
            name=path.stem,
            network=str(content["network"].get("architecture", "tpseg")),
            sha256=str(content["sha256"]),
            tasks=tuple(content["tasks"]),
            image_size=tuple(content["image_size"]),
            sources=tuple(more.get("sources", ())),
            dice=more.get("dice"),
            measures=more.get("measures"),
            size=int(more.get("size", 0)),
            **{key: str(more.get(key, "")) for key in _TEXTS},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CatalogueError(f"'{path}' is not the description of a weights file ({reason}); remove it.") from error


_TEXTS = ("status", "licence", "intended_use", "date", "validation", "url")

"""The catalogue of weights: what is installed, what a site added, and which of them runs where none is named."""

from __future__ import annotations

from monai_tpseg.weights.card import Card, CatalogueError, read_card
from monai_tpseg.weights.lookup import (
    DEFAULTS,
    Entry,
    Folder,
    announcement,
    check_own,
    choose_weights,
    find,
    folders,
    listed,
    user_folder,
    weights_path,
)

__all__ = [
    "DEFAULTS",
    "Card",
    "CatalogueError",
    "Entry",
    "Folder",
    "announcement",
    "check_own",
    "choose_weights",
    "find",
    "folders",
    "listed",
    "read_card",
    "user_folder",
    "weights_path",
]

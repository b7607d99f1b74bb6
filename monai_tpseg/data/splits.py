"""Splits that keep together what belongs together, and that are the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from monai_tpseg.words import count

__all__ = ["deal_folds", "draw_validation", "group_by_keys"]


def group_by_keys(keys: Sequence[Iterable[str]]) -> list[list[int]]:
    """Return the numbers of the cases, together where they share a key, directly or through others.

    Args:
        keys: keys of each case, e.g. its patient and the hash of its pixels; a case without keys is a group of its own.
    """
    owner: dict[str, int] = {}
    parent = list(range(len(keys)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    for number, of_case in enumerate(keys):
        for key in of_case:
            parent[root(number)] = root(owner.setdefault(key, number))
    groups: dict[int, list[int]] = {}
    for number in range(len(keys)):
        groups.setdefault(root(number), []).append(number)
    return list(groups.values())


def draw_validation(groups: Sequence[Sequence[int]], names: Sequence[str], target: int, seed: int) -> set[int]:
    """Return the numbers of cases for validation: whole groups in a drawn order, each that still fits into `target`.

    Args:
        groups: from `group_by_keys`.
        names: names of all cases; the result depends on names and seed only, not on their order.
        target: cases wanted; there are fewer where no group fits into the rest.
        seed: random seed.
    """
    drawn: set[int] = set()
    for members in _shuffled(groups, names, seed):
        if len(drawn) + len(members) <= target:
            drawn.update(members)
    return drawn


def deal_folds(groups: Sequence[Sequence[int]], names: Sequence[str], folds: int, seed: int) -> list[int]:
    """Return the fold of every case, 1 to `folds`: large groups first, each into the smallest fold so far.

    Args:
        groups: from `group_by_keys`.
        names: names of all cases, see `draw_validation`.
        folds: 2 or more, at most the number of groups.
        seed: random seed.

    Raises:
        ValueError: there are fewer groups than folds, or fewer than two folds.
    """
    if not 2 <= folds <= len(groups):
        raise ValueError(f"folds must be from 2 to the {count(len(groups), 'group')} of pictures, got {folds}.")
    sizes, fold_of = [0] * folds, [0] * len(names)
    for members in sorted(_shuffled(groups, names, seed), key=len, reverse=True):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += len(members)
        for number in members:
            fold_of[number] = smallest + 1
    return fold_of


def _shuffled(groups: Sequence[Sequence[int]], names: Sequence[str], seed: int) -> list[Sequence[int]]:
    def order(members: Sequence[int]) -> bytes:
        first = min(names[number] for number in members)
        return hashlib.sha256(f"{seed}/{first}".encode()).digest()

    return sorted(groups, key=order)

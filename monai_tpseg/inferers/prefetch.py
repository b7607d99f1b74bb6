"""Preparation of the next item in a thread, while the network runs on the current one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["prefetch"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def prefetch(items: Sequence[_Item], prepare: Callable[[_Item], _Made]) -> Iterator[tuple[_Item, _Made]]:
    """Yield each item with the result of `prepare`; meanwhile the next item, and no more, is prepared.

    Args:
        items: a single one is prepared here.
        prepare: runs in a separate thread, without gradients.
    """
    if len(items) == 1:
        yield items[0], prepare(items[0])
        return
    if not items:
        return
    with ThreadPoolExecutor(1, "tpseg-prefetch", torch.set_grad_enabled, (False,)) as thread:
        following = thread.submit(prepare, items[0])
        for n, item in enumerate(items):
            made = following.result()
            if n + 1 < len(items):
                following = thread.submit(prepare, items[n + 1])
            yield item, made

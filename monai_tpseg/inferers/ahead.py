"""The next piece of work is made ready in a thread, while the network runs on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["ahead"]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def ahead(items: Sequence[_Item], prepare: Callable[[_Item], _Made]) -> Iterator[tuple[_Item, _Made]]:
    """Yield each item with what `prepare` makes of it; that of the next one, and no more, is made meanwhile.

    Args:
        items: a single one is prepared here.
        prepare: runs in a thread of its own, without gradients.
    """
    if len(items) == 1:
        yield items[0], prepare(items[0])
        return
    if not items:
        return
    with ThreadPoolExecutor(1, "tpseg-ahead", torch.set_grad_enabled, (False,)) as thread:
        following = thread.submit(prepare, items[0])
        for n, item in enumerate(items):
            made = following.result()
            if n + 1 < len(items):
                following = thread.submit(prepare, items[n + 1])
            yield item, made

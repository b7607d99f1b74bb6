"""The loop of a node: a disc that is full or refuses costs time, nothing else."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monai_tpseg.pacs import node as module
from monai_tpseg.pacs.node import Node
from monai_tpseg.pacs.queue import Queue
from monai_tpseg.pacs.receiver import Address, Receiver
from monai_tpseg.pacs.store import Store
from monai_tpseg.results.codes import StudyError


def test_the_work_waits_longer_each_time_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "mask.nii.gz"))
    refused, end = OSError(errno.EROFS, "Read-only file system"), StudyError("The device is lost.")
    outcomes = iter([full, full, None, refused, end])
    waited: list[float] = []

    def step(_node: Node) -> None:
        if (outcome := next(outcomes)) is not None:
            raise outcome

    queue = Queue(tmp_path / "queue.sqlite", 0.0)
    store = Store(tmp_path, queue, 10**9)
    receiver = Receiver(Address("TPSEG", "127.0.0.1", 0, ("A",)), queue, store)
    segmenting: Any = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr(Node, "process_next", step)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waited.append))
    with caplog.at_level(logging.ERROR, module.__name__), pytest.raises(StudyError, match="The device is lost"):
        Node(receiver, segmenting, None, queue, store, 1.0, None).run()
    assert waited == [5.0, 10.0, 5.0]  # a step that succeeded ends the series
    assert caplog.messages == [
        f"'{full.filename}': No space left on device; the work waits, next attempt in 5 s.",
        f"'{full.filename}': No space left on device; the work waits, next attempt in 10 s.",
        "Read-only file system; the work waits, next attempt in 5 s.",
    ]
    assert not receiver.alive

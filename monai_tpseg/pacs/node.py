"""A node at work: objects come in, studies are segmented once they are complete, results go out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import pydicom

from monai_tpseg.pacs.monitor import Health, Monitor
from monai_tpseg.pacs.queue import Queue, Result, Study
from monai_tpseg.pacs.receiver import CUT_OFF, Receiver
from monai_tpseg.pacs.remote_nodes import Destination, PeerError
from monai_tpseg.pacs.segmenting import Segmenting
from monai_tpseg.pacs.store import Store
from monai_tpseg.results.codes import DeviceLostError, StudyError

__all__ = ["Node", "back_off"]

logger = logging.getLogger(__name__)

_FIRST, _LONGEST = 5.0, 600.0  # seconds until a failed step is tried again: twice as long each time
_TRIES = 3  # of a study with failed cases
_LOOK = 0.2  # seconds between two looks at an empty queue
_SWEEP = 60.0


def back_off(attempts: int) -> float:
    """Return the seconds to wait after so many failures.

    >>> [back_off(n) for n in (0, 1, 2, 20)]
    [5.0, 10.0, 20.0, 600.0]
    """
    return min(_LONGEST, _FIRST * 2.0 ** min(attempts, 20))


class Node:
    """The parts of a node, and their work.

    Args:
        receiver: takes objects in.
        segmenting: makes results.
        destination: where they go; None keeps them.
        queue: what is to be done.
        store: where everything lies.
        keep: seconds that studies and results stay after they are done.
        monitor_port: of `/health` and `/metrics`; None for none.
    """

    def __init__(
        self,
        receiver: Receiver,
        segmenting: Segmenting,
        destination: Destination | None,
        queue: Queue,
        store: Store,
        keep: float,
        monitor_port: int | None,
    ) -> None:
        self.receiver, self.segmenting, self.destination = receiver, segmenting, destination
        self.queue, self.store, self.keep = queue, store, keep
        self.monitor = None if monitor_port is None else Monitor(monitor_port, self.health)
        self._swept = 0.0

    def health(self) -> Health:
        """Return how the node is now."""
        queue = self.queue
        more = (queue.used(), self.store.quota, queue.overdue())
        return Health(self.receiver.alive, queue.states(), queue.counters(), *more)

    def run(self) -> None:
        """Work until something stops this process; whatever is left is done by the next one.

        Raises:
            StudyError: the device is lost.
            PeerError: a port cannot be opened.
        """
        self.store.clear()
        self.queue.postpone(None, self.queue.quiet * CUT_OFF)  # who was sending when this node ended
        try:
            if self.monitor is not None:
                self.monitor.open()
                logger.info("Health and metrics at http://127.0.0.1:%d/health and /metrics.", self.monitor.port)
            self.receiver.open()
            address = self.receiver.address
            logger.info("%s listens at %s:%d.", address.title, address.host, self.receiver.port)
            while True:
                self.step()
        finally:
            self.receiver.close()
            if self.monitor is not None:
                self.monitor.close()
            self.segmenting.close()
            self.queue.close()

    def step(self) -> None:
        """Do what is due, or wait a moment."""
        if time.monotonic() - self._swept > _SWEEP:
            self.store.sweep(self.keep)
            self._swept = time.monotonic()
        study = self.queue.next(self.receiver.busy())
        if study is None:
            time.sleep(_LOOK)
        elif study.state == "sending":
            self._send(study)
        else:
            self._segment(study)

    def _segment(self, study: Study) -> None:
        self.queue.begin(study.key)
        try:
            done = self.segmenting(study.key)
        except DeviceLostError:
            raise
        except StudyError as error:
            logger.error("Study %s: %s", study.key, error)
            self.queue.count("segmenting_failed")
            self.queue.failed(study.key, back_off(study.attempts))
            return
        for name, number in done.counts.items():
            self.queue.count(name, number)
        again = back_off(study.tries) if done.failed and study.tries < _TRIES - 1 else 0.0
        unsent = self.queue.segmented(study.key, done.results, done.bytes, again)
        told = (f"{name.replace('_', ' ')} {number}" for name, number in sorted(done.counts.items()))
        said = ", ".join(told) or "nothing to segment"
        logger.info("Study %s: %s; %d objects to send.", study.key, said, unsent)

    def _send(self, study: Study) -> None:
        try:
            arrived = self.destination is None or self._send_all(study.key, self.destination)
        except (PeerError, OSError) as error:
            logger.warning("Study %s: %s Its results wait.", study.key, error)
            arrived = False
        if arrived:
            self.queue.finish(study.key)
        else:
            self.queue.count("sends_failed")
            self.queue.failed(study.key, back_off(study.attempts))

    def _send_all(self, study: str, destination: Destination) -> bool:
        left: dict[Path, Result] = {}
        for result in self.queue.unsent(study):
            path = self.store.root / result.path
            header = pydicom.dcmread(path, stop_before_pixels=True) if path.is_file() else None
            if header is None or str(header.SOPInstanceUID) != result.uid:
                self.queue.drop(result.uid)
            elif result.doubtful and destination.has(header):
                self.queue.sent(result.uid)
            else:
                left[path] = result
        return self._send_files(study, left, destination) if left else True

    def _send_files(self, study: str, left: Mapping[Path, Result], destination: Destination) -> bool:
        arrived, waiting = True, list(left)
        answers = destination.send(waiting)
        for path in waiting:
            self.queue.sending(left[path].uid)  # from here on nobody knows, until the answer
            _, refused = next(answers)
            if refused:
                logger.warning("Study %s: %s.", study, refused)
                arrived = False
            else:
                self.queue.sent(left[path].uid)
        answers.close()
        return arrived

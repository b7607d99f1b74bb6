"""The net training time, to compare runs at equal time as well as at equal steps."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ignite.distributed import get_rank
from ignite.engine import Events

from monai_tpseg.files import write_atomically
from monai_tpseg.parsing import read_json

__all__ = ["RunClock"]


class RunClock:
    """Writes `clock.json`: a list of `{epoch, cpu_seconds, wall_seconds}`, summed over the epochs so far.

    Only training epochs count, without cache filling and validation. CPU seconds cover all threads of this process; on
    a shared machine they are more meaningful than wall time. Attach it before the handlers that validate. A resumed run
    adds to the time of the finished epochs.

    Args:
        output_dir: folder of the file.
    """

    def __init__(self, output_dir: str | os.PathLike[str]) -> None:
        self.path = Path(output_dir) / "clock.json"
        self.entries: list[dict[str, float]] = []
        self._started = (0.0, 0.0)

    def attach(self, engine: Any) -> None:
        """Attach to a trainer; no effect on ranks other than 0."""
        if get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._stop)

    def _start(self, engine: Any) -> None:
        if not self.entries and engine.state.epoch > 1 and self.path.is_file():
            self.entries = read_json(self.path)
        self.entries = [entry for entry in self.entries if entry["epoch"] < engine.state.epoch]
        self._started = (time.process_time(), time.monotonic())

    def _stop(self, engine: Any) -> None:
        before = self.entries[-1] if self.entries else {"cpu_seconds": 0.0, "wall_seconds": 0.0}
        cpu, wall = time.process_time() - self._started[0], time.monotonic() - self._started[1]
        entry = {"epoch": engine.state.epoch}
        entry["cpu_seconds"] = round(before["cpu_seconds"] + cpu, 2)
        entry["wall_seconds"] = round(before["wall_seconds"] + wall, 2)
        self.entries.append(entry)
        write_atomically(self.path, (json.dumps(self.entries) + "\n").encode())

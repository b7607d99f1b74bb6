"""200 studies from an Orthanc through a node and back, the node killed on the way; needs Orthanc, see docs/pacs.md.

python -m benchmarks.pacs_studies --out docs/results/pacs_studies.json
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.logs import write_log
from tests.pacs.servers import NodeProcess, Orthanc, free_port, wait_for, write_study
from tests.studies.conftest import write_weights

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def main() -> None:
    """Send the studies, kill the node, wait for the results, count them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.studies, options.kills)
    write_log(found, options.out)


def measure(folder: Path, studies: int, kills: int) -> dict[str, object]:
    """Return what came back."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or sys.exit("Orthanc is not installed")
    weights = write_weights(folder / "model.pt")
    orthanc = Orthanc(program, folder, PLUGIN, free_port(), push=True).start()
    node = NodeProcess(folder / "node", weights, orthanc.node_port, orthanc.peer, "--threshold", "0.4").start()
    try:
        uids = [write_study(folder / f"study{n}", n) for n in range(studies)]
        started = time.monotonic()
        for n in range(studies):
            orthanc.store(folder / f"study{n}")
            if kills and n % (studies // (kills + 1)) == studies // (kills + 1) - 1 and n < studies - 1:
                node.kill()
                node.start()
                for uid in uids[: n + 1]:  # Orthanc does not offer again by itself what it could not deliver
                    if not whole(orthanc, uid):
                        orthanc.push(uid)
        wait_for(lambda: sum(not whole(orthanc, uid) for uid in uids) == 0, 3600)
        seconds = time.monotonic() - started
        counters = (node.health() or {})["counters"]
        back = [orthanc.results(uid) for uid in uids]
    finally:
        node.stop()
        orthanc.stop()
    return {
        "settings": {"studies": studies, "images_each": 6, "kills": kills},
        "machine": f"2 cores, {platform.machine()}",
        "seconds": round(seconds, 1),
        "studies_with_seg_and_sr": sum(set(one) == {"SEG", "SR"} for one in back),
        "results_in_the_archive": sum(len(found) for one in back for found in one.values()),
        "counters": counters,
    }


def whole(orthanc: Orthanc, uid: str) -> bool:
    """Say whether both results of a study are there."""
    return {kind: len(found) for kind, found in orthanc.results(uid).items()} == {"SEG": 1, "SR": 1}


if __name__ == "__main__":
    main()

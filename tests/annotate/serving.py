"""A viewer that runs in a thread, and a client that sends whatever a test wants."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monai_tpseg.annotate import PromptModel
from monai_tpseg.annotate.session.sources import IN_PROCESS, IsolatedSources, LoadedSource
from monai_tpseg.annotate.web.security import AccessMiddleware
from monai_tpseg.annotate.web.serve import listen, make_server
from monai_tpseg.annotate.web.workspace import Workspace
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.studies import prepare_output
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.studies.scan import scan_images


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Viewer(NamedTuple):
    """A viewer that runs.

    Attributes:
        workspace: whose cases it shows.
        access: in front of it.
    """

    workspace: Workspace
    access: AccessMiddleware

    def ask(self, method: str, path: str, content: Any = None, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request as the page does; `headers` replace what it sends, those of "" are left out."""
        port = self.access.port
        sent = {"Host": f"127.0.0.1:{port}", "Cookie": f"tpseg_{port}={self.access.token}"}
        if method == "POST":
            body = json.dumps(content).encode() if body is None else body
            sent |= {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
            sent |= {"Content-Length": str(len(body))}
        sent |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders(body)
            found = connection.getresponse()
            pairs = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, pairs, found.read())
        finally:
            connection.close()

    def post(self, name: str, **content: Any) -> Any:
        """Ask for a change of case 0, which must be possible."""
        answer = self.ask("POST", f"/api/{name}", {"case": 0, **content})
        assert answer.status == 200, answer.text
        return answer.json

    def mask(self, index: int = 0) -> list[int]:
        """The mask of a slice of case 0 as runs."""
        runs: list[int] = self.ask("GET", f"/api/mask?case=0&index={index}").json["runs"]
        return runs


class ReadHere(IsolatedSources):
    """Reads in this process: what is tested is not what becomes of damaged sources, and a busy machine is slow to
    begin others."""

    def find(self, entry: Entry) -> CaseSource:
        return entry.source()

    def take(self, source: CaseSource) -> LoadedSource:
        return IN_PROCESS.take(source)

    def identity(self, source: CaseSource) -> str:
        return IN_PROCESS.identity(source)


@contextmanager
def serving(
    sources: Path, model: PromptModel, out: Path, task: str | None = None, here: bool = False
) -> Iterator[Viewer]:
    """Serve the cases of a folder, or one case; `here` reads them in this process."""
    cases = prepare_output(out, scan_images(sources)[0], "salted", resume=True, tasks=None)
    workspace = Workspace(cases, model, out, task, ReadHere() if here else None)
    with listen(0) as made:
        server, access = make_server(workspace, made.getsockname()[1])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [made]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Viewer(workspace, access)
        finally:
            server.should_exit = True
            thread.join()
            workspace.close()


def decoded(runs: Sequence[int], shape: Sequence[int]) -> Any:
    """Runs as a mask, one pixel after the other."""
    values = [n % 2 for n, length in enumerate(runs) for _ in range(length)]
    return np.array(values, np.uint8).reshape(shape)

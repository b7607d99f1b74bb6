"""The access control of the viewer: each kind of stranger is turned away with the right status and one line."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from monai_tpseg.annotate.web.security import HEADERS, AccessMiddleware

PORT = 8123
HOME = "http://127.0.0.1:8123"


class Answer(NamedTuple):
    """What came back; `passed` says whether the application was reached, `read` how often it asked for a body."""

    status: int
    headers: dict[str, str]
    line: str
    passed: bool


def knock(
    access: AccessMiddleware | None = None,
    method: str = "GET",
    path: str = "/api/state",
    query: str = "",
    cookie: str | None = None,
    drop: tuple[str, ...] = (),
    twice: tuple[str, ...] = (),
    **headers: str,
) -> Answer:
    """Send one request; by default one that passes."""
    access = access or AccessMiddleware(None, PORT, {"/api/large": 2**20})
    passed: list[bool] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(True)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b"inside"})

    async def receive() -> Any:
        raise AssertionError("a body was read")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    known = {
        "host": f"127.0.0.1:{PORT}",
        "cookie": f"a={{x}}; tpseg_{PORT}={access.token}" if cookie is None else cookie,
    }
    if method == "POST":
        known |= {"origin": HOME, "content-length": "10", "content-type": "application/json"}
    known |= {name.replace("_", "-"): value for name, value in headers.items()}
    pairs = [(n.encode(), v.encode("latin-1")) for n, v in known.items() if n not in drop]
    pairs += [pair for pair in pairs if pair[0].decode() in twice]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": pairs}
    access.app = app
    asyncio.run(access(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, sent[1]["body"].decode(), bool(passed))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_page_itself_passes(method: str, host: str) -> None:
    more = {"origin": f"http://{host}:{PORT}"} if method == "POST" else {"sec_fetch_site": "same-origin"}
    answer = knock(method=method, host=f"{host}:{PORT}", **more)
    assert (answer.status, answer.passed) == (200, True)
    assert HEADERS.items() <= answer.headers.items()  # the application cannot weaken them


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"host": "evil.example:8123"}, 421, "127.0.0.1:8123 only"),
        ({"host": "127.0.0.1:8124"}, 421, "127.0.0.1:8123 only"),
        ({"host": "127.0.0.1"}, 421, "127.0.0.1:8123 only"),
        ({"host": "127.0.0.1:8123.evil.example"}, 421, "127.0.0.1:8123 only"),
        ({"drop": ("host",)}, 421, "127.0.0.1:8123 only"),
        ({"twice": ("host",)}, 421, "127.0.0.1:8123 only"),
        ({"origin": "http://evil.example"}, 403, "own page"),
        ({"origin": "http://127.0.0.1:9999"}, 403, "own page"),
        ({"origin": "null", "method": "POST"}, 403, "own page"),
        ({"drop": ("origin",), "method": "POST"}, 403, "own page"),
        ({"origin": "https://127.0.0.1:8123", "method": "POST"}, 403, "own page"),
        ({"method": "DELETE"}, 403, "own page"),
        ({"sec_fetch_site": "cross-site"}, 403, "address bar"),
        ({"sec_fetch_site": "same-site"}, 403, "address bar"),  # another port of this machine
        ({"cookie": ""}, 403, "token is missing or wrong"),
        ({"cookie": "tpseg_8123=wrong"}, 403, "token is missing or wrong"),
        ({"cookie": "tpseg_8123=\xff\xfe"}, 403, "token is missing or wrong"),
        ({"query": "token=wrong", "path": "/"}, 403, "token is missing or wrong"),
        ({"query": "token=", "path": "/"}, 403, "token is missing or wrong"),
        ({"query": "token=%ff%00", "path": "/"}, 403, "token is missing or wrong"),
        ({"method": "POST", "content_length": "65537"}, 413, "at most 64 KiB"),
        ({"method": "POST", "content_length": "9" * 5000}, 413, "at most 64 KiB"),
        ({"method": "POST", "path": "/api/large", "content_length": str(2**20 + 1)}, 413, "at most 1 MiB"),
        ({"method": "POST", "content_length": "-1"}, 411, "size"),
        ({"method": "POST", "content_length": "\xb2"}, 411, "size"),
        ({"method": "POST", "twice": ("content-length",)}, 411, "size"),
        ({"method": "POST", "drop": ("content-length",), "transfer_encoding": "chunked"}, 411, "size"),
        ({"method": "POST", "content_type": "text/plain"}, 415, "application/json"),
        ({"method": "POST", "drop": ("content-type",)}, 415, "application/json"),
    ],
)
def test_strangers_do_not(request_: dict[str, Any], status: int, words: str) -> None:
    answer = knock(**request_)
    assert (answer.status, answer.passed) == (status, False)
    assert words in answer.line
    assert "\n" not in answer.line
    assert HEADERS.items() <= answer.headers.items()
    assert answer.headers["content-length"] == str(len(answer.line.encode()))


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address() -> None:
    access = AccessMiddleware(None, PORT)
    assert access.address == f"{HOME}/?token={access.token}"
    answer = knock(access, path="/", query=f"token={access.token}", cookie="")
    assert (answer.status, answer.headers["location"], answer.passed) == (303, "/", False)
    cookie, *options = answer.headers["set-cookie"].split("; ")
    assert cookie == f"tpseg_{PORT}={access.token}"
    assert {*options} == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert knock(access, path="/", cookie=cookie).passed
    assert knock(access, path="/api/state", query=f"token={access.token}", cookie="").status == 403  # one way in
    assert knock(AccessMiddleware(None, PORT), cookie=cookie).status == 403  # each server has a token of its own


def test_the_address_for_a_browser_opens_once() -> None:
    access = AccessMiddleware(None, PORT)
    key = access.address_once().partition("token=")[2]
    assert key != access.token
    assert knock(access, path="/", query=f"token={key}", cookie="").status == 303
    assert knock(access, path="/", query=f"token={key}", cookie="").status == 403
    assert knock(access, cookie=f"tpseg_{PORT}={key}").status == 403  # never a cookie
    assert knock(access, path="/", query=f"token={access.token}", cookie="").status == 303


def test_tokens_are_long_and_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({AccessMiddleware(None, PORT).token for _ in range(8)}) == 8
    assert len(AccessMiddleware(None, PORT).token) >= 43  # 256 bits
    compared: list[int] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append(len(a))
        return a == b

    monkeypatch.setattr("monai_tpseg.annotate.web.security.secrets.compare_digest", compare)
    assert knock(cookie=f"tpseg_{PORT}=wrong").status == 403
    assert compared == [5]


def test_sockets_are_closed_and_the_lifespan_goes_through() -> None:
    sent: list[Any] = []
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append(message)

    access = AccessMiddleware(app, PORT)
    asyncio.run(access({"type": "websocket", "headers": []}, None, send))
    asyncio.run(access({"type": "lifespan"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert reached == ["lifespan"]

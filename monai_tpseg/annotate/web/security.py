"""Access control of the viewer: requests from this machine, with the token, from the page itself; one-line refusals."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

__all__ = ["HEADERS", "AccessMiddleware", "Refusal"]

Scope = Mapping[str, Any]

HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "cache-control": "no-store",  # no pixels of patients in the disk cache
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Sent with every answer: nothing of another place is loaded, nothing is kept, no other page may look inside."""

_BODY = 2**16  # maximum bytes of a request: a long stroke has about ten thousand
_TOKEN = "token"  # parameter of the query


class Refusal(NamedTuple):
    """Refusal of a request.

    Attributes:
        status: HTTP status.
        line: message for the user, one line.
        headers: additional headers.
    """

    status: int
    line: str
    headers: tuple[tuple[str, str], ...] = ()


class AccessMiddleware:
    """ASGI middleware in front of the viewer.

    A request is accepted if its host is 127.0.0.1 or localhost with our port (which excludes DNS rebinding), it comes
    from our page or the address bar, is within the size limit, and contains the token. The token is sent in the address
    once, and as a cookie afterwards.

    Args:
        app: ASGI app of the viewer.
        port: port of the server.
        limits: path -> maximum bytes of the body, if not 64 KiB.

    Attributes:
        token: 256 random bits, as text.
    """

    def __init__(self, app: Any, port: int, limits: Mapping[str, int] | None = None) -> None:
        self.app, self.port, self.limits = app, port, dict(limits or {})
        self.token = secrets.token_urlsafe(32)
        self._once: set[str] = set()
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._cookie = f"tpseg_{port}"  # a host shares cookies among its ports

    @property
    def address(self) -> str:
        """The address of the viewer, with the token."""
        return self._address(self.token)

    def address_once(self) -> str:
        """Return a one-time address, since other users of the machine can see the arguments of a browser's process."""
        key = secrets.token_urlsafe(32)
        self._once.add(key)
        return self._address(key)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Forward a request, or refuse it before its body is read."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self.judge(scope)
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        else:
            await _refuse(refusal, send)

    def judge(self, scope: Scope) -> Refusal | None:
        """Return the refusal of a request (or, with status 303, its redirection), or None if it is accepted."""
        headers = _Headers(scope)
        if headers.only("host") not in self._hosts:
            return Refusal(421, f"This server answers to 127.0.0.1:{self.port} only; open the address it printed.")
        return self._foreign(scope, headers) or self._stranger(scope, headers) or self._body(scope, headers)

    def _foreign(self, scope: Scope, headers: _Headers) -> Refusal | None:
        """Refuse a request from another page."""
        reads = scope["method"] in ("GET", "HEAD")
        origin = headers.only("origin")
        if (origin is not None or not reads) and origin not in [f"http://{host}" for host in self._hosts]:
            return Refusal(403, "Only the viewer's own page may ask this; open the address that it printed.")
        if headers.only("sec-fetch-site") not in (None, "none", "same-origin"):
            return Refusal(403, "Another page led here; paste the address into the address bar instead.")
        return None

    def _stranger(self, scope: Scope, headers: _Headers) -> Refusal | None:
        """Refuse a request without the token; redirect one with the token in its address."""
        if scope["path"] == "/" and scope["query_string"]:
            given = parse_qs(scope["query_string"].decode("latin-1")).get(_TOKEN, [""])[0]
            if self._known(given):
                cookie = f"{self._cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                return Refusal(303, "", (("location", "/"), ("set-cookie", cookie)))
        elif _equal(headers.cookie(self._cookie), self.token):
            return None
        return Refusal(403, "The token is missing or wrong; open the address that tpseg annotate printed.")

    def _known(self, given: str) -> bool:
        for key in self._once:
            if _equal(given, key):
                self._once.remove(key)
                return True
        return _equal(given, self.token)

    def _body(self, scope: Scope, headers: _Headers) -> Refusal | None:
        """Refuse a body that is too large, of unknown size, or not JSON."""
        if scope["method"] in ("GET", "HEAD"):
            return None
        length, limit = headers.only("content-length"), self.limits.get(scope["path"], _BODY)
        if length is None or not (length.isascii() and length.isdigit()):
            return Refusal(411, "The size of the request is missing.")
        if len(length) > 18 or int(length) > limit:
            return Refusal(413, f"The request is too large: at most {_size(limit)} here.")
        if (headers.only("content-type") or "").partition(";")[0].strip().lower() != "application/json":
            return Refusal(415, "The request must be application/json.")
        return None

    def _address(self, key: str) -> str:
        return f"http://127.0.0.1:{self.port}/?{_TOKEN}={key}"


class _Headers:
    """The headers of a request."""

    def __init__(self, scope: Scope) -> None:
        self._pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def only(self, name: str) -> str | None:
        """Return the value of a header, None if it is missing, "" if it is repeated."""
        values = [value for key, value in self._pairs if key == name]
        return None if not values else values[0] if len(values) == 1 else ""

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, or "", ignoring the cookies of other servers of this machine."""
        every = ";".join(value for key, value in self._pairs if key == "cookie").split(";")
        return next((value for key, _, value in (one.strip().partition("=") for one in every) if key == name), "")


def _equal(given: str, key: str) -> bool:
    """Compare in constant time."""
    return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), key.encode())


def _size(limit: int) -> str:
    return f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"


def _with_headers(send: Any) -> Any:
    """Return `send` wrapped to add `HEADERS` to each response."""

    async def sending(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [pair for pair in message.get("headers", ()) if pair[0].decode("latin-1").lower() not in HEADERS]
            message = {**message, "headers": [*own, *_encoded(HEADERS.items())]}
        await send(message)

    return sending


async def _refuse(refusal: Refusal, send: Any) -> None:
    body = refusal.line.encode()
    about = (("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))))
    headers = _encoded((*refusal.headers, *about))
    sending = _with_headers(send)
    await sending({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await sending({"type": "http.response.body", "body": body})


def _encoded(pairs: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]

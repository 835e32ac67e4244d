"""What every request passes: the right host and origin, a token, a body of bounded size that comes in time.

A page that some other site has open in the same browser can send requests to this machine. It cannot read the token,
and its Origin and, by DNS rebinding, its Host are its own; so all three are compared.
"""

import asyncio
import json
import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = 1 << 20
"""The most bytes that a body may have."""
SECONDS = 10.0
"""How long a body may take to come."""

HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)  # fmt: skip
"""Of every response: nothing from elsewhere runs in the page, and the page stands in no other."""


class Guard:
    """ASGI middleware that refuses what does not come from the page, or from whoever has the token.

    Args:
        app: what is guarded.
        token: which requests to ``/api`` bear.
        hosts: the names, without ports, under which the server may be addressed.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str]) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(_name_of(f"//{_bracketed(host)}") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with what is wrong."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        refusal = self._refusal(scope)
        body = b""
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            try:
                body = await asyncio.wait_for(_body(receive), SECONDS)
            except TimeoutError:
                refusal = (408, f"The body did not come within {SECONDS:.0f} seconds.")
            except ValueError:
                refusal = (413, f"The body has more than {BODY:,} bytes.")
            except ConnectionError:
                return
        if refusal is not None:
            await _refuse(guarded, *refusal)
            return
        sent = False

        async def replayed() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self._app(scope, replayed, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if _name_of(f"//{headers.get('host', '')}") not in self._hosts:
            return 421, "This server is not known by that Host; name it with --allow-host."
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return 403, "The request comes from another site."
        if not scope["path"].startswith("/api/"):
            return None if scope["method"] in ("GET", "HEAD") else (405, "The page is only read.")
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), self._token.encode()):
            return 401, "The token is missing or wrong; open the address that `roselora ui` printed."
        if (
            scope["method"] == "POST"
            and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json"
        ):
            return 415, "The body must be application/json."
        return None


def _bracketed(host: str) -> str:
    """A host's name, or an address of IPv6, as a URL has it."""
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


async def _body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ValueError: it is too large.
        ConnectionError: the client has gone.
    """
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        found += message.get("body", b"")
        if len(found) > BODY:
            raise ValueError
        if not message.get("more_body", False):
            return bytes(found)


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

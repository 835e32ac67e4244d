"""``roselora ui``: the local web page on which facts are edited, checked and taken back."""

import ipaddress
import secrets
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roselora.cli.console import tell, working
from roselora.cli.device_options import DeviceOption, DtypeOption
from roselora.cli.path_options import PATH
from roselora.cli.stores import DEFAULT_STORE, ForceOption, StoreOption
from roselora.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from roselora.editing.editor import Editor

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")
"""Addresses to listen at that are none to call."""
TOKEN_LENGTH = 16


def ui(
    model: Annotated[str, typer.Argument(help="demo, a folder, a .gguf file or a hub id.")],
    store: StoreOption = DEFAULT_STORE,
    exports: Annotated[Path, typer.Option(**PATH, help="The folder that exports are written into.")] = Path("exports"),
    host: Annotated[
        str, typer.Option(help="The address to listen at; another than this machine's own needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 0,
    token: Annotated[
        str | None,
        typer.Option(envvar="ROSELORA_UI_TOKEN", help="What requests must bear, at least 16 characters; else random."),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name under which browsers reach this server.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    force: ForceOption = False,
) -> None:
    """Serve a page to edit facts of a model, see what moved, and take any edit back.

    The address that it prints holds a token, without which nothing is answered. Ctrl-C ends it; an edit that is not
    finished is not kept.

    Example: roselora ui demo
    """
    try:
        import uvicorn

        from roselora.ui.app import create_app
    except ImportError as error:
        raise UnsupportedError(f"The page needs {error.name}: pip install 'roselora[ui]'.") from None
    from roselora.editing.store.store_folder import require_place
    from roselora.ui.command_lines import Invocation
    from roselora.ui.session import Session

    if not _is_loopback(host) and token is None:
        raise ConfigError(f"At {host} others can reach the page; set a token with --token or ROSELORA_UI_TOKEN.")
    if token is not None and (len(token) < TOKEN_LENGTH or not token.isascii() or not token.isalnum()):
        raise ConfigError(f"The token needs at least {TOKEN_LENGTH} letters and digits.")
    token = token or secrets.token_urlsafe(24)
    require_place(store)
    # The port is taken before the model is loaded, which takes long.
    listening = _listen(host, port)
    try:
        given = [f"--{name}={value}" for name, value in (("device", device), ("dtype", dtype)) if value != "auto"]
        called = Invocation(model, str(store), exports, (*given, *(["--force"] if force else [])))
        session = Session(_open(model, store, device, dtype, force), called)
        hosts = [*(LOOPBACK if host in EVERYWHERE or _is_loopback(host) else ()), host, *(allow_host or ())]
        name = "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}/#token={token}"
        config = uvicorn.Config(
            create_app(session, token, hosts),
            log_level="warning",
            server_header=False,
            limit_concurrency=64,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
            ws="none",
        )
        tell(address)
        with _opened(address) if open_ else nullcontext(), suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@contextmanager
def _opened(address: str) -> Iterator[None]:
    """Open the page in the browser, without its token among the browser's arguments, which other users may read."""
    with tempfile.TemporaryDirectory() as folder:  # which only this user can read
        page = Path(folder, "open.html")
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">')
        # A browser in the terminal would not come back before it is closed.
        threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        yield


def _open(model: str, store: Path, device: str, dtype: str, force: bool) -> "Editor":
    from roselora.editing.editor import Editor

    with working(f"loading {model}"):
        return Editor.open(model, store=store, device=device, dtype=dtype, force=force)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address cannot be taken.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(kind, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()
        return found
    except OSError as error:
        raise ConfigError(f"{host}:{port} cannot be listened at ({error.strerror or error}).") from None

"""The JSON API over a session, and the page, as an ASGI application."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from roselora.errors import RoseLoraError, StoreError
from roselora.ui.audit_report import report, report_as_html
from roselora.ui.guard import Guard
from roselora.ui.jobs import TooManyJobsError
from roselora.ui.openapi import openapi
from roselora.ui.session import ACTIONS, Session

PAGE = Path(__file__).with_name("page")
OUTLINE = ("id", "action", "command", "state", "stage", "step", "steps", "can_be_cancelled", "seconds_left", "error")
"""What the list of jobs has of each."""
WAITING = 64
"""How many requests may wait for a job."""
LONGEST_WAIT = 20.0
"""How many seconds a request for a job may wait for the job."""


def create_app(session: Session, token: str, hosts: Sequence[str]) -> Starlette:
    """The application.

    Args:
        session: what it shows and changes; closed with the application.
        token: see `guard.Guard`.
        hosts: see `guard.Guard`.
    """

    waits = CapacityLimiter(WAITING)

    async def state(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(session.state))

    async def details(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(session.details, request.path_params["id"]))

    async def jobs(_: Request) -> Response:
        return JSONResponse([{name: getattr(job, name) for name in OUTLINE} for job in session.jobs.all()])

    async def job(request: Request) -> Response:
        given = request.query_params.get("wait", "0")
        if not re.fullmatch(r"\d{1,2}(\.\d{1,6})?", given, re.ASCII) or float(given) > LONGEST_WAIT:
            return JSONResponse({"error": f"wait is a number of seconds up to {LONGEST_WAIT:.0f}."}, 400)
        # Those that wait have threads of their own, so that they are in nobody's way.
        wait = partial(session.jobs.wait, request.path_params["id"], float(given))
        found = await to_thread.run_sync(wait, limiter=waits)
        return JSONResponse(asdict(found)) if found else JSONResponse({"error": "There is no such job."}, 404)

    async def cancel(request: Request) -> Response:
        found = session.jobs.cancel(request.path_params["id"])
        return JSONResponse(asdict(found)) if found else JSONResponse({"error": "There is no such job."}, 404)

    async def act(request: Request) -> Response:
        name = request.path_params["action"]
        if name not in ACTIONS:
            return JSONResponse({"error": "There is no such action."}, 404)
        body = ACTIONS[name].body.model_validate_json(await request.body() or b"{}")
        return JSONResponse(asdict(session.start(name, body)), 202)

    async def audit(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(report, session))

    async def audit_page(_: Request) -> Response:
        return HTMLResponse(report_as_html(await run_in_threadpool(report, session)))

    async def described(_: Request) -> Response:
        return JSONResponse(openapi())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(session.jobs.close)

    handlers: dict[Any, Any] = {
        ValidationError: _invalid,
        TooManyJobsError: lambda _, error: JSONResponse({"error": str(error)}, 429),
        StoreError: lambda _, error: JSONResponse({"error": str(error)}, 404),
        RoseLoraError: lambda _, error: JSONResponse({"error": str(error)}, 400),
    }
    routes = [
        Route("/api/state", state),
        Route("/api/openapi.json", described),
        Route("/api/edits/{id}", details),
        Route("/api/jobs", jobs),
        Route("/api/jobs/{id}", job),
        Route("/api/jobs/{id}/cancel", cancel, methods=["POST"]),
        Route("/api/report.json", audit),
        Route("/api/report.html", audit_page),
        Route("/api/{action}", act, methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    guard = Middleware(Guard, token=token, hosts=hosts)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=lifespan)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    first = json.loads(error.json(include_url=False, include_input=False))[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return JSONResponse({"error": f"{where}: {first['msg']}."}, 422)

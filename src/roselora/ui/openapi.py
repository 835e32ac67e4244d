"""The API's own description, in OpenAPI 3.1."""

from importlib import metadata
from typing import Any

from roselora.ui.session import ACTIONS

_JSON = "application/json"
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def openapi() -> dict[str, Any]:
    """The description of every path below ``/api``."""
    paths: dict[str, Any] = {
        "/api/state": {"get": _reads("The model, the edits and their history.")},
        "/api/edits/{id}": {"get": _reads("An edit: provenance, and what it changes weight by weight.", [_ID])},
        "/api/jobs": {"get": _reads("The jobs that are remembered, without their results.")},
        "/api/jobs/{id}": {
            "get": _reads(
                "A job, once it is finished or the seconds of wait have passed.",
                [_ID, {"name": "wait", "in": "query", "schema": {"type": "number", "maximum": 20}}],
            )
        },
        "/api/jobs/{id}/cancel": {
            "post": _reads("Cancel a job: at once while it waits, else at its next step.", [_ID])
        },
        "/api/report.json": {"get": _reads("The audit report: edits, hashes, versions, history.")},
        "/api/report.html": {"get": _reads("The audit report as a page.")},
    }
    schemas: dict[str, Any] = {}
    for name, action in ACTIONS.items():
        schema = action.body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        paths[f"/api/{name}"] = {
            "post": {
                "summary": action.does,
                "requestBody": {"required": True, "content": {_JSON: {"schema": schema}}},
                "responses": {
                    "202": {"description": "The job that does it."},
                    "400": {"description": "The fact is invalid; `error` says why."},
                    "422": {"description": "The body is not as described; `error` says where."},
                    "429": {"description": "Too many jobs wait."},
                },
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "roselora ui", "version": metadata.version("roselora")},
        "security": [{"token": []}],
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _reads(does: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"summary": does, "parameters": parameters or [], "responses": {"200": {"description": "It."}}}

"""Heads and records of the editing benchmark as earlier versions wrote them, in today's words."""

from typing import Any

RENAMED = {"rose-neurons": "gate"}
"""Methods by the names that they once had."""


def head_of_today(head: Any) -> Any:
    """A head's JSON value with the names and fields of today; what is no head is left to the reader to refuse."""
    if not isinstance(head, dict):
        return head
    by_method = ("methods", "requests_per_call", "entries", "capability")
    known = {name: _renamed_keys(head[name]) for name in by_method if name in head}
    parts = head.get("parts")
    if isinstance(parts, list):
        known["parts"] = [_part(part) for part in parts]
    return {"skip": 0, "failures": [], **head, **known}


def record_of_today(record: Any) -> Any:
    """Likewise a record's."""
    if not isinstance(record, dict) or "method" not in record:
        return record
    return {**record, "method": _renamed(record["method"])}


def _part(part: Any) -> Any:
    if not isinstance(part, dict) or not isinstance(part.get("methods"), list):
        return part
    return {**part, "methods": [_renamed(name) for name in part["methods"]]}


def _renamed_keys(by_method: Any) -> Any:
    if not isinstance(by_method, dict):
        return by_method
    return {_renamed(name): value for name, value in by_method.items()}


def _renamed(name: Any) -> Any:
    return RENAMED.get(name, name) if isinstance(name, str) else name

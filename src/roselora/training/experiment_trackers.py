"""Where a run can be reported to besides its own log."""

from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from roselora.errors import ConfigError
from roselora.user_files import shown


def require_tracker(name: str) -> None:
    """See that transformers knows the tracker, and that it is installed.

    Raises:
        ConfigError: it does not, or is not.
    """
    if name in ("none", "all"):
        return
    if name not in INTEGRATION_TO_CALLBACK:
        raise ConfigError(
            f"report_to knows no {shown(name)}; it may be none, all, {', '.join(INTEGRATION_TO_CALLBACK)}."
        )
    if name not in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
        raise ConfigError(f"report_to names {name}, which is not installed: pip install {name}, or leave it at none.")

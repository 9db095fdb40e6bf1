"""The environment in which Prefect and MLflow keep to themselves: no telemetry, no stored values.

To be called before either is imported, because both read their settings at import time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

QUIET: Final = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    # Logs and results stay in this process: an exception's text may hold a patient's value.
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_TASKS_DEFAULT_PERSIST_RESULT": "false",
    # Neither blocks, nor the history of events, nor their triggers are used.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
}


def quieten(research: Path) -> None:
    """Set `QUIET`, and put whatever Prefect stores below `research/prefect`.

    A Prefect profile, API address or key of the user's own is not looked at: the flow talks to
    the server that fhirloom starts on loopback, and to no other. A proxy is not asked for loopback.
    """
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    home = research / "prefect"
    os.environ.update(QUIET, PREFECT_HOME=str(home), PREFECT_PROFILES_PATH=str(home / "none.toml"))
    os.environ["MPLCONFIGDIR"] = str(research / ".matplotlib")
    for name in ("NO_PROXY", "no_proxy"):
        direct = {*os.environ.get(name, "").split(","), "127.0.0.1", "localhost"}
        os.environ[name] = ",".join(sorted(direct - {""}))

"""Logs as lines of JSON, as Google Cloud and others read them, with the sub-app and the route that they are about."""

import json
import logging
import time
from typing import Any

from opal_registry.engines.caller import caller


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    ``severity`` and ``time`` are what Google Cloud's logging looks for; ``application`` and ``route`` say for whom it happened,
    and a slow query brings ``milliseconds``, ``bind``, ``statement`` and ``plan``.

    Example:
        >>> record = logging.LogRecord("opal_registry", logging.WARNING, "x.py", 1, "%s is slow", ("it",), None)
        >>> json.loads(JsonFormatter().format(record))["message"]
        'it is slow'
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception's traceback is in ``exception``."""
        who = caller.get()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": f"{moment}.{int(record.msecs):03}Z",
            "logger": record.name,
            "message": record.getMessage(),
            "application": who.app,
            "route": who.route,
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
            **getattr(record, "opal", {}),
        }
        return json.dumps({name: value for name, value in line.items() if value not in ("", None)}, default=str)

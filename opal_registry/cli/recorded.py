"""How ``init`` reports that there was nothing to do, where the ledger alone could tell."""

from typing import Any

from opal_registry.cli.output import counted
from opal_registry.warm import Complete, Recorded


def recorded_document(complete: Complete, *, seconds: float) -> dict[str, Any]:
    """What ``init --json`` prints: the same as after a look at the database, and ``"recorded": true``."""
    return {
        "dry_run": False,
        "recorded": True,
        "databases": complete.databases,
        "sub_apps": [_sub_app(app) for app in complete.sub_apps],
        "quarantined": [],
        "bookkeeping": [],
        "seconds": round(seconds, 3),
        "exit_code": 0,
    }


def recorded_view(complete: Complete, *, seconds: float) -> list[str]:
    """What ``init`` shows to people."""
    tables = sum(len(app.tables) for app in complete.sub_apps)
    number = f"{counted(tables, 'table')} of {counted(len(complete.sub_apps), 'sub-app')}"
    summary = f"nothing to do: {number} {'is' if tables == 1 else 'are'} as the ledger says; {seconds:.2f} s"
    where = [f"{bind}: {database}" for bind, database in complete.databases.items()]
    return [*where, f"{summary} (opal-db init --verify looks at {'it' if tables == 1 else 'them'})"]


def _sub_app(app: Recorded) -> dict[str, Any]:
    return {
        "name": app.name,
        "distribution": app.distribution,
        "version": app.version,
        "bind": app.bind,
        "created": [],
        "present": list(app.tables),
        "differences": [],
        "statements": [],
        "withheld": "",
        "seeded": False,
        "import_seconds": 0,
        "seconds": 0,
    }

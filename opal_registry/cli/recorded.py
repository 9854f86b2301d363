"""How ``init`` and ``upgrade`` report that there was nothing to do, where the ledger alone could tell."""

import time
from typing import TYPE_CHECKING, Any

from opal_registry.cli.command import Invocation
from opal_registry.cli.output import counted

if TYPE_CHECKING:  # --help needs neither of them, nor pydantic
    from opal_registry.warm import Complete, Recorded


def make_fingerprint(run: Invocation) -> str:
    """The fingerprint of this image."""
    from opal_registry.fingerprint import make_image_fingerprint

    return make_image_fingerprint(run.settings)


def is_recorded(run: Invocation) -> bool:
    """Whether the ledger alone is certain that everything of this image is in its databases."""
    from opal_registry.warm import find_complete

    return find_complete(run.settings, make_fingerprint(run)) is not None


def report_recorded(run: Invocation, fingerprint: str, **more: object) -> bool:
    """Report what the ledger knows, if it is certain that there is nothing to do.

    Args:
        run: The call.
        fingerprint: Of this image.
        **more: What the command's document has beside that of ``init``.
    """
    started = time.perf_counter()
    from opal_registry.warm import find_complete

    complete = find_complete(run.settings, fingerprint)
    if complete is None:
        return False
    seconds = time.perf_counter() - started
    run.output.show(recorded_document(complete, seconds=seconds) | more, *recorded_view(complete, seconds=seconds))
    return True


def recorded_document(complete: "Complete", *, seconds: float) -> dict[str, Any]:
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


def recorded_view(complete: "Complete", *, seconds: float) -> list[str]:
    """What ``init`` shows to people."""
    tables = sum(len(app.tables or ()) for app in complete.sub_apps)
    is_known = all(app.tables is not None for app in complete.sub_apps)
    number, (is_, it) = counted(tables, "table"), ("is", "it") if tables == 1 else ("are", "them")
    if not is_known:  # a later release may have more tables than this one
        number, is_, it = "the tables", "are", "them"
    what = f"{number} of {counted(len(complete.sub_apps), 'sub-app')} {is_} as the ledger says"
    where = [f"{bind}: {database}" for bind, database in complete.databases.items()]
    return [*where, f"nothing to do: {what}; {seconds:.2f} s (opal-db init --verify looks at {it})"]


def _sub_app(app: "Recorded") -> dict[str, Any]:
    return {
        "name": app.name,
        "distribution": app.distribution,
        "version": app.version,
        "bind": app.bind,
        "created": [],
        "present": list(app.tables or ()),
        "differences": [],
        "statements": [],
        "withheld": "",
        "ahead": "",
        "seeded": False,
        "import_seconds": 0,
        "seconds": 0,
    }

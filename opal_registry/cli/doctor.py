"""``opal-db doctor``."""

from typing import TYPE_CHECKING, Any

import typer

from opal_registry.cli.command import Invocation, command
from opal_registry.cli.output import Sheet, error_document

if TYPE_CHECKING:  # --help does without SQLAlchemy
    from opal_registry.doctor import Diagnosis


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor", examples="opal-db doctor --config config/postgres.yaml")(_doctor)


def _doctor(run: Invocation) -> int:
    """Look for what may go wrong between the application and its databases; exit code 1 if there is something to do.

    Whether each one answers, whether it has the connections that the application may open, whether connections are replaced
    before the server closes them, whether a pooler stands in between, how they are really encrypted. Nothing is changed, not even a file created.
    """
    from opal_registry.doctor import examine

    with run.step("looking at the databases"):
        diagnosis = examine(run.registry)
    run.output.show(_document(diagnosis), *_view(diagnosis))
    for error in diagnosis.errors:
        run.output.complain(error)
    return diagnosis.exit_code


def _document(diagnosis: "Diagnosis") -> dict[str, Any]:
    return {
        "findings": [
            {"bind": found.bind, "check": found.check, "state": found.state, "what": found.what, "mend": found.mend}
            for found in diagnosis.findings
        ],
        "errors": list(map(error_document, diagnosis.errors)),
        "exit_code": diagnosis.exit_code,
    }


def _view(diagnosis: "Diagnosis") -> list[Sheet | str]:
    rows = [(found.bind, found.check, found.state, found.what) for found in diagnosis.findings]
    mends = [f"{found.bind}, {found.check}: {found.mend}" for found in diagnosis.findings if found.mend]
    return [Sheet(("bind", "check", "state", "what"), rows), *(["What to do:", *mends] if mends else [])]

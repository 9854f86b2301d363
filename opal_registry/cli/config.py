"""The commands ``opal-db config ...``."""

import json
from typing import Any

import typer

from opal_registry.cli.command import Invocation, command
from opal_registry.cli.output import Sheet

app = typer.Typer(name="config", help="The configuration.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "show", examples="opal-db config show --config config/postgres.yaml")
def _show(run: Invocation) -> None:
    """Show every setting with its value and where it comes from: file and line, variable, or default.

    Secrets are masked.
    """
    from opal_registry.settings.sources import describe

    rows = describe(run.settings)
    document: dict[str, Any] = {
        "config_file": str(run.settings.config_file) if run.settings.config_file else None,
        "settings": [{"key": key, "value": value, "origin": origin} for key, value, origin in rows],
    }
    run.output.show(document, Sheet(("key", "value", "origin"), rows))


@command(app, "check", examples="opal-db config check --config config/cloudsql.yaml")
def _check(run: Invocation) -> None:
    """Check the configuration without connecting anywhere; exit code 2 if anything is wrong.

    Reads all secrets, and makes all engines.
    """
    from opal_registry.engines.check import check_databases
    from opal_registry.settings.sources import reserved_in_use

    file = str(run.settings.config_file) if run.settings.config_file else None
    later = reserved_in_use(run.settings)
    databases = check_databases(run.settings)
    document = {"ok": True, "config_file": file, "databases": databases, "not_used_yet": later}
    notes = [f"note: {key} is checked, but not used by this release" for key in later]
    lines = [f"{bind}: {url}" for bind, url in databases.items()]
    run.output.show(document, f"{file or 'no file, defaults and environment'}: fine", *lines, *notes)


@command(app, "schema", examples="opal-db config schema > opal.schema.json")
def _schema(run: Invocation) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from opal_registry.settings.sources import settings_schema

    schema = settings_schema()
    run.output.show(schema, json.dumps(schema, indent=2))

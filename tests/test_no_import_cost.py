"""What importing costs: nothing that is not used, and never a connection or a file."""

import tomllib
from pathlib import Path

import pytest

from tests.distributions import Site
from tests.writing import model, models

HEAVY = {"alembic", "rich", "sqlalchemy", "fastapi", "pydantic", "typer", "yaml"}
CONTRACTS = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
[FLOOR_0] = [found["source_modules"] for found in CONTRACTS["contracts"] if found["name"].startswith("floor 0")]

IMPORT = """
    import importlib, sys

    for name in sys.argv[1:]:
        importlib.import_module(name)
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(site: Site, *modules: str) -> set[str]:
    """The packages that a process holds after importing some modules."""
    done = site.python(IMPORT, *modules)
    assert done.code == 0, done.err
    return set(done.out.split())


def test_the_face_costs_nothing(site: Site) -> None:
    assert not imported(site, "opal_registry") & {*HEAVY, "pluggy", "packaging"}


def test_floor_0_does_without_sqlalchemy(site: Site) -> None:
    assert not imported(site, *FLOOR_0) & {"sqlalchemy", "alembic", "rich", "fastapi"}


def test_help_does_without_settings_and_drivers(site: Site) -> None:
    done = site.python("""
        import sys
        from opal_registry.cli.main import main

        main(["--help"])
        print(*sorted({name.partition(".")[0] for name in sys.modules}))
    """)
    assert not set(done.out.splitlines()[-1].split()) & {*HEAVY - {"typer"}, "pluggy", "psycopg", "sqlite3"}


def test_settings_cost_neither_yaml_nor_dotenv_where_there_are_no_files(site: Site) -> None:
    code = """
        import sys
        from opal_registry.settings.sources import load_settings

        load_settings()
        print(*sorted({"asyncio", "dotenv", "pluggy", "pydantic_settings", "yaml"} & sys.modules.keys()))
    """
    assert site.python(code).out == "\n"


def test_a_plugin_costs_no_sqlalchemy(site: Site) -> None:
    site.sub_app("alpha")
    assert not imported(site, "alpha.opal") & {"sqlalchemy", "alembic", "rich"}


def test_models_need_no_alembic_no_settings_and_no_web(site: Site) -> None:
    assert not imported(site, "opal_registry.models") & {"alembic", "rich", "typer", "fastapi"}


def test_google_costs_nothing_before_somebody_connects(site: Site) -> None:
    code = """
        import sys
        from opal_registry.engines.factory import make_engine
        from opal_registry.settings.database import DatabaseSettings

        instance = {"instance": "tests:europe-west1:suite", "user": "app", "database": "suite"}
        make_engine(DatabaseSettings.model_validate({"cloud_sql": instance}))
        print(*sorted({"aiohttp", "cryptography", "google.auth", "google.cloud.sql.connector", "grpc"} & sys.modules.keys()))
    """
    done = site.python(code)
    assert done.out == "\n", done.err


WATCHED = """
    import sys
    import opal_registry.engines.factory, pwdlib.hashers.bcrypt, pwdlib.hashers.argon2  # what opens its own files

    opened = []

    def hook(event, arguments):
        if event == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")):
            opened.append(str(arguments[0]))
        elif event.startswith(("socket.", "sqlite3.", "subprocess.")):
            opened.append(event)

    sys.addaudithook(hook)
    import alpha.models
    from opal_registry.database import Base, SessionLocal, engine, get_db
    print(opened)
"""


@pytest.mark.parametrize("profile", ["", "production"])
def test_importing_models_opens_nothing(site: Site, profile: str) -> None:
    source = "from opal_registry.database import SessionLocal, engine, get_db\n" + models(model("A", "alphas"))
    site.sub_app("alpha", source + "from opal_registry.models import User\n")
    done = site.python(
        WATCHED, env={"OPAL_ENV": profile or None, "OPAL_DATABASE__URL": "postgresql://nobody@192.0.2.1/x"}
    )
    assert (done.out, done.err) == ("[]\n", "")
    assert not list(site.cwd.iterdir())


def test_discovery_imports_no_models(site: Site) -> None:
    site.sub_app("alpha", "raise AssertionError('imported')")
    done = site.python("""
        import sys
        from opal_registry.discovery import Choice, discover

        print([app.name for app in discover(Choice()).sub_apps], "sqlalchemy" in sys.modules)
    """)
    assert done.out == "['core', 'alpha'] False\n", done.err

"""The registry: made once, closed once, and honest about what it holds."""

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from opal_registry.errors import ConfigError
from opal_registry.registry import Registry, get_default_registry
from tests.databases import registry_of, settings_of
from tests.distributions import Site


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'opal.db'}"


def answer(registry: Registry) -> object:
    with registry.session_scope(read_only=True) as session:
        return session.execute(sa.text("SELECT 42")).scalar()


def test_making_one_reads_and_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPAL_CONFIG", "no/such/file.yaml")
    registry = Registry()

    assert repr(registry) == "<Registry with 0 engines>"
    registry.close()
    with pytest.raises(ConfigError, match=r"no/such/file\.yaml"):
        registry.engine()


def test_an_engine_is_made_once_for_all_threads(url: str) -> None:
    with registry_of(url) as registry:
        found: list[sa.Engine] = []
        threads = [threading.Thread(target=lambda: found.append(registry.engine())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 1
        assert repr(registry) == "<Registry with 1 engine>"


def test_it_closes_its_connections_and_may_be_closed_again(url: str) -> None:
    with registry_of(url) as registry:
        engine = registry.engine()
        assert answer(registry) == 42
        assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]
    registry.close()
    registry.close()


def test_it_can_be_used_after_it_was_closed(url: str) -> None:
    registry = registry_of(url)
    before, factory = registry.engine(), registry.session_factory
    registry.close()
    assert registry.engine() is not before
    assert answer(registry) == 42
    with factory() as session:
        assert session.connection().engine.pool is registry.engine().pool
    registry.close()


@pytest.mark.parametrize("running", [True, False], ids=["in an event loop", "after the event loop"])
def test_asyncio_engines_are_closed_too(database_url: str, running: bool, caplog: pytest.LogCaptureFixture) -> None:
    registry = registry_of(database_url)

    async def use() -> None:
        async with registry.async_session_scope() as session:
            await session.execute(sa.text("SELECT 1"))
        if running:
            await registry.aclose()

    asyncio.run(use())
    registry.close()
    assert repr(registry) == "<Registry with 0 engines>"
    assert caplog.records == []


def test_closing_goes_on_when_one_engine_cannot_be_closed(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(settings_of(url, binds={"other": {"url": url}}), sub_apps=["core"])
    first, last = registry.engine(), registry.engine("other")
    monkeypatch.setattr(last, "dispose", lambda: 1 / 0)
    with first.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    with caplog.at_level(logging.ERROR):
        registry.close()
    assert first.pool.checkedin() == 0  # type: ignore[attr-defined]
    assert "closing the connections" in caplog.text


def test_a_bind_that_is_not_configured_names_those_that_are(url: str) -> None:
    registry = Registry(settings_of(url, binds={"analytics": {"url": url}}), sub_apps=["core"])

    with pytest.raises(ConfigError) as caught:
        registry.engine("analitics")
    assert "no database is configured for the bind 'analitics'" in str(caught.value)
    assert "use one of: default, analytics" in str(caught.value)


def test_what_is_wrong_with_a_url_says_where_it_stands(tmp_path: Path) -> None:
    config = tmp_path / "opal.yaml"
    config.write_text("database:\n  url: oracle://db/x\n")
    registry = Registry.from_config(config, sub_apps=["core"])

    with pytest.raises(ConfigError, match=r"where: .*opal\.yaml:2"):
        registry.engine()


def test_one_registry_is_the_default(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opal_registry.registry._default", None)
    first = get_default_registry()
    assert get_default_registry() is first
    second = registry_of(url).as_default()
    assert get_default_registry() is second


def test_a_process_of_one_application_imports_no_models_of_others(quick_site: Site) -> None:
    quick_site.sub_app("one", "import sys; assert 'two.models' not in sys.modules", requires=("core",))
    quick_site.sub_app("two", "raise RuntimeError('imported')")
    code = """
        import sys
        from opal_registry import Registry, Settings
        with Registry(Settings(database={"url": "sqlite://"}), sub_apps=["one"]) as registry:
            print(*(app.name for app in registry.suite.sub_apps), "two.models" in sys.modules)
    """
    assert quick_site.python(code).out == "core one False\n"


HOOKS = """
    import sqlalchemy as sa

    @hookimpl
    def opal_engine_created(engine, bind):
        from opal_registry.registry import get_default_registry
        assert get_default_registry().engine(bind) is engine  # not for ever
        print("made", engine.dialect.driver, bind)
        {}
"""


def test_plugins_are_told_of_each_engine_before_it_connects(quick_site: Site) -> None:
    quick_site.sub_app("listener", hooks=HOOKS.format("sa.event.listen(engine, 'connect', lambda *_: print('up'))"))
    code = """
        import sqlalchemy as sa
        from opal_registry import Registry, Settings
        with Registry(Settings(database={"url": "sqlite://"})).as_default() as registry:
            registry.engine(); registry.engine()
            with registry.session_scope() as session:
                session.execute(sa.text("SELECT 1"))
    """
    done = quick_site.python(code)
    assert (done.code, done.out, done.err) == (0, "up\n", "made pysqlite default\n"), done


def test_a_plugin_that_fails_at_it_does_not_take_the_application_down(quick_site: Site) -> None:
    quick_site.sub_app("listener", hooks=HOOKS.format("raise RuntimeError('no thanks')"))
    code = """
        import sqlalchemy as sa
        from opal_registry import Registry, Settings
        with Registry(Settings(database={"url": "sqlite://"})).as_default() as registry:
            with registry.session_scope() as session:
                print(session.scalar(sa.text("SELECT 42")))
    """
    done = quick_site.python(code)
    assert (done.code, done.out) == (0, "42\n"), done
    assert "calling opal_engine_created failed: RuntimeError: no thanks" in done.err
    assert "listener" in done.err


def test_the_face_costs_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, opal_registry; assert 'sqlalchemy' not in sys.modules and 'pydantic' not in sys.modules;"
        "opal_registry.SubApp; assert 'sqlalchemy' not in sys.modules; opal_registry.Registry;"
        "assert dir(opal_registry) == sorted(opal_registry.__all__)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

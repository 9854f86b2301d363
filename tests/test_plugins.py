"""The sample sub-apps of ``plugins/``: what they declare, and a day of work with each on real databases."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from buildpilot.models import (
    Build,
    BuildAgent,
    BuildArtifact,
    BuildLabel,
    BuildPipeline,
    BuildProject,
    BuildStatus,
    BuildStep,
    BuildTrigger,
)
from calmind.models import (
    CalmExercise,
    CalmFeeling,
    CalmJournalEntry,
    CalmReminder,
    MoodCheckIn,
    PracticeSession,
)
from calmind.seed import add_exercises_and_feelings
from monitoriq.models import (
    CheckKind,
    MonitorAlert,
    MonitorAlertNote,
    MonitorCheck,
    MonitoredService,
    MonitorMeasurement,
    MonitorRule,
    MonitorSeverity,
    MonitorSilence,
    RuleSignal,
)
from monitoriq.seed import add_severities
from opal_auth.models import (
    CodePurpose,
    OneTimeCode,
    RefreshToken,
    SignInEvent,
    SignInMethod,
    SignInOutcome,
    SocialIdentity,
)
from regressioninsight.models import (
    FailureGroup,
    Outcome,
    RegressionBaseline,
    RegressionCase,
    RegressionMetric,
    RegressionResult,
    RegressionRun,
    RegressionSuite,
    RunStatus,
)
from sqlalchemy import orm as sa_orm
from sqlalchemy.schema import CreateIndex, CreateTable
from standupbot.models import (
    MemberRole,
    StandupAnswer,
    StandupBlocker,
    StandupMeeting,
    StandupMembership,
    StandupQuestion,
    StandupTeam,
    StandupUpdate,
)
from standupbot.seed import add_first_team
from xrayqc.models import (
    ReviewDecision,
    Verdict,
    XrayBoard,
    XrayCalibration,
    XrayDefectKind,
    XrayFinding,
    XrayImage,
    XrayInspection,
    XrayReview,
    XrayStation,
)
from xrayqc.seed import add_defect_kinds

from opal_registry import Registry, Settings
from opal_registry.database import Base
from opal_registry.mixins import utc_now
from opal_registry.models import User
from tests.conftest import POSTGRES
from tests.distributions import Site
from tests.postgres import Cluster

T = TypeVar("T")

PREFIXES = {
    "standupbot": "standup_",
    "regressioninsight": "regress_",
    "buildpilot": "build_",
    "calmind": "calmind_",
    "monitoriq": "monitor_",
    "xrayqc": "xray_",
    "opal_auth": "auth_",
}
TABLES = sorted((t for t in Base.metadata.tables.values() if t.name.startswith(tuple(PREFIXES.values()))), key=str)
DRIVERS = [
    pytest.param("postgresql", 63, id="postgresql"),
    pytest.param("mysql+pymysql", 64, id="mysql"),
]
MYSQL_KEY_BYTES = 3072
"""The longest index key of InnoDB; a character of utf8mb4 takes four."""
SHA_256 = "0123456789abcdef" * 4


@pytest.fixture(scope="module", params=["sqlite", *POSTGRES])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """An engine of a database with the tables of the suite: a SQLite file, and each PostgreSQL server in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('suite') / 'opal_suite.db'}"
    else:
        cluster: Cluster = request.getfixturevalue(request.param)
        cluster.start()
        url = cluster.url(cluster.create_database())
    with Registry(Settings.model_validate({"database": {"url": url}})) as registry:
        Base.metadata.create_all(registry.engine(), [User.metadata.tables["users"], *TABLES])
        yield registry.engine()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[sa_orm.Session]:
    """A session whose work is undone at the end of the test."""
    with engine.connect() as connection, connection.begin() as transaction:
        with sa_orm.Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()


@pytest.fixture
def ada(session: sa_orm.Session) -> User:
    """Somebody who does things."""
    return _added(session, User(username="ada"))


@pytest.fixture
def build(session: sa_orm.Session, ada: User) -> Build:
    """A build that runs."""
    pipeline = BuildPipeline(
        project=BuildProject(slug="opal", name="Opal", repository_url="https://git.example/opal", owner=ada),
        name="main",
        config_path=".ci/run",
    )
    running = Build(
        pipeline=pipeline,
        number=1,
        status=BuildStatus.RUNNING,
        trigger_kind=BuildTrigger.PUSH,
        branch="main",
        commit_sha="e9a2474",
        triggered_by=ada,
        started_at=utc_now(),
    )
    return _added(session, running)


@pytest.fixture
def run(session: sa_orm.Session, build: Build, ada: User) -> RegressionRun:
    """A regression run of that build."""
    suite = RegressionSuite(name="smoke", owner=ada, watchers=[ada], cases=[RegressionCase(identifier="t.py::test_a")])
    started = RegressionRun(
        suite=suite, build=build, commit_sha=build.commit_sha, environment="staging", started_by=ada
    )
    return _added(session, started)


@pytest.fixture
def service(session: sa_orm.Session, ada: User) -> MonitoredService:
    """A service that is watched, with the severities of a new installation."""
    add_severities(session)
    check = MonitorCheck(name="front page", kind=CheckKind.HTTP, target="https://opal.example/")
    return _added(session, MonitoredService(slug="opal", name="Opal", tier=1, owner=ada, checks=[check]))


@pytest.fixture
def inspection(session: sa_orm.Session, ada: User) -> XrayInspection:
    """An inspection with one image, and the defects of a new installation."""
    add_defect_kinds(session)
    station = XrayStation(name="X1", machine_model="Cheetah", max_voltage_kv=Decimal(160))
    board = XrayBoard(serial_number="SN-1", part_number="PCB-7", lot="L42")
    return _added(session, XrayInspection(board=board, station=station, operator=ada, images=[_image(1)]))


def _added(session: sa_orm.Session, item: T) -> T:
    session.add(item)
    session.flush()
    return item


def _image(position: int) -> XrayImage:
    return XrayImage(
        position=position,
        storage_uri=f"gs://xray/{position}",
        sha256=SHA_256,
        width_px=2048,
        height_px=1536,
        voltage_kv=Decimal("110.5"),
    )


@contextmanager
def _refused(session: sa_orm.Session, what: str = "") -> Iterator[None]:
    """The database refuses what happens in the block, and goes on."""
    with pytest.raises(sa.exc.IntegrityError, match=f"(?i){what}"), session.begin_nested():
        yield


def _delete(session: sa_orm.Session, *items: Any) -> None:
    """Delete rows by their keys, without a word to the ORM: what happens then is what the database does by itself."""
    session.flush()
    for item in items:
        table = sa.inspect(item).mapper.local_table
        keys = zip(table.primary_key, sa.inspect(item).identity, strict=True)
        session.execute(sa.delete(table).where(*(column == key for column, key in keys)))
    session.expire_all()


def _are_gone(*items: object) -> bool:
    return all(item is None for item in items)


def _count(session: sa_orm.Session, *models: type[Any]) -> list[int]:
    return [session.scalar(sa.select(sa.func.count()).select_from(model)) or 0 for model in models]


def _iter_keys(table: sa.Table) -> Iterator[sa.Index | sa.PrimaryKeyConstraint | sa.UniqueConstraint]:
    yield from table.indexes
    for constraint in table.constraints:
        if isinstance(constraint, (sa.PrimaryKeyConstraint, sa.UniqueConstraint)):
            yield constraint


# What they declare


@pytest.mark.parametrize("sub_app", PREFIXES)
def test_a_sub_app_has_three_to_eight_tables_with_its_prefix(sub_app: str) -> None:
    own = [table for table in TABLES if table.name.startswith(PREFIXES[sub_app])]
    assert 3 <= len(own) <= 8


def test_sub_apps_refer_to_each_other_where_the_work_calls_for_it() -> None:
    owner = {table.name: app for table in TABLES for app, prefix in PREFIXES.items() if table.name.startswith(prefix)}
    across = {
        f"{key.parent} -> {key.target_fullname}"
        for table in TABLES
        for key in table.foreign_keys
        if owner.get(key.column.table.name, "core") not in {"core", owner[table.name]}
    }
    assert across == {
        "monitor_alerts.build_id -> build_builds.id",
        "regress_runs.build_id -> build_builds.id",
        "xray_findings.run_id -> regress_runs.id",
    }
    users = {owner[t.name] for t in TABLES for key in t.foreign_keys if key.target_fullname == "users.id"}
    assert users == set(PREFIXES)


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_what_a_foreign_key_looks_for_is_indexed(table: sa.Table) -> None:
    indexed = [[column.name for column in key.columns] for key in _iter_keys(table)]
    for key in table.foreign_key_constraints:
        assert any(columns[: len(key.column_keys)] == list(key.column_keys) for columns in indexed), key.name


@pytest.mark.parametrize("table", TABLES, ids=str)
@pytest.mark.parametrize(("driver", "longest"), DRIVERS)
def test_tables_compile_for_servers(table: sa.Table, driver: str, longest: int) -> None:
    dialect = sa.make_url(f"{driver}://").get_dialect()()
    statements: list[sa.schema.DDLElement] = [CreateTable(table), *(CreateIndex(index) for index in table.indexes)]
    ddl = "\n".join(str(statement.compile(dialect=dialect)) for statement in statements)
    assert f"CREATE TABLE {table.name} (" in ddl
    names = [item.name for item in (table, *table.columns, *table.constraints, *table.indexes)]
    assert all(len(str(name)) <= longest for name in names), names


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_tables_respect_the_limits_of_mysql(table: sa.Table) -> None:
    for key in _iter_keys(table):
        assert not any(isinstance(column.type, sa.Text) for column in key.columns)
        assert sum(4 * (getattr(column.type, "length", None) or 4) for column in key.columns) <= MYSQL_KEY_BYTES
    acted_on = {
        name
        for key in table.foreign_key_constraints
        if key.ondelete == "SET NULL" or key.onupdate == "CASCADE"
        for name in key.column_keys
    }
    checks = " ".join(str(c.sqltext) for c in table.constraints if isinstance(c, sa.CheckConstraint))
    assert not [name for name in acted_on if name in checks]  # error 3823


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_enum_types_carry_the_name_of_their_sub_app(table: sa.Table) -> None:
    app = next(app for app, prefix in PREFIXES.items() if table.name.startswith(prefix))
    names = [column.type.name for column in table.columns if isinstance(column.type, sa.Enum)]
    assert all(str(name).startswith(f"{app}_") for name in names)


def test_declaring_a_sub_app_imports_neither_models_nor_sqlalchemy(site: Site) -> None:
    imports = "; ".join(f"import {app}.opal" for app in PREFIXES)
    done = site.python(f"import sys; {imports}; print(sorted({{'sqlalchemy'}} & set(sys.modules)))", suite=True)
    assert (done.out, done.err) == ("[]\n", "")


def test_init_creates_every_table_once_and_seeds_what_a_new_installation_needs(site: Site) -> None:
    first = site.run("init", "--json", suite=True)
    assert (first.code, first.err) == (0, "")
    seeded = "SELECT (SELECT count(*) FROM standup_teams), (SELECT count(*) FROM monitor_severities)"
    rows = f"import sqlite3; print(sqlite3.connect('opal_suite.db').execute({seeded!r}).fetchone())"
    assert site.run("init", suite=True).code == 0
    assert site.python(rows).out == "(1, 3)\n"


@pytest.mark.parametrize(
    ("seed", "models"),
    [
        pytest.param(add_first_team, (StandupTeam, StandupQuestion), id="standupbot"),
        pytest.param(add_exercises_and_feelings, (CalmExercise, CalmFeeling), id="calmind"),
        pytest.param(add_severities, (MonitorSeverity,), id="monitoriq"),
        pytest.param(add_defect_kinds, (XrayDefectKind,), id="xrayqc"),
    ],
)
def test_seeding_twice_adds_nothing(
    session: sa_orm.Session, seed: Callable[[sa_orm.Session], None], models: tuple[type[Any], ...]
) -> None:
    seed(session)
    first = _count(session, *models)
    seed(session)
    assert _count(session, *models) == first
    assert all(first)


def test_seeding_leaves_alone_what_was_changed(session: sa_orm.Session) -> None:
    add_first_team(session)
    add_defect_kinds(session)
    session.scalars(sa.select(StandupTeam)).one().name = "the crew"
    session.get_one(XrayDefectKind, "void").limit_percent = Decimal(20)
    add_first_team(session)
    add_defect_kinds(session)
    session.flush()
    assert session.scalars(sa.select(StandupTeam.name)).all() == ["the crew"]
    assert session.get_one(XrayDefectKind, "void").limit_percent == 20


# StandupBot


def test_a_team_stands_up(session: sa_orm.Session, ada: User) -> None:
    bob = User(username="bob")
    add_first_team(session)
    team = session.scalars(sa.select(StandupTeam)).one()
    team.memberships = [StandupMembership(user=ada, role=MemberRole.FACILITATOR), StandupMembership(user=bob)]
    update = StandupUpdate(author=bob, mood=4, blockers=[StandupBlocker(description="no VPN", helpers=[ada])])
    update.answers = [StandupAnswer(question=team.questions[0], text="The login page")]
    session.add(StandupMeeting(team=team, held_on=dt.date(2026, 11, 23), facilitator=ada, updates=[update]))
    session.flush()
    update.blockers[0].resolve(by=ada)
    session.commit()

    mood, blocker = session.execute(sa.select(StandupUpdate.mood, StandupBlocker).join(StandupUpdate.blockers)).one()
    assert (mood, blocker.resolved_by, [user.username for user in blocker.helpers]) == (4, ada, ["ada"])
    assert [m.role for m in team.memberships] == ["facilitator", "member"]

    with _refused(session, "unique"):
        session.add(StandupUpdate(meeting=update.meeting, author=bob))
    with _refused(session, "foreign key"):
        _delete(session, team)
    with _refused(session, "foreign key"):
        _delete(session, team.questions[0])
    with _refused(session, "mood"):
        update.mood = 6

    _delete(session, ada)
    assert _are_gone(update.meeting.facilitator, update.blockers[0].resolved_by)
    assert update.blockers[0].helpers == []
    _delete(session, bob)
    assert _count(session, StandupUpdate, StandupAnswer, StandupBlocker, StandupMembership, StandupMeeting) == [
        *(0, 0, 0, 0),
        1,
    ]


# BuildPilot


def test_a_build_passes(session: sa_orm.Session, build: Build, ada: User) -> None:
    linux, gpu = BuildLabel(name="linux"), BuildLabel(name="gpu")
    build.agent = BuildAgent(name="a1", platform="linux/amd64", registered_by=ada, labels=[linux, gpu])
    build.steps = [
        BuildStep(position=2, name="test", command="make test"),
        BuildStep(position=1, name="init", command="make init", status=BuildStatus.PASSED, exit_code=0),
    ]
    wheel = {"storage_uri": "gs://builds/1/opal.whl", "size_bytes": 5_000_000_000, "sha256": SHA_256}
    build.artifacts = [BuildArtifact(path="dist/opal.whl", **wheel)]
    build.status, build.finished_at = BuildStatus.PASSED, utc_now()
    session.commit()
    session.expire_all()

    assert [step.name for step in build.steps] == ["init", "test"]
    assert build.steps[1].status is BuildStatus.QUEUED
    assert build.artifacts[0].size_bytes == 5_000_000_000
    found = sa.select(Build).join(Build.agent).join(BuildAgent.labels).where(BuildLabel.name == "gpu")
    assert session.scalars(found).one().triggered_by is ada

    with _refused(session, "unique"):
        session.add(BuildArtifact(build=build, path="dist/opal.whl", **wheel))
    with _refused(session, "finishes_after_start"):
        build.finished_at = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(sa.exc.DBAPIError), session.begin_nested():
        session.execute(sa.text("UPDATE build_builds SET status = 'exploded'"))

    _delete(session, build.agent, ada)
    assert _are_gone(build.agent, build.triggered_by, build.pipeline.project.owner)
    assert _count(session, BuildLabel, BuildAgent) == [2, 0]


def test_a_build_is_retried_and_pruned(session: sa_orm.Session, build: Build) -> None:
    again = {"pipeline": build.pipeline, "branch": "main", "commit_sha": build.commit_sha}
    retry = _added(session, Build(number=2, trigger_kind=BuildTrigger.RETRY, retry_of=build, **again))
    build.steps = [BuildStep(position=1, name="init", command="make init")]
    with _refused(session, "unique"):
        session.add(Build(number=2, trigger_kind=BuildTrigger.PUSH, **again))
    with _refused(session, "foreign key"):
        _delete(session, build.pipeline.project)

    session.delete(build)
    session.flush()
    session.expire_all()
    assert _are_gone(retry.retry_of)
    assert _count(session, BuildStep) == [0]
    session.delete(retry)
    session.delete(retry.pipeline.project)
    session.flush()
    assert _count(session, BuildProject, BuildPipeline, Build) == [0, 0, 0]


# RegressionInsight


def test_a_regression_is_found_in_a_build(session: sa_orm.Session, run: RegressionRun, ada: User) -> None:
    case = run.suite.cases[0]
    group = FailureGroup(fingerprint=SHA_256, title="Timeout in login", assigned_to=ada)
    run.results = [
        RegressionResult(case=case, outcome=Outcome.FAILED, duration_ms=912, message="...", failure_group=group),
        RegressionResult(case=case, outcome=Outcome.PASSED, duration_ms=85, attempt=2),
    ]
    session.add_all(
        [
            RegressionMetric(result=run.results[0], name="p95", measured=912.5, unit="ms"),
            RegressionBaseline(case=case, environment="staging", metric="p95", expected=100, approved_by=ada),
        ]
    )
    run.status, run.finished_at = RunStatus.FAILED, utc_now()
    session.commit()
    session.expire_all()

    worse = (
        sa.select(RegressionCase.identifier)
        .join(RegressionResult, RegressionResult.case_id == RegressionCase.id)
        .join(RegressionMetric, RegressionMetric.result_id == RegressionResult.id)
        .join(RegressionBaseline, RegressionBaseline.case_id == RegressionCase.id)
        .where(
            RegressionMetric.measured > RegressionBaseline.expected * (1 + RegressionBaseline.tolerance_percent / 100)
        )
    )
    assert session.scalars(worse).all() == ["t.py::test_a"]
    assert run.build is not None
    assert run.build.triggered_by is ada

    with _refused(session, "unique"):
        session.add(RegressionResult(run=run, case=case, outcome=Outcome.ERROR, duration_ms=0, attempt=2))
    with _refused(session, "foreign key"):
        _delete(session, case)
    with _refused(session, "foreign key"):
        _delete(session, run.suite)

    _delete(session, run.build, ada)
    assert _are_gone(run.build, run.started_by)
    assert (run.commit_sha, run.suite.watchers) == ("e9a2474", [])
    _delete(session, run)
    assert _count(session, RegressionResult, RegressionMetric, RegressionCase, FailureGroup) == [0, 0, 1, 1]


# CalMind


def test_somebody_takes_a_break(session: sa_orm.Session, ada: User) -> None:
    add_exercises_and_feelings(session)
    exercise = session.scalars(sa.select(CalmExercise).filter_by(slug="box-breathing")).one()
    calm, tired = session.scalars(
        sa.select(CalmFeeling).where(CalmFeeling.name.in_(["calm", "tired"])).order_by(CalmFeeling.name)
    )
    reminder = CalmReminder(user=ada, weekday=1, time_of_day=dt.time(10, 30), time_zone="Europe/Berlin")
    reminder.exercise = exercise
    session.add_all(
        [
            reminder,
            PracticeSession(user=ada, exercise=exercise, completed_at=utc_now() + dt.timedelta(minutes=4)),
            check_in := MoodCheckIn(user=ada, mood=3, stress=7, feelings=[tired, calm]),
            CalmJournalEntry(user=ada, body="A long day."),
        ]
    )
    session.commit()

    assert [feeling.name for feeling in check_in.feelings] == ["calm", "tired"]
    assert reminder.time_of_day == dt.time(10, 30)
    with _refused(session, "stress"):
        check_in.stress = 11
    with _refused(session, "foreign key"):
        _delete(session, exercise)
    with _refused(session, "exercise_kind"):
        session.execute(sa.text("UPDATE calmind_exercises SET kind = 'shouting'"))

    _delete(session, ada)
    assert _count(session, PracticeSession, MoodCheckIn, CalmReminder, CalmJournalEntry) == [0, 0, 0, 0]
    assert session.scalar(sa.text("SELECT count(*) FROM calmind_check_in_feelings")) == 0
    assert _count(session, CalmExercise, CalmFeeling) == [3, 7]


# MonitorIQ


def test_an_alert_is_raised_about_a_build(
    session: sa_orm.Session, service: MonitoredService, build: Build, ada: User
) -> None:
    check = service.checks[0]
    rule = MonitorRule(check=check, name="down", signal_kind=RuleSignal.DOWN, severity_code="critical", created_by=ada)
    session.add_all(
        [MonitorMeasurement(check_id=check.id, is_up=False), MonitorMeasurement(check_id=check.id, is_up=True)]
    )
    alert = MonitorAlert(
        service=service, rule=rule, build=build, severity_code="critical", summary="Down since build 1"
    )
    alert.notes = [MonitorAlertNote(author=ada, body="Rolled back.")]
    session.add(alert)
    session.flush()
    alert.acknowledge(by=ada)
    session.commit()

    about = sa.select(MonitorAlert.summary, BuildProject.slug).join(MonitorAlert.build).join(Build.pipeline)
    assert session.execute(about.join(BuildPipeline.project)).one() == ("Down since build 1", "opal")
    assert alert.severity.wakes_people

    with _refused(session, "resolved_has_a_time"):
        session.execute(sa.text("UPDATE monitor_alerts SET state = 'resolved'"))
    with _refused(session, "foreign key"):
        _delete(session, alert.severity)
    alert.resolve()
    _delete(session, build, rule, ada)
    assert _are_gone(alert.build, alert.rule, alert.acknowledged_by, alert.notes[0].author)
    _delete(session, service)
    assert _count(session, MonitorCheck, MonitorMeasurement, MonitorAlert, MonitorAlertNote) == [0, 0, 0, 0]


def test_a_severity_is_renamed_everywhere(session: sa_orm.Session, service: MonitoredService) -> None:
    alert = _added(session, MonitorAlert(service=service, severity_code="warning", summary="Slow"))
    session.execute(sa.update(MonitorSeverity).filter_by(code="warning").values(code="major"))
    session.expire_all()
    assert alert.severity_code == "major"


def test_rules_and_silences_must_make_sense(session: sa_orm.Session, service: MonitoredService) -> None:
    slow = {"name": "slow", "signal_kind": RuleSignal.SLOW, "severity_code": "info"}
    now = utc_now()
    with _refused(session, "slow_has_a_threshold"):
        session.add(MonitorRule(check=service.checks[0], **slow))
    with _refused(session, "timeout"):
        service.checks[0].timeout_seconds = 61
    with _refused(session, "ends_after_start"):
        session.add(MonitorSilence(service=service, starts_at=now, ends_at=now, reason="maintenance"))


# XrayQC


def test_a_finding_explains_a_run(
    session: sa_orm.Session, inspection: XrayInspection, run: RegressionRun, ada: User
) -> None:
    bob = User(username="bob")
    finding = XrayFinding(defect_code="void", component="U7", measured_percent=Decimal("31.25"), run=run)
    finding.image = inspection.images[0]
    finding.reviews = [
        XrayReview(reviewer=ada, decision=ReviewDecision.CONFIRMED),
        XrayReview(reviewer=bob, decision=ReviewDecision.UNDECIDED, comment="Blurred."),
    ]
    inspection.findings = [finding]
    inspection.verdict = Verdict.REWORK
    session.commit()
    session.expire_all()

    above = sa.select(XrayFinding).join(XrayFinding.defect)
    above = above.where(XrayFinding.measured_percent > XrayDefectKind.limit_percent)
    assert session.scalars(above).one().image is inspection.images[0]
    assert finding.run is not None
    assert finding.run.suite.name == "smoke"

    with _refused(session, "unique"):
        session.add(XrayReview(finding=finding, reviewer=bob, decision=ReviewDecision.CONFIRMED))
    for kept in (inspection.board, inspection.station, finding.defect):
        with _refused(session, "foreign key"):
            _delete(session, kept)

    _delete(session, run, ada)
    assert _are_gone(finding.run, inspection.operator)
    assert {review.reviewer for review in finding.reviews} == {None, bob}
    _delete(session, inspection)
    assert _count(session, XrayImage, XrayFinding, XrayReview, XrayBoard) == [0, 0, 0, 1]


def test_a_finding_is_marked_on_an_image_of_its_own_inspection(
    session: sa_orm.Session, inspection: XrayInspection
) -> None:
    other = XrayInspection(board=inspection.board, station=inspection.station, images=[_image(1)])
    unmarked = XrayFinding(inspection=other, defect_code="bridge")
    marked = XrayFinding(inspection=other, defect_code="open", image=other.images[0])
    session.add_all([other, unmarked, marked])
    session.flush()
    with _refused(session, "foreign key"):
        unmarked.image_id = inspection.images[0].id
    _delete(session, other.images[0])
    assert session.scalars(sa.select(XrayFinding)).all() == [unmarked]


def test_a_calibration_ends_after_it_began(session: sa_orm.Session, inspection: XrayInspection, ada: User) -> None:
    now = utc_now()
    calibration = XrayCalibration(performed_at=now, valid_until=now + dt.timedelta(days=365), is_passed=True)
    calibration.performed_by = ada
    inspection.station.calibrations = [calibration]
    session.flush()
    with _refused(session, "valid_after_performed"):
        calibration.valid_until = now


# The auth service


def test_refresh_tokens_rotate_once(session: sa_orm.Session, ada: User) -> None:
    def issue(digit: str, **chain: Any) -> RefreshToken:
        expires = utc_now() + dt.timedelta(days=30)
        return RefreshToken(user=ada, token_hash=digit * 64, expires_at=expires, user_agent="curl/8", **chain)

    first = _added(session, issue("1"))
    second = _added(session, issue("2", family_id=first.family_id, replaces=first))
    with _refused(session, "unique"):
        session.add(issue("3", family_id=first.family_id, replaces=first))
    with _refused(session, "unique"):
        session.add(issue("2"))
    _delete(session, first)
    assert second.replaces is None
    _delete(session, ada)
    assert _count(session, RefreshToken) == [0]


def test_a_one_time_code_counts_attempts(session: sa_orm.Session, ada: User) -> None:
    code = OneTimeCode(
        user=ada,
        purpose=CodePurpose.RESET_PASSWORD,
        code_hash=SHA_256,
        sent_to="ada@example.org",
        expires_at=utc_now() + dt.timedelta(minutes=10),
    )
    _added(session, code).attempts = 5
    session.flush()
    with _refused(session, "attempts"):
        code.attempts += 1
    code.consumed_at = utc_now()
    _delete(session, ada)
    assert _count(session, OneTimeCode) == [0]


def test_an_account_elsewhere_belongs_to_one_person(session: sa_orm.Session, ada: User) -> None:
    session.add(SocialIdentity(user=ada, provider="github", subject="42"))
    session.add(SignInEvent(user=ada, method=SignInMethod.SOCIAL, outcome=SignInOutcome.SUCCEEDED, ip_address="::1"))
    session.flush()
    with _refused(session, "unique"):
        session.add(SocialIdentity(user=User(username="eve"), provider="github", subject="42"))
    _delete(session, ada)
    assert _count(session, SocialIdentity) == [0]
    assert session.scalars(sa.select(SignInEvent.user_id)).all() == [None]


# The original import paths


def test_the_original_paths_lead_to_the_same_objects(site: Site) -> None:
    done = site.python(
        """
        import OpalSuite
        from OpalSuite.shared.database_base import database
        from OpalSuite.shared.database_base.models.user import User
        import opal_registry.database
        import opal_registry.models

        names = ["engine", "SessionLocal", "Base", "get_db"]
        print(all(getattr(database, name) is getattr(opal_registry.database, name) for name in names))
        print(User is opal_registry.models.User, OpalSuite.__file__)
        """,
        suite=True,
    )
    assert (done.out, done.err) == ("True\nTrue None\n", "")


def test_the_original_url_is_text_with_the_password(site: Site) -> None:
    done = site.python(
        "from OpalSuite.shared.database_base.database import SQLALCHEMY_DATABASE_URL as u; print(type(u), u)",
        env={"DATABASE_URL": "postgresql://ada:s%40crt@db.example/opal"},
        suite=True,
    )
    assert done.err == ""
    assert done.out.startswith("<class 'str'> postgresql")
    assert "://ada:s%40crt@db.example/opal" in done.out


def test_importing_the_original_paths_reads_no_configuration(site: Site) -> None:
    code = "import OpalSuite.shared.database_base.database as d; print('imported'); d.SQLALCHEMY_DATABASE_URL"
    done = site.python(code, env={"OPAL_CONFIG": "/there/is/no/such.yaml"}, suite=True)
    assert (done.code, done.out) == (1, "imported\n")
    assert "/there/is/no/such.yaml" in done.err


def test_other_distributions_may_add_to_the_original_packages(site: Site) -> None:
    site.install(
        "opalsuite-reports", files={"OpalSuite/shared/reports.py": "from OpalSuite.shared import database_base"}
    )
    assert site.python("import OpalSuite.shared.reports", suite=True).err == ""

"""Generated histories: sub-apps with five revisions each, the same operations for Alembic, for Django and for us."""

from benchmarks.generate import CORE, Distribution

REVISIONS = 5
"""Of each sub-app: three tables, a column, an index."""

MODELS = """\
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from opal_registry.database import Base


class Item(Base):
    __tablename__ = "{app}_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80), index=True)
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    colour: Mapped[str | None] = mapped_column(sa.String(20))


class Note(Base):
    __tablename__ = "{app}_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("{app}_items.id"))
    text: Mapped[str] = mapped_column(sa.String(200))


class Tag(Base):
    __tablename__ = "{app}_tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(80))
"""

PLUGIN = """\
from opal_registry import SubApp, hookimpl


@hookimpl
def opal_sub_apps():
    yield SubApp(
        name="{app}",
        models=("{app}.models",),
        requires=("core",),
        migrations="{app}:migrations",
        create="migrations",
    )
"""

REVISION = '''\
"""Step {number} of {app}"""

import sqlalchemy as sa
from alembic import op

revision = "{id}"
down_revision = {parent!r}
{pins}

def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
'''

STEPS = (
    (
        'op.create_table("{app}_items", sa.Column("id", sa.Integer(), nullable=False), sa.Column("name", sa.String(80), nullable=False), '
        'sa.Column("owner_id", sa.Integer(), sa.ForeignKey("users.id", name="fk_{app}_items_owner_id_users"), nullable=False), '
        'sa.PrimaryKeyConstraint("id", name="pk_{app}_items"))',
        'op.drop_table("{app}_items")',
    ),
    (
        'op.create_table("{app}_notes", sa.Column("id", sa.Integer(), nullable=False), sa.Column("item_id", sa.Integer(), '
        'sa.ForeignKey("{app}_items.id", name="fk_{app}_notes_item_id_{app}_items"), nullable=False), '
        'sa.Column("text", sa.String(200), nullable=False), sa.PrimaryKeyConstraint("id", name="pk_{app}_notes"))',
        'op.drop_table("{app}_notes")',
    ),
    ('op.add_column("{app}_items", sa.Column("colour", sa.String(20)))', 'op.drop_column("{app}_items", "colour")'),
    ('op.create_index("ix_{app}_items_name", "{app}_items", ["name"])', 'op.drop_index("ix_{app}_items_name")'),
    (
        'op.create_table("{app}_tags", sa.Column("id", sa.Integer(), nullable=False), sa.Column("name", sa.String(80), nullable=False), '
        'sa.PrimaryKeyConstraint("id", name="pk_{app}_tags"))',
        'op.drop_table("{app}_tags")',
    ),
)
USERS = (
    'op.create_table("users", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("username", sa.String(80)))',
    'op.drop_table("users")',
)

ENV = """\
import os

import sqlalchemy as sa
from alembic import context

from {core}.base import Base
{imports}

with sa.create_engine(os.environ["DATABASE_URL"], poolclass=sa.NullPool).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""
INI = "[alembic]\nscript_location = {core}:alembic\npath_separator = os\n"

BASE = """\
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(80))
"""

DJANGO_SETTINGS = """\
import os
from urllib.parse import urlsplit

url = urlsplit(os.environ["DATABASE_URL"])
if url.scheme.startswith("sqlite"):
    DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": url.path[1:]}}}}
else:
    DATABASES = {{"default": {{
        "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:],
        "USER": url.username, "HOST": url.hostname, "PORT": url.port,
    }}}}
INSTALLED_APPS = ["{core}", {apps}]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True
"""
DJANGO_MODELS = """\
from django.db import models


class Item(models.Model):
    name = models.CharField(max_length=80, db_index=True)
    owner = models.ForeignKey("{core}.User", models.CASCADE, related_name="+")
    colour = models.CharField(max_length=20, null=True)


class Note(models.Model):
    item = models.ForeignKey(Item, models.CASCADE)
    text = models.CharField(max_length=200)


class Tag(models.Model):
    name = models.CharField(max_length=80)
"""
DJANGO_USER = (
    "from django.db import models\n\n\nclass User(models.Model):\n    username = models.CharField(max_length=80)\n"
)
DJANGO_MIGRATION = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [{parent}]
    operations = [{operation}]
"""
ID = '("id", models.AutoField(primary_key=True))'
DJANGO_STEPS = (
    'migrations.CreateModel("Item", ['
    + ID
    + ', ("name", models.CharField(max_length=80)), ("owner", models.ForeignKey("{core}.User", models.CASCADE, related_name="+"))])',
    'migrations.CreateModel("Note", ['
    + ID
    + ', ("item", models.ForeignKey("{app}.Item", models.CASCADE)), ("text", models.CharField(max_length=200))])',
    'migrations.AddField("Item", "colour", models.CharField(max_length=20, null=True))',
    'migrations.AlterField("Item", "name", models.CharField(max_length=80, db_index=True))',
    'migrations.CreateModel("Tag", [' + ID + ', ("name", models.CharField(max_length=80))])',
)


def names(number: int) -> list[str]:
    """What the sub-apps are called."""
    return [f"app{each:02}" for each in range(1, number + 1)]


def make_opal(number: int) -> list[Distribution]:
    """The sub-apps, each with its own history."""
    made = []
    for app in names(number):
        files = {
            f"{app}/__init__.py": "",
            f"{app}/opal.py": PLUGIN.format(app=app),
            f"{app}/models.py": MODELS.format(app=app),
        }
        parent = None
        for step in range(1, REVISIONS + 1):
            pins = 'opal_depends_on = {"core": ["core0003"]}\n' if step == 1 else ""
            files[f"{app}/migrations/{step:04}.py"] = _revision(app, step, parent, pins)
            parent = f"{app}r{step}"
        made.append(Distribution(app, files, {"opal_registry": {app: f"{app}.opal"}}))
    return made


def make_alembic(number: int) -> list[Distribution]:
    """One environment, whose one history holds the same operations in a row."""
    imports = "\n".join(f"import {app}.models" for app in names(number))
    files = {
        f"{CORE}/__init__.py": "",
        f"{CORE}/base.py": BASE,
        f"{CORE}/alembic/env.py": ENV.format(core=CORE, imports=imports),
        f"{CORE}/alembic.ini": INI.format(core=CORE),
    }
    files[f"{CORE}/alembic/script.py.mako"] = ""
    files[f"{CORE}/alembic/versions/users.py"] = _file(CORE, 0, "users", None, "", USERS)
    parent = "users"
    for app in names(number):
        models = MODELS.format(app=app).replace("opal_registry.database", f"{CORE}.base")
        files |= {f"{app}/__init__.py": "", f"{app}/models.py": models}
        for step in range(1, REVISIONS + 1):
            files[f"{CORE}/alembic/versions/{app}_{step}.py"] = _revision(app, step, parent, "")
            parent = f"{app}r{step}"
    return [Distribution(CORE, files)]


def make_django(number: int) -> list[Distribution]:
    """One project with as many applications, and the same migrations."""
    apps = ", ".join(f'"{app}"' for app in names(number))
    user = 'migrations.CreateModel("User", [' + ID + ', ("username", models.CharField(max_length=80))])'
    files = {
        f"{CORE}/__init__.py": "",
        f"{CORE}/settings.py": DJANGO_SETTINGS.format(core=CORE, apps=apps),
        f"{CORE}/models.py": DJANGO_USER,
        f"{CORE}/migrations/__init__.py": "",
        f"{CORE}/migrations/step0.py": DJANGO_MIGRATION.format(parent="", operation=user),
    }
    for app in names(number):
        files |= {
            f"{app}/__init__.py": "",
            f"{app}/models.py": DJANGO_MODELS.format(core=CORE),
            f"{app}/migrations/__init__.py": "",
        }
        parent = f'("{CORE}", "step0")'
        for step, operation in enumerate(DJANGO_STEPS, 1):
            text = DJANGO_MIGRATION.format(parent=parent, operation=operation.format(app=app, core=CORE))
            files[f"{app}/migrations/step{step}.py"] = text
            parent = f'("{app}", "step{step}")'
    return [Distribution(CORE, files)]


def _revision(app: str, step: int, parent: str | None, pins: str) -> str:
    return _file(app, step, f"{app}r{step}", parent, pins, STEPS[step - 1])


def _file(app: str, number: int, id_: str, parent: str | None, pins: str, bodies: tuple[str, str]) -> str:
    upgrade, downgrade = (body.format(app=app) for body in bodies)
    return REVISION.format(
        app=app, number=number, id=id_, parent=parent, pins=pins, upgrade=upgrade, downgrade=downgrade
    )

"""The generated suite for Django: the same tables; its migrations are written by Django itself, before the run."""

from benchmarks.generate import CORE, Distribution, Scale, class_name

SETTINGS = """\
import os
from urllib.parse import urlsplit

url = urlsplit(os.environ["DATABASE_URL"])
if url.scheme == "sqlite":
    DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": url.path[1:]}}}}
else:
    DATABASES = {{
        "default": {{
            "ENGINE": "django.db.backends.postgresql",
            "HOST": url.hostname,
            "PORT": url.port,
            "USER": url.username,
            "NAME": url.path[1:],
        }}
    }}
INSTALLED_APPS = {apps!r}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""

USER = """\
from django.db import models


class User(models.Model):
    username = models.CharField(max_length=80, unique=True)
    email = models.CharField(max_length=120, unique=True, null=True)
    hashed_password = models.CharField(max_length=256, null=True)
    first_name = models.CharField(max_length=80, null=True)
    last_name = models.CharField(max_length=80, null=True)
    is_active = models.BooleanField(db_default=True)
    roles = models.JSONField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "users"
"""

TABLE = """

class {cls}(models.Model):
    name = models.CharField(max_length=80)
    note = models.CharField(max_length=200, null=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    is_active = models.BooleanField()
    made_at = models.DateTimeField()
    parent = models.ForeignKey("{parent}", models.CASCADE, null=True, db_index=False)
    user = models.ForeignKey("{core}.User", models.CASCADE, db_index=False)

    class Meta:
        db_table = "{table}"
        indexes = (
            models.Index(fields=["name"], name="ix_{table}_name"),
            models.Index(fields=["user"], name="ix_{table}_user_id"),
        )
"""


def make_django_suite(scale: Scale) -> list[Distribution]:
    """The suite for Django: one application per sub-app, one with ``users``, and the settings."""
    settings = SETTINGS.format(apps=[CORE, *scale.app_names])
    core = {f"{CORE}/__init__.py": "", f"{CORE}/models.py": USER, f"{CORE}/settings.py": settings}
    return [Distribution(CORE, core), *(Distribution(app, _package(app, scale)) for app in scale.app_names)]


def _package(app: str, scale: Scale) -> dict[str, str]:
    tables = [
        TABLE.format(cls=class_name(table), table=table, parent=class_name(parent), core=CORE)
        for table, parent in scale.iter_tables(app)
    ]
    return {f"{app}/__init__.py": "", f"{app}/models.py": "from django.db import models\n" + "".join(tables)}

"""Django, with connections that it keeps."""

import os
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import models
from django.http import HttpRequest, JsonResponse
from django.urls import path

URL = urlsplit(os.environ["URL"])
ENGINE = "sqlite3" if URL.scheme == "sqlite" else "postgresql"
DATABASE = {"ENGINE": f"django.db.backends.{ENGINE}", "NAME": URL.path.removeprefix("/"), "CONN_MAX_AGE": None}
if ENGINE == "postgresql":
    DATABASE |= {"HOST": URL.hostname, "PORT": URL.port, "USER": URL.username}

settings.configure(
    DATABASES={"default": DATABASE},
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # says how long a response is
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="benchmark",
)
django.setup()


class Reader(models.Model):
    """The table."""

    name = models.CharField(max_length=80)
    email = models.CharField(max_length=120)
    city = models.CharField(max_length=80)
    year = models.IntegerField()

    class Meta:
        """Django's own."""

        app_label, db_table, managed = "benchmark", "readers", False


def read(_request: HttpRequest, reader_id: int) -> JsonResponse:
    """One row."""
    found = Reader.objects.get(pk=reader_id)
    return JsonResponse({"id": found.pk, "name": found.name})


urlpatterns = [path("readers/<int:reader_id>", read)]
app = get_wsgi_application()

"""Upgrades that start at once: each revision runs exactly once, and all of them come to the end."""

import json
import os
import re
import socket

from tests.contenders import LONG
from tests.deploys import execute, rows
from tests.distributions import Site
from tests.revisions import release, revision
from tests.snapshots import rows_of
from tests.test_many_at_once import MANY, WAITS, start_at_once
from tests.test_upgrade import ADD, FIRST, N1, SECOND, first
from tests.writing import model, models, refers

COUNT = "op.execute(\"INSERT INTO runs VALUES ('{}')\")"
"""What a revision does to tell how often it ran."""


def install(site: Site, url: str) -> None:
    """Bring a database to the first release of a sub-app, and install the next one, another one, and a new one."""
    first(site)
    assert site.run("init", env={"OPAL_DATABASE__URL": url}).code == 0
    execute(url, "CREATE TABLE runs (id VARCHAR(9))")
    texts = [revision("n2", "n1", f"{COUNT.format('n2')}\n{ADD}"), revision("n3", "n2", COUNT.format("n3"))]
    release(site, "notes", "2.0", SECOND, N1, *texts)
    t1 = revision(
        "t1", None, f"{COUNT.format('t1')}\nop.create_table('tags', sa.Column('id', sa.Integer(), primary_key=True))"
    )
    tags = models(model("Tag", "tags"))
    release(site, "tags", "1.0", tags, t1, create="migrations", requires=("notes",))
    site.sub_app("labels", models(model("Label", "labels", refers("tag", "'tags.id'"))), requires=("tags",))


def test_each_revision_runs_exactly_once(site: Site, any_database_url: str) -> None:
    install(site, any_database_url)
    ended = start_at_once(site, [{"OPAL_DATABASE__URL": any_database_url}] * MANY, "upgrade", "--json")
    assert [each.code for each in ended] == [0] * MANY, ended
    assert sorted(rows(any_database_url, "SELECT id FROM runs")) == [("n2",), ("n3",), ("t1",)]
    ran = [one["revision"] for each in ended for one in json.loads(each.out).get("revisions", ())]
    assert sorted(ran) == ["n2", "n3", "t1"]
    assert all(WAITS.fullmatch(line) for each in ended for line in each.said), ended
    assert {row["outcome"] for row in rows_of(any_database_url, "opal_events")} == {"done"}
    assert rows_of(any_database_url, "opal_steps") == []


def test_one_that_takes_long_is_waited_for_and_named(site: Site, any_database_url: str) -> None:
    first(site)
    env: dict[str, str | None] = {"OPAL_DATABASE__URL": any_database_url}
    assert site.run("init", env=env).code == 0
    os.mkfifo(gate := site.cwd / "gate")
    release(site, "notes", "2.0", FIRST, N1, revision("n2", "n1", f"open({str(gate)!r}).read()"))
    runs = [site.start(*site.command("upgrade", "--json"), env=env)]
    with gate.open("w"):  # once the first one is in its revision
        runs.append(site.start(*site.command("upgrade", "--json"), env=env))
        assert runs[1].stderr is not None
        said = runs[1].stderr.readline()
    holder = re.escape(f"host {socket.gethostname()}, process {runs[0].pid}")
    assert re.match(f"waiting for another run of opal-db: {holder}, since ", said), said
    ends = [run.communicate(timeout=LONG) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ends
    assert [[each["revision"] for each in json.loads(out).get("revisions", ())] for out, _ in ends] == [["n2"], []]

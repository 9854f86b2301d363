"""An import that hangs is ended, and says where."""

import json

import pytest

from tests.distributions import Site
from tests.writing import HOOK, complaint, model, models

SOON = {"OPAL_SUB_APPS__IMPORT_TIMEOUT": "1s"}
MEND = "\n  mend:  leave the plugin out with sub_apps.disabled, or give it longer with sub_apps.import_timeout"


@pytest.mark.parametrize(
    ("file", "source", "doing", "stack"),
    [
        pytest.param(
            "opal",
            "import time\nwhile True: time.sleep(0.01)",
            "importing plugin 'alpha' (alpha 1.0, alpha.opal)",
            '  File "alpha/opal.py", line 2, in <module>\n    while True: time.sleep(0.01)',
            id="sleep in the plugin",
        ),
        pytest.param(
            "opal",
            "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
            "importing plugin 'alpha' (alpha 1.0, alpha.opal)",
            '  File "alpha/opal.py", line 4, in <module>\n    lock.acquire()',
            id="a lock in the plugin",
        ),
        pytest.param(
            "opal",
            f"{HOOK}    while True: pass\n    yield",
            "asking plugin 'alpha' (alpha 1.0, alpha.opal) for its sub-apps",
            '  File "alpha/opal.py", line 5, in opal_sub_apps\n    while True: pass',
            id="a loop in the hook",
        ),
        pytest.param(
            "models",
            "import time\ndef wait():\n    time.sleep(600)\nwait()",
            "importing alpha.models of sub-app 'alpha' (alpha 1.0)",
            '  File "alpha/models.py", line 4, in <module>\n    wait()\n'
            '  File "alpha/models.py", line 3, in wait\n    time.sleep(600)',
            id="sleep in the models",
        ),
        pytest.param(
            "models",
            "while True:\n    try: import time; time.sleep(600)\n    except BaseException: pass",
            "importing alpha.models of sub-app 'alpha' (alpha 1.0)",
            '  File "alpha/models.py", line 2, in <module>\n    try: import time; time.sleep(600)',
            id="models that catch everything",
        ),
    ],
)
def test_what_hangs_is_ended_with_its_name_and_its_stack(
    quick_site: Site, file: str, source: str, doing: str, stack: str
) -> None:
    quick_site.sub_app("alpha", "x = 1", files={f"alpha/{file}.py": source})
    assert complaint(quick_site, "init", OPAL_SUB_APPS__IMPORT_TIMEOUT="1s") == (
        f"{doing} does not end: it was given 1 s\n  where: this is where it hangs\n{stack}{MEND}"
    )
    assert not list(quick_site.cwd.iterdir())


def test_machines_are_told_too(quick_site: Site) -> None:
    quick_site.sub_app("alpha", "import time\ntime.sleep(600)")
    done = quick_site.run("init", "--json", env=SOON)
    error = json.loads(done.out)["error"]
    assert (done.code, error["kind"], error["exit_code"]) == (3, "PluginError", 3)
    assert error["problems"][0]["what"].endswith("does not end: it was given 1 s")


def test_code_that_lets_no_other_thread_run_is_ended_as_well(quick_site: Site) -> None:
    quick_site.sub_app("alpha", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')")
    done = quick_site.run("init", env=SOON, timeout=20)
    assert done.code == 1
    assert f'File "{quick_site.folder}/alpha/models.py", line 2' in done.err


def test_each_import_has_the_time_for_itself(quick_site: Site) -> None:
    wait = "import time; time.sleep(0.4)\n"
    quick_site.sub_app("alpha", wait + models(model("A", "alphas")), hooks=wait)
    quick_site.sub_app("beta", wait)
    assert quick_site.run("apps", "list", env=SOON).code == 0


def test_what_ended_in_time_is_left_alone_when_its_time_is_over(quick_site: Site) -> None:
    lasting = "import time\n@hookimpl\ndef opal_seed(session):\n    time.sleep(2.5)\n"
    quick_site.sub_app("alpha", models(model("A", "alphas")), hooks=lasting)
    assert quick_site.run("init", env=SOON).code == 0

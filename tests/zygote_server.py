"""The process that :mod:`tests.zygote` forks programs from; a script."""

import json
import os
import runpy
import sys
import traceback
from importlib import import_module
from typing import Any, NoReturn

LIBRARIES = (
    "alembic.migration",
    "opal_registry.cli.main",
    "opal_registry.cli.views",
    "opal_registry.status",
    "pwdlib.hashers.argon2",
    "pwdlib.hashers.bcrypt",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
)


def serve() -> None:
    """Fork a program for each line of standard input; answer with its process id, and with its exit code in the end."""
    for name in LIBRARIES:
        import_module(name)
    assert "opal_registry.models" not in sys.modules
    sys.dont_write_bytecode = True
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(**json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(*, arguments: list[str], env: dict[str, str], cwd: str, streams: dict[str, str]) -> NoReturn:
    """Be the program: its directory, its variables, its streams, its path; then run it, and end."""
    for number, flags in enumerate((os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2)):
        os.dup2(os.open(streams[("stdin", "stdout", "stderr")[number]], flags, 0o600), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:1] = ["", *env.get("PYTHONPATH", "").split(os.pathsep)]
    code = _call(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _call(kind: str, what: str, *arguments: str) -> int:
    sys.argv = [kind, *arguments]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            namespace: dict[str, Any] = {"__name__": "__main__"}
            exec(compile(what, "<string>", "exec"), namespace)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()

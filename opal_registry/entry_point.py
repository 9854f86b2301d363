"""One entry point: what it names, which hooks that implements, which sub-apps it contributes.

What is wrong is said here; which plugin it is wrong with is added by the guard around these calls.
"""

import difflib
import inspect
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint
from itertools import islice

import pluggy

from opal_registry import hookspecs
from opal_registry.errors import PluginError, Problem
from opal_registry.sub_app import SubApp

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("opal_"))
MOST_SUB_APPS = 1000
"""More than this from one plugin is a loop that does not end."""


def load_object(value: str) -> object:
    """Import what an entry point (or another setting of that form) names.

    Args:
        value: ``package.module`` or ``package.module:attribute``.

    Raises:
        PluginError: If it is written in another way, or there is no such attribute.
    """
    parts = EntryPoint.pattern.match(value)
    if parts is None:
        mend = "write it like standupbot.opal, or standupbot.opal:plugin"
        raise PluginError(Problem(f"the entry point cannot be {value!r}", mend=mend))
    loaded: object = import_module(parts["module"])
    for name in parts["attr"].split(".") if parts["attr"] else ():
        if not hasattr(loaded, name):
            near = difflib.get_close_matches(name, dir(loaded), 1)
            mend = f"write {near[0]!r}" if near else "correct the name, or reinstall the distribution"
            raise PluginError(Problem(f"{parts['module']} has no attribute {name!r}", mend=mend))
        loaded = getattr(loaded, name)
    return loaded


def make_manager(plugin: object = None) -> pluggy.PluginManager:
    """Make a plugin manager that knows the hooks, and at most one plugin.

    Args:
        plugin: What an entry point names; none where sub-apps have no plugin of their own.

    Raises:
        PluginError: If it implements no hook, or one that there is not, or one with other arguments.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if plugin is not None:
        _register(manager, plugin)
    return manager


def get_sub_apps(manager: pluggy.PluginManager) -> list[SubApp]:
    """Ask a plugin for its sub-apps; what its hook yields is exhausted here.

    Raises:
        PluginError: If the hook returns or yields anything else.
    """
    hook = manager.hook.opal_sub_apps
    if not hook.get_hookimpls():
        return []
    contributed: list[object] = []
    for result in hook() or [None]:
        if isinstance(result, (str, bytes, dict)) or not isinstance(result, Iterable):
            raise _wrong_type(f"opal_sub_apps returned {_a(result)}")
        contributed += islice(result, MOST_SUB_APPS + 1)
    if len(contributed) > MOST_SUB_APPS:
        raise PluginError(Problem(f"opal_sub_apps yielded more than {MOST_SUB_APPS} sub-apps", mend="end the loop"))
    return [_checked(item) for item in contributed]


def _register(manager: pluggy.PluginManager, plugin: object) -> None:
    if inspect.isroutine(plugin) or isinstance(plugin, type):
        kind = "class" if isinstance(plugin, type) else "function"
        mend = "let the entry point name the module, or an object, whose functions carry @hookimpl"
        raise PluginError(Problem(f"the entry point names a {kind}", mend=mend))
    try:
        manager.register(plugin, name=hookspecs.PROJECT)
    except pluggy.PluginValidationError as error:
        raise _wrong_arguments(error) from error
    implemented = {caller.name for caller in manager.get_hookcallers(plugin) or ()}
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(*map(_no_such_hook, sorted(implemented.difference(HOOKS)))) from error
    unmarked = [name for name in HOOKS if name not in implemented and callable(getattr(plugin, name, None))]
    if unmarked:
        raise PluginError(*map(_not_marked, unmarked))
    if not implemented:
        mend = "let the entry point name the module, or the object, whose functions carry @hookimpl from opal_registry"
        raise PluginError(Problem("it implements no hook", mend=mend))


def _wrong_arguments(error: pluggy.PluginValidationError) -> PluginError:
    """What pluggy says about a function's signature, with the right one."""
    first, *rest = str(error).splitlines()
    hook = next(name for name in HOOKS if repr(name) in first)
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    mend = f"write it as {hook}({arguments}), or with fewer of these arguments"
    return PluginError(Problem(": ".join(rest), mend=mend))


def _no_such_hook(name: str) -> Problem:
    near = difflib.get_close_matches(name, HOOKS, 1)
    mend = f"write {near[0]!r}" if near else f"the hooks are: {', '.join(HOOKS)}"
    return Problem(f"there is no hook {name!r}", mend=mend)


def _not_marked(name: str) -> Problem:
    what = f"{name} does not carry @hookimpl, so nobody would call it"
    return Problem(what, mend="write @hookimpl above it, from opal_registry import hookimpl")


def _checked(item: object) -> SubApp:
    if not isinstance(item, SubApp):
        raise _wrong_type(f"opal_sub_apps yielded {_a(item)}")
    return item


def _wrong_type(what: str) -> PluginError:
    return PluginError(Problem(what, mend="yield SubApp(...) objects, imported from opal_registry"))


def _a(value: object) -> str:
    if value is None:
        return "nothing (None)"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"

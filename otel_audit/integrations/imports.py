"""Wraps a package's classes at the moment at which the site itself imports it, and never imports it for the site.

Importing Django REST framework or SimpleJWT in ``ready()`` would read their settings, and import the classes named
there, before the site does; a site that has them installed and unused would pay for them. So a finder that finds
nothing itself stands first in ``sys.meta_path`` and lets the wraps run as soon as a module has been executed.
"""

from __future__ import annotations

import functools
import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final
from weakref import WeakSet

from otel_audit.edges import edge

__all__ = ["when_imported", "wrap"]

Wraps = Callable[[Any], None]

_waiting: Final[dict[str, list[Wraps]]] = {}
_wrappers: Final[WeakSet[Callable[..., Any]]] = WeakSet()


def when_imported(name: str, wraps: Wraps) -> None:
    """Call ``wraps`` with the module ``name`` now if it has been imported, and each time that it is from now on."""
    waiting = _waiting.setdefault(name, [])
    if wraps not in waiting:
        waiting.append(wraps)
    if _watch not in sys.meta_path:
        sys.meta_path.insert(0, _watch)
    if (module := sys.modules.get(name)) is not None:
        _run([wraps], module)


def wrap(owner: type, name: str, around: Callable[..., Any]) -> None:
    """Replace the method ``name`` of ``owner`` by one that calls ``around(original, self, *args, **kwargs)``.

    A method that ``owner`` inherits stays overridable by classes between it and the one that defines it. A class
    method's wrapper gets the class in the place of ``self``. Wrapping twice is wrapping once.

    Raises:
        AttributeError: ``owner`` has no such method.
    """
    template = getattr(owner, name)
    own = vars(owner).get(name)
    if getattr(own, "__func__", own) in _wrappers:
        return
    if own is None:

        def original(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(super(owner, self), name)(*args, **kwargs)
    else:
        original = getattr(own, "__func__", own)

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(original, self, *args, **kwargs)

    functools.update_wrapper(wrapper, template)
    # ``View.as_view`` copies the attributes of ``dispatch`` onto the view, which wraps nothing.
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # update_wrapper has set it
    _wrappers.add(wrapper)
    setattr(owner, name, classmethod(wrapper) if isinstance(own, classmethod) else wrapper)


class _Watch(importlib.abc.MetaPathFinder):
    """Lets the other finders find a module that is waited for, and runs its wraps after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        wraps = _waiting.get(fullname)
        if wraps is None:
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec(fullname, path, target) if finder is not self and find_spec else None
            if spec is not None:
                with edge("integrations.imports"):
                    _follow(spec, wraps)
                return spec  # type: ignore[no-any-return]  # what every finder returns
        return None


_watch: Final = _Watch()


def _follow(spec: ModuleSpec, wraps: Sequence[Wraps]) -> None:
    """Let each of ``wraps`` run when the loader of ``spec`` has executed the module."""
    loader: Any = spec.loader
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        if module.__name__ == spec.name:  # some loaders, as those of archives, serve many modules
            _run(wraps, module)

    loader.exec_module = exec_module


def _run(wraps: Sequence[Wraps], module: ModuleType) -> None:
    for each in wraps:
        with edge(f"integrations.{module.__name__}"):
            each(module)

"""Django's options after a subcommand, too, where everybody writes them: ``otel_audit doctor --settings shop.x``."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, _SubParsersAction
from typing import Any

__all__ = ["accept_everywhere"]

#: Django reads ``--settings`` and ``--pythonpath`` wherever they stand, and only then asks the command's parser.
_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--settings",), {}),
    (("--pythonpath",), {}),
    (("-v", "--verbosity"), {"type": int, "choices": range(4)}),
    (("--traceback",), {"action": "store_true"}),
    (("--no-color",), {"action": "store_true"}),
    (("--force-color",), {"action": "store_true"}),
)


def accept_everywhere(parser: ArgumentParser) -> None:
    """Let the subcommands of ``parser``, and theirs, take Django's options; the help of ``parser`` explains them."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for child in action.choices.values():
                for names, given in _OPTIONS:
                    # Without a default, so that what stands before the subcommand is kept.
                    child.add_argument(*names, default=SUPPRESS, help=SUPPRESS, **given)
                accept_everywhere(child)

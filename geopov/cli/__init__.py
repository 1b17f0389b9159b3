"""The command ``geopov``: one subcommand a stage, and no science in it."""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import geopov
from geopov.cli._common import errors
from geopov.errors import GeopovError

_COMMANDS = ("catalog", "survey", "tiles", "features", "regression", "maps", "report", "run")


class _Commands(TyperGroup):
    """Commands by the name of their module, imported when one is asked for: a stage starts without the others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Their names are listed and suggested.
        names: dict[str, Any] = dict.fromkeys(_COMMANDS)
        self.commands = names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"geopov.cli.{cmd_name}")
        around = typer.Typer(add_completion=False)
        # Without it Typer takes one command for all there is.
        around.callback()(_nothing)
        if hasattr(module, "app"):
            around.add_typer(module.app, name=cmd_name)
        else:
            around.command(cmd_name)(getattr(module, cmd_name))
        found: Any = typer.main.get_command(around)
        return found.commands[cmd_name]


def _nothing() -> None:
    pass


app = typer.Typer(
    cls=_Commands,
    help="From satellite images and a household survey to poverty and density maps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"geopov {geopov.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """From satellite images and a household survey to poverty and density maps."""
    _hold_stage_lock()


def _hold_stage_lock() -> None:
    """Tell a later run in the same work folder that this stage is at work, even if its own run is dead."""
    path = os.environ.get("GEOPOV_STAGE_LOCK")
    if path:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # Released when this process ends, however it ends. A node may see the folder through a mount without locks.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise


def main() -> None:
    """Entry point: an expected error is one red line and exit code 2; ``--debug`` shows where it came from."""
    try:
        app()
    except GeopovError as error:
        if "--debug" in sys.argv[1:]:
            raise
        errors.print(f"[bold red]Error:[/] [red]{_escape(str(error))}[/]", highlight=False, soft_wrap=True)
        sys.exit(2)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")

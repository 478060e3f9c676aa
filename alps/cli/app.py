"""The installed command `alps` with its subcommands."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

#: Module and description of each subcommand.
COMMANDS = {
    "label": ("alps.cli.label", "cut images into masks, group them into classes, write a store"),
    "train": (
        "alps.cli.train",
        "pre-train, fine-tune, test and export a model, and predict images",
    ),
    "export": ("alps.cli.export", "write a store in the layout of another tool"),
    "verify": ("alps.cli.verify", "check a store and rebuild its damaged files"),
}
USAGE = "usage: alps COMMAND ...\n\n{}\n\n`alps COMMAND --help` describes its arguments."


def main() -> None:
    """Run the subcommand that the command line names."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command not in COMMANDS:
        is_help = command in ("-h", "--help")
        lines = "\n".join(f"  {name:<8} {what}" for name, (_, what) in COMMANDS.items())
        problem = "" if is_help else f"alps: no such command: {command}\n"
        (sys.stdout if is_help else sys.stderr).write(f"{problem}{USAGE.format(lines)}\n")
        sys.exit(0 if is_help else 2)
    module = import_module(COMMANDS[command][0])
    # Lightning starts further processes of a run by running sys.argv[0].
    sys.argv = [str(Path(str(module.__file__))), *arguments]
    module.start()

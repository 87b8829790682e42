"""The command line: one file a subcommand. A command parses, calls its room and prints; it
decides nothing. Exit codes: 0 done, 1 a gate or check failed, 2 wrong usage or input, 3 done but
for files that could not be read."""

from __future__ import annotations

import importlib
import os
import sys

import click

from llmwright import __version__
from llmwright.core import LLMwrightError

_COMMANDS = (
    "init",
    "build",
    "serve",
    "ask",
    "chat",
    "index",
    "chunks",
    "search",
    "train",
    "embed",
    "eval",
    "rag",
    "generate",
    "guard",
    "quantize",
    "context",
    "models",
)


class _Commands(click.Group):
    """Loads a subcommand's file when it is called, so that none pays for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"llmwright.cli.{cmd_name}")
        command: click.Command = module.command
        return command


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="llmwright")
def cli() -> None:
    """Build, measure and serve LLM applications.

    \b
    Example:
      llmwright init my-assistant --documents docs/
      llmwright build my-assistant
      llmwright ask my-assistant/release "How do I reset my password?"
    """


def main() -> None:
    """Run a command; turn an error of ours into one sentence and its exit code."""
    # PyTorch's threads spin for milliseconds at each end of a product. On a machine that does other
    # work too, a spinning thread holds the core that the thread it waits for needs: five times the
    # time. Read by libgomp when it is loaded, so it is set before any command imports PyTorch.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    try:
        cli(standalone_mode=False)
    except LLMwrightError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        more = f"; see: {context.command_path} --help" if context else ""
        _fail(f"{error.format_message().rstrip('.?')}{more}", error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; what was finished is kept, so running again goes on from there", 130)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "llmwright"):
            raise
        _fail(
            f"this command needs the package {package}, which is not installed; "
            "install everything with: pip install 'llmwright[all]'.",
            2,
        )
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:
            raise
        _fail(
            f"{error.filename}: {error.strerror}; check the path, its rights and the space left.", 2
        )


def _fail(sentence: str, code: int) -> None:
    click.echo(f"error: {sentence}", err=True)
    sys.exit(code)

"""Say what is wrong with a command line in the form of every other error: what, where, what was found, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import typer

from reprise.config.errors import ParameterError, printable
from reprise.config.texts.suggest import closest, nearest

_CHOICES = re.compile(r"is not one of (?P<choices>'.*')\.?$", re.DOTALL)
_NO_COMMAND = re.compile(r"No such command '(?P<name>.*?)'\.", re.DOTALL)
_EXTRA = re.compile(r"Got unexpected extra argument\(?s?\)? \((?P<words>.*)\)$", re.DOTALL)
_PYDANTIC = "Value error, "
_SHOWN = 3


class UsageMistake(ParameterError):
    """A command line names something that is not there, leaves something out, or gives a wrong value."""


def usage_error(error: typer.TyperException) -> UsageMistake:
    """Turn an error of the parser into a sentence of ours.

    The parser's exceptions have no public names, so they are told apart by what they carry.

    Args:
        error: what the parser raised.
    """
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "reprise"
    shows = f"`{where} --help` shows what it takes."
    message = error.message.strip() or error.format_message()
    if (match := _NO_COMMAND.match(message)) is not None:
        return _no_command(match["name"], where, context)
    if getattr(error, "possibilities", _ABSENT) is not _ABSENT:
        return _no_option(str(getattr(error, "option_name", "")), where, context)
    if hasattr(error, "param_type"):
        return UsageMistake(f"{_name_of(error)} is missing", where=where, found="nothing in its place", fix=shows)
    if (match := _EXTRA.match(message)) is not None:
        return UsageMistake("the command takes fewer arguments", where=where, found=f"also {match['words']}", fix=shows)
    if getattr(error, "param", None) is not None or getattr(error, "param_hint", None):
        return _wrong_value(error, message, where, shows)
    name = str(getattr(error, "option_name", ""))
    if "requires an argument" in message:
        return UsageMistake(f"{name} needs a value", where=where, found="nothing after it", fix=shows)
    if "does not take a value" in message:
        return UsageMistake(f"{name} takes no value", where=where, found=f"{name}=...", fix=f"Write {name} alone.")
    return UsageMistake("the command line cannot be read", where=where, found=message, fix=shows)


_ABSENT = object()


def _no_command(name: str, where: str, context: Any) -> UsageMistake:
    known = list(context.command.commands) if context is not None else []
    fix = f"{_meant(name, known)}`{where} --help` lists the commands."
    return UsageMistake("there is no such command", where=where, found=f"'{name}'", fix=fix)


def _no_option(name: str, where: str, context: Any) -> UsageMistake:
    known = sorted({word for param in context.command.params for word in (*param.opts, *param.secondary_opts)})
    options = [word for word in known if word.startswith("--")] + ["--help"]
    fix = f"{_meant(name, options)}`{where} --help` lists the options."
    return UsageMistake("there is no such option", where=where, found=f"'{name}'", fix=fix)


def _wrong_value(error: typer.TyperException, message: str, where: str, shows: str) -> UsageMistake:
    name = _name_of(error)
    details = getattr(error.__cause__, "errors", None)
    value = str(details()[0].get("input")) if details is not None else None
    if (match := _CHOICES.search(message)) is not None and value is not None:
        choices = re.findall(r"'(.*?)'(?:, |$)", match["choices"])
        fix = f"Use one of: {', '.join(choices)}.{nearest(value, choices)}"
        return UsageMistake(f"{name} has no such choice", where=where, found=f"'{value}'", fix=fix)
    sentence = message.removeprefix(_PYDANTIC).removeprefix("Input ").rstrip(".")
    if value is None:  # raised by the command itself, whose message says what was found
        return UsageMistake(f"{name} does not fit", where=where, found=sentence, fix=shows)
    return UsageMistake(f"{name} {_rule(sentence)}", where=where, found=f"'{value}'", fix=shows)


def _rule(sentence: str) -> str:
    """Return a rule as a clause that follows the name of an option."""
    if sentence.startswith("should "):
        return f"must {sentence.removeprefix('should ').partition(',')[0]}"
    return f"does not fit: {sentence}"


def _name_of(error: typer.TyperException) -> str:
    param = getattr(error, "param", None)
    if param is None:
        return str(getattr(error, "param_hint", None) or "an argument")
    long = [word for word in param.opts if word.startswith("--")]
    return str(long[0] if long else (param.metavar or param.name or "an argument").upper())


def _meant(word: str, known: Iterable[str]) -> str:
    found = [f"'{printable(choice, 60)}'" for choice in closest(word, known, _SHOWN)]
    return f"Did you mean {' or '.join(found)}? " if found else ""

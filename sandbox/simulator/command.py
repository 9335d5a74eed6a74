"""Verbs from typed functions: a signature is the order that the server checks, the client sends and argparse reads."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import types
import typing
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, create_model

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.simulator.wire import Json

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def size_of(text: str) -> int:
    """Bytes as a person writes them: 1000, 20M, 8GiB. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", text.strip().lower())
    if match is None or match.group(2) not in _UNITS:
        message = f"{text!r} is not a size; write for example 1000, 20M or 8GiB"
        raise argparse.ArgumentTypeError(message)
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def attachment_of(text: str) -> Json:
    """`NAME:SIZE`, with `:deflated` behind it for compressible bytes. Raises ArgumentTypeError."""
    name, _, rest = text.partition(":")
    size, _, form = rest.partition(":")
    if not name or not size or form not in ("", "deflated"):
        message = f"{text!r} is not a file; write NAME:SIZE or NAME:SIZE:deflated"
        raise argparse.ArgumentTypeError(message)
    return {"name": name, "size": size_of(size), "deflated": form == "deflated"}


def pair_of(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`; a value that is JSON is taken as such. Raises ArgumentTypeError."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        message = f"{text!r} is not NAME=VALUE"
        raise argparse.ArgumentTypeError(message)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@dataclass(frozen=True)
class Said:
    """How a person says a parameter: its help, another flag than its name, what else argparse is to know of it.

    `positional`: without a flag although it has a default. `default`: the command line's own. `read`: what the order
    gets for what argparse got.
    """

    help: str | None = None
    flag: str | None = None
    positional: bool = False
    default: object = None
    read: Callable[[Any], Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verb:
    """One thing that can be asked of a running simulator."""

    words: str
    """As a person says it; its path below `/_sim/` has slashes for spaces."""
    run: Callable[..., Any]
    help: str
    show: Callable[[Any], str] | None
    """The answer as a person reads it; None: as JSON."""
    order: type[BaseModel]
    said: Mapping[str, Said]

    @property
    def path(self) -> str:
        """Where the control API serves it."""
        return self.words.replace(" ", "/")

    def answer(self, simulator: object, given: Mapping[str, Any]) -> Any:
        """Check an order and carry it out. Raises ValidationError, and what the function raises."""
        order = self.order.model_validate(given)
        return self.run(simulator, **{name: getattr(order, name) for name in type(order).model_fields})

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Give a parser the arguments of the order."""
        for name, known in self.order.model_fields.items():
            said = self.said.get(name, Said())
            settings = {"help": said.help, **_settings_of(known.annotation), **said.settings}
            if known.is_required() or said.positional:
                if not known.is_required() and "nargs" not in settings:
                    settings["nargs"] = "?"
                if settings.pop("action", None):
                    settings.setdefault("nargs", "+")
                parser.add_argument(name, **settings)
                continue
            default = known.get_default() if said.default is None else said.default
            settings.setdefault("default", [] if settings.get("action") == "append" else default)
            parser.add_argument(said.flag or "--" + name.replace("_", "-"), dest=name, **settings)

    def order_of(self, given: argparse.Namespace) -> Json:
        """What the client sends for a command line."""
        order: Json = {}
        for name, known in self.order.model_fields.items():
            value, said = getattr(given, name), self.said.get(name, Said())
            if _is(known.annotation, dict):
                value = dict(value)
            if said.read is not None:
                value = said.read(value)
            if value not in (None, [], {}):
                order[name] = value
        return order


def _settings_of(annotation: Any) -> Json:
    """What argparse makes of a type."""
    if annotation is bool:
        return {"action": "store_true"}
    if _is(annotation, dict):
        return {"action": "append", "type": pair_of, "metavar": "NAME=VALUE"}
    if _is(annotation, list):
        return {"action": "append"}
    return next(({"type": kind} for kind in (int, float) if _is(annotation, kind)), {})


def _is(annotation: Any, kind: type) -> bool:
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is(part, kind) for part in get_args(annotation))
    if get_origin(annotation) is typing.Annotated:
        return _is(annotation.__origin__, kind)
    return annotation is kind or get_origin(annotation) is kind


def verb_of(words: str, run: Callable[..., Any], text: str, show: Callable[[Any], str] | None) -> Verb:
    """The verb of a function whose first parameter is the simulator."""
    hints = typing.get_type_hints(run, localns={"Simulator": object}, include_extras=True)
    fields: Json = {}
    said: dict[str, Said] = {}
    for parameter in list(inspect.signature(run).parameters.values())[1:]:
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
        for note in getattr(hints[parameter.name], "__metadata__", ()):
            if isinstance(note, Said):
                said[parameter.name] = note
    order = create_model(run.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    return Verb(words, run, text, show, order, said)

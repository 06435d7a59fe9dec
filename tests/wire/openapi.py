"""Judges recorded exchanges by Discord's own OpenAPI description.

The description is not part of this repository: the variable DISCORD_OPENAPI names a copy of
`specs/openapi.json` of Discord's public repository `discord-api-spec`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from bot.sandbox.exchanges import Exchange

Json = dict[str, Any]
URI = "urn:discord:openapi"


class Judge:
    """Compares requests and replies with the description in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._spec: Json = json.loads(path.read_text(encoding="utf-8"))
        resource = DRAFT202012.create_resource(self._spec)
        self._registry: Registry[Any] = Registry().with_resource(URI, resource)
        # Compiled, since a connecting bot's list of commands takes a quarter of a second otherwise.
        self._compiled = jsonschema_rs.Registry([(URI, self._spec)])
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self.judged = 0

    def complaints(self, exchanges: Iterable[Exchange]) -> list[str]:
        """Return one line for each request or reply that does not fit; cut ones are skipped."""
        return [line for exchange in exchanges for line in self.judge(exchange)]

    def judge(self, exchange: Exchange) -> list[str]:
        """Return what is wrong with one exchange.

        Requests that were refused are not judged, nor are the replies of proxies (5xx).
        """
        if exchange.status == 0 or exchange.status >= 500:
            return []
        where = f"{exchange.method} {exchange.route}"
        operation = self._spec["paths"].get(exchange.route, {}).get(exchange.method.lower())
        if operation is None:
            return [f"{where}: no such operation"]
        self.judged += 1
        at = f"/paths/{_escape(exchange.route)}/{exchange.method.lower()}"
        found: list[str] = []
        if exchange.status < 400 and exchange.request is not None:
            pointer = f"{at}/requestBody/content/application~1json/schema"
            if self._at(pointer) is None:
                found.append(f"{where}: a body is sent where none is described")
            else:
                request = normalised(exchange.request)
                found += self._check(f"{where} request", pointer, request)
        found += self._judge_reply(where, at, exchange, operation["responses"])
        return found

    def _judge_reply(self, where: str, at: str, exchange: Exchange, replies: Json) -> list[str]:
        status = str(exchange.status)
        key = status if status in replies else f"{status[0]}XX"
        if key not in replies:
            return [f"{where}: the status {status} is not described"]
        pointer = f"{at}/responses/{key}"
        if reference := replies[key].get("$ref"):
            pointer = str(reference).removeprefix("#")
        pointer += "/content/application~1json/schema"
        if self._at(pointer) is None:
            return [f"{where}: {status} has a body"] if exchange.response else []
        reply = exchange.response
        if exchange.status >= 400:
            reply = numbered(reply)
        return self._check(f"{where} reply {status}", pointer, reply)

    def _check(self, where: str, pointer: str, instance: Any) -> list[str]:
        if pointer not in self._validators:
            self._validators[pointer] = jsonschema_rs.Draft202012Validator(
                {"$ref": f"{URI}#{quote(pointer)}"}, registry=self._compiled
            )
        if self._validators[pointer].is_valid(instance):
            return []
        # The slow library knows which of many possible forms was meant.
        explained = Draft202012Validator({"$ref": f"{URI}#{pointer}"}, registry=self._registry)
        error = best_match(explained.iter_errors(instance))
        if error is None:
            return [f"{where}: {next(self._validators[pointer].iter_errors(instance)).message}"]
        message = error.message if len(error.message) < 300 else error.message[:300] + "…"
        return [f"{where} at {error.json_path}: {message}"]

    def _at(self, pointer: str) -> Any:
        node: Any = self._spec
        for step in pointer.split("/")[1:]:
            if not isinstance(node, dict):
                return None
            node = node.get(step.replace("~1", "/").replace("~0", "~"))
        return node


def normalised(body: Any) -> Any:
    """Return a request with discord.py's known deviations put right: ids sent as numbers."""
    body = copy.deepcopy(body)
    parts = [body, body.get("data")] if isinstance(body, dict) else []
    for part in parts:
        if not isinstance(part, dict):
            continue
        part.update({key: str(part[key]) for key in ("recipient_id",) if key in part})
        for entry in part.get("attachments") or []:
            entry["id"] = str(entry["id"])
        reference = part.get("message_reference") or {}
        for key in ("message_id", "channel_id", "guild_id"):
            if reference.get(key) is not None:
                reference[key] = str(reference[key])
        mentions = part.get("allowed_mentions") or {}
        for key in ("users", "roles"):
            if isinstance(mentions.get(key), list):
                mentions[key] = [str(entry) for entry in mentions[key]]
    return body


def numbered(reply: Any) -> Any:
    """Return an error reply with its fields' codes as numbers.

    Discord documents and sends names there (BASE_TYPE_MAX_LENGTH); its description says integer.
    """
    if isinstance(reply, dict):
        return {
            key: [{**entry, "code": 0} for entry in value] if key == "_errors" else numbered(value)
            for key, value in reply.items()
        }
    return reply


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")

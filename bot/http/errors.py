"""Answers to refusals: `{"detail": …}`, or OpenAI's shape under `/v1`."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from bot.errors import (
    InvalidRequest,
    JobNotFound,
    LimitReached,
    NotAllowed,
    QueueClosed,
    StorageRefused,
    UserError,
)
from bot.http.body_faults import fault_of
from bot.http.openai_schemas import OpenAIBody
from bot.http.request_ids import request_id
from bot.http.schemas import GenerateBody
from bot.rules.refusals import OpenJobsReached, QuotaReached
from bot.rules.wording import worded

log = logging.getLogger(__name__)

B = TypeVar("B", bound=BaseModel)

OPENAI_PATH: Final = "/v1/"
RETRY_AFTER_S: Final = 30
_JOB_ENDS_S: Final = 10
"""What is said where one of the caller's jobs has to end first: about a picture's time."""
_CLIENTS_WAIT_S: Final = 60
"""Seconds of a Retry-After up to which OpenAI's clients obey it; above they guess."""
_STATUS: Final[Mapping[type[UserError], int]] = {
    InvalidRequest: 422,
    LimitReached: 429,
    NotAllowed: 403,
    JobNotFound: 404,
    QueueClosed: 503,
    StorageRefused: 503,
}
_CODES: Final[Mapping[int, str]] = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    408: "timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    500: "internal_error",
    502: "engine_failed",
    503: "unavailable",
    504: "still_in_progress",
}
NO_SUCH_MODEL: Final = "model_not_found"
"""The code of a model that is not offered; OpenAI answers it with 404, not 400."""
_LONGEST: Final = 500
_FAULTS: Final = 5
_LONGEST_PATH: Final = 100
_OPENAI_ENDPOINTS: Final = (
    "There are POST /v1/images/generations, POST /v1/images/edits (a picture to start from) and "
    "GET /v1/models."
)
# DALL-E 2's alone, at OpenAI too: the models here draw by words.
_VARIATIONS: Final = "/v1/images/variations"
_NO_VARIATIONS: Final = (
    "a variation has no prompt, and pictures are drawn by one here. Send the picture with a prompt "
    "to POST /v1/images/edits, with strength to draw over it that far."
)


class Problem(HTTPException):
    """An answer other than the one that was asked for.

    `param` and `code` are what OpenAI's clients read of it: the field that is wrong, and a word for
    the kind of fault where the status alone does not say it.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        job_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(status, sentence, dict(headers or {}))
        self.job_id = job_id
        self.param = param
        self.code = code


def readable(sentence: str) -> str:
    """Return a sentence without what cannot be encoded, and not longer than anybody reads."""
    return sentence.encode("utf-8", "replace").decode()[:_LONGEST]


def worded_for_programs(error: UserError) -> str:
    """Return the sentence of an error with times in UTC, and with the endpoints that help."""
    if isinstance(error, OpenJobsReached):
        jobs = "job" if error.limit == 1 else "jobs"
        return (
            f"You already have {error.limit} {jobs} waiting or running; that is the limit. Cancel "
            "one with DELETE /api/v1/jobs/{id}, or wait until one is done."
        )
    return worded(error, lambda at: time.strftime("at %Y-%m-%dT%H:%M:%SZ", time.gmtime(round(at))))


def problem_of(error: UserError, seconds: int | None = None) -> Problem:
    """Return the answer to what the queue refuses; `seconds`: after which it may not, if known."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
    if isinstance(error, QuotaReached) and error.retry_at is None:
        status = 422  # More than the limit allows in all: it never passes.
    headers: dict[str, str] = {}
    if status == 429:  # noqa: PLR2004
        retry_at = error.retry_at if isinstance(error, LimitReached) else None
        if retry_at is not None:
            seconds = max(1, math.ceil(retry_at - time.time()))
        headers["Retry-After"] = str(seconds or _JOB_ENDS_S)
    elif status == 503:  # noqa: PLR2004
        headers["Retry-After"] = str(seconds or RETRY_AFTER_S)
    return Problem(status, worded_for_programs(error), headers=headers)


def unforeseen(error: Exception) -> Problem:
    """Log what nobody foresaw under a short id, and return the answer that names it."""
    short_id = secrets.token_hex(3)
    log.error("unexpected error %s in the request %s", short_id, request_id(), exc_info=error)
    return Problem(500, f"Something went wrong here; the log knows it as {short_id}.")


def answer(path: str, problem: Problem) -> Response:
    """Return the response to a problem, in the shape that the path's clients read."""
    sentence, status = readable(str(problem.detail)), problem.status_code
    headers = dict(problem.headers or {})
    if problem.job_id:
        headers["X-Job-Id"] = problem.job_id
    if not path.startswith(OPENAI_PATH):
        body: dict[str, Any] = {"detail": sentence}
        if problem.job_id:
            body["job_id"] = problem.job_id
        return JSONResponse(body, status, headers)
    if problem.code == NO_SUCH_MODEL:
        status = 404
    elif status == 422:  # noqa: PLR2004
        status = 400
    if problem.job_id or float(headers.get("Retry-After", 0)) > _CLIENTS_WAIT_S:
        # Asking again by itself would only draw it once more, or be refused once more.
        headers["x-should-retry"] = "false"
    return JSONResponse({"error": openai_error(problem, status)}, status, headers)


def openai_error(problem: Problem, status: int) -> dict[str, str | None]:
    """Return what OpenAI's clients read of a problem that is answered with a status."""
    kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004
    return {
        "message": readable(str(problem.detail)),
        "type": "rate_limit_error" if status == 429 else kind,  # noqa: PLR2004
        "param": None if problem.param is None else readable(problem.param),
        "code": problem.code or _CODES.get(status, "invalid_value"),
    }


def add_error_answers(app: FastAPI) -> None:
    """Answer every error of the endpoints with a sentence."""

    def refused(request: Request, error: Exception) -> Response:
        return answer(request.url.path, problem_of(cast("UserError", error)))

    def problem(request: Request, error: Exception) -> Response:
        if not isinstance(error, Problem):
            raised = cast("StarletteHTTPException", error)
            headers = dict(raised.headers or {})
            if raised.status_code == 404:  # noqa: PLR2004
                return answer(request.url.path, _nothing_there(request))
            if raised.status_code == 405:  # noqa: PLR2004
                headers["Allow"] = _methods(app, request)
            error = Problem(raised.status_code, str(raised.detail), headers=headers)
            if raised.status_code == 400:  # noqa: PLR2004 - FastAPI's, for what it cannot parse
                error = Problem(422, "The body is not valid JSON.")
        return answer(request.url.path, error)

    def invalid(request: Request, error: Exception) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            problem = Problem(415, "Send JSON, with the header Content-Type: application/json.")
            return answer(request.url.path, problem)
        found = cast("RequestValidationError", error).errors()
        schema = OpenAIBody if request.url.path.startswith(OPENAI_PATH) else GenerateBody
        return answer(request.url.path, wrong_body(found, schema))

    def unexpected(request: Request, error: Exception) -> Response:
        return answer(request.url.path, unforeseen(error))

    app.add_exception_handler(UserError, refused)
    app.add_exception_handler(StarletteHTTPException, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)


def validated(schema: type[B], values: object) -> B:
    """Return a body of a schema; raise `Problem` for what it refuses."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise wrong_body(found, schema) from None


def wrong_body(errors: Sequence[Mapping[str, Any]], schema: type[BaseModel]) -> Problem:
    """Return the answer to a body that its schema refuses, by pydantic's errors."""
    found = [fault_of(error, schema.model_fields) for error in errors[:_FAULTS]]
    sentence = "; ".join(one.sentence for one in found)
    return Problem(422, sentence, param=found[0].field, code=found[0].code)


def _nothing_there(request: Request) -> Problem:
    """Return the answer to a path that no endpoint has, with what there is instead."""
    asked = f"{request.method} {request.url.path[:_LONGEST_PATH]}"
    if request.url.path == _VARIATIONS:
        return Problem(404, f"There is no {asked}: {_NO_VARIATIONS}")
    if request.url.path.startswith(OPENAI_PATH):
        return Problem(404, f"There is no {asked}: this server draws pictures. {_OPENAI_ENDPOINTS}")
    return Problem(
        404,
        f"There is no {asked}: /docs shows what there is. The base URL of OpenAI's clients ends in "
        "/v1.",
    )


def _methods(app: FastAPI, request: Request) -> str:
    """Return what the path can be asked; each route by itself knows its own method alone."""
    found: set[str] = set()
    for method in ("DELETE", "GET", "HEAD", "POST"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in app.router.routes):
            found.add(method)
    return ", ".join(sorted(found))

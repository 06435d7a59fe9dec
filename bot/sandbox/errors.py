"""Discord's error replies, and the sentences that a refused user sees."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def entries(body: Json, key: str) -> list[Any]:
    """Return the list at `key`; empty where it is missing or null."""
    return body.get(key) or []


class ApiError(Exception):
    """A request of the bot is refused: HTTP `status`, Discord's JSON error `code`, `message`."""

    def __init__(self, status: int, code: int, message: str, errors: Json | None = None) -> None:
        super().__init__(f"{status} {code} {message}")
        self.status = status
        self.body: Json = {"message": message, "code": code}
        if errors:
            self.body["errors"] = errors


class Refusal(Exception):
    """Something a user tried is not possible; `sentence` is what Discord's client would show."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def unauthorized() -> ApiError:
    """Return the reply to a wrong bot token."""
    return ApiError(401, 0, "401: Unauthorized")


def not_found() -> ApiError:
    """Return the reply to a path that Discord does not have."""
    return ApiError(404, 0, "404: Not Found")


def unknown_channel() -> ApiError:
    """Return error 10003."""
    return ApiError(404, 10003, "Unknown Channel")


def unknown_guild() -> ApiError:
    """Return error 10004."""
    return ApiError(404, 10004, "Unknown Guild")


def unknown_message() -> ApiError:
    """Return error 10008."""
    return ApiError(404, 10008, "Unknown Message")


def unknown_user() -> ApiError:
    """Return error 10013."""
    return ApiError(404, 10013, "Unknown User")


def unknown_webhook() -> ApiError:
    """Return error 10015."""
    return ApiError(404, 10015, "Unknown Webhook")


def unknown_interaction() -> ApiError:
    """Return error 10062."""
    return ApiError(404, 10062, "Unknown interaction")


def unknown_command() -> ApiError:
    """Return error 10063."""
    return ApiError(404, 10063, "Unknown application command")


def too_large() -> ApiError:
    """Return error 40005."""
    return ApiError(413, 40005, "Request entity too large")


def already_acknowledged() -> ApiError:
    """Return error 40060."""
    return ApiError(400, 40060, "Interaction has already been acknowledged.")


def missing_access() -> ApiError:
    """Return error 50001."""
    return ApiError(403, 50001, "Missing Access")


def not_author() -> ApiError:
    """Return error 50005."""
    return ApiError(403, 50005, "Cannot edit a message authored by another user")


def empty_message() -> ApiError:
    """Return error 50006."""
    return ApiError(400, 50006, "Cannot send an empty message")


def no_direct_messages() -> ApiError:
    """Return error 50007."""
    return ApiError(403, 50007, "Cannot send messages to this user")


def missing_permissions() -> ApiError:
    """Return error 50013."""
    return ApiError(403, 50013, "Missing Permissions")


def too_many_follow_ups() -> ApiError:
    """Return error 40094."""
    text = "This interaction has reached the maximum number of follow-up messages"
    return ApiError(400, 40094, text)


def thread_archived() -> ApiError:
    """Return error 50083."""
    return ApiError(400, 50083, "Thread is archived")


def thread_locked() -> ApiError:
    """Return error 160005."""
    return ApiError(403, 160005, "Thread is locked")


def invalid_webhook_token() -> ApiError:
    """Return error 50027."""
    return ApiError(401, 50027, "Invalid Webhook Token")


class Form:
    """Collects the errors of one request body in Discord's nested shape (error 50035)."""

    def __init__(self) -> None:
        self._errors: Json = {}

    def add(self, *path: str | int, code: str, message: str) -> None:
        """Note that the field at `path` is wrong."""
        place = self._errors
        for key in path:
            place = place.setdefault(str(key), {})
        place.setdefault("_errors", []).append({"code": code, "message": message})

    def required(self, *path: str | int) -> None:
        """Note that the field at `path` is missing."""
        self.add(*path, code="BASE_TYPE_REQUIRED", message="This field is required")

    def length(self, value: object, low: int, high: int, *path: str | int) -> None:
        """Check that `value` is a text of `low` to `high` characters."""
        size = len(value) if isinstance(value, str) else 0
        if low and not size:
            self.required(*path)
        elif size > high:
            text = f"Must be {high} or fewer in length."
            self.add(*path, code="BASE_TYPE_MAX_LENGTH", message=text)
        elif size < low:
            text = f"Must be {low} or more in length."
            self.add(*path, code="BASE_TYPE_MIN_LENGTH", message=text)

    def count(self, size: int, low: int, high: int, *path: str | int) -> None:
        """Check that a list has `low` to `high` entries."""
        if not low <= size <= high:
            text = f"Must be between {low} and {high} in length."
            self.add(*path, code="BASE_TYPE_BAD_LENGTH", message=text)

    def check(self) -> None:
        """Raise error 50035 if anything was noted."""
        if self._errors:
            raise ApiError(400, 50035, "Invalid Form Body", self._errors)

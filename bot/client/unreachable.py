"""Why Discord could not be reached, in words."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp

from bot.config.proxy import Proxy


def why_unreachable(error: BaseException, proxy: Proxy | None = None) -> str:
    """Return a reason without a secret, for the log and the doctor."""
    reason = _reason(error)
    return f"{reason}; through the proxy {proxy}" if proxy else reason


def _reason(error: BaseException) -> str:
    match error:
        case aiohttp.ClientHttpProxyError(status=HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
            return "the proxy wants another user and password"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered {error.status}"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy does not answer: {_strerror(error.os_error)}"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known here (DNS)"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not valid"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorError():
            return f"no connection: {_strerror(error.os_error)}"
        case aiohttp.ServerDisconnectedError():
            return "it hung up"
        case OSError():
            return _strerror(error)
        case ValueError() | KeyError():
            return "its answer is not Discord's"
        case _:
            return type(error).__name__


def _strerror(error: OSError) -> str:
    return error.strerror or type(error).__name__

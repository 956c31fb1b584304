"""The JSON body of an HTTP error, in the form of the OpenAI API."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from services.edge.access.denied import Denied


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """`{"error": {"type", "code", "message"}}`; the type says whether the server or the request is at fault."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"type": kind, "code": code, "message": message}}, status, headers)


class Refused(Denied):
    """The request is refused because of what it asks for."""

"""The refusal of a request. Pure."""


class Denied(Exception):
    """The request is refused, with this HTTP status, code and message; `create_app` and `Guard` make an answer of it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

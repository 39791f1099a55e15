"""A server that speaks S3 and fails on demand. It serves what the server of `tests.object_store` serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Refusal = Callable[[str, str], int | None]
"""From the method and the path (`/bucket/key`) of a request to the status of an error, or None."""

_CODES = {403: "AccessDenied", 500: "InternalError", 501: "NotImplemented", 503: "SlowDown"}


class FailingServer:
    """A server in a thread of this process.

    Attributes:
        refuse: asked about every request.
        requests: method and path of all requests.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        self.refuse: Refusal = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=MotoRequestHandler)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        status = self.refuse(method, path)
        if status is None:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{status} Refused", [("Content-Type", "application/xml")])
        return [f"<Error><Code>{_CODES[status]}</Code><Message>Refused by the test</Message></Error>".encode()]


@contextmanager
def failing() -> Iterator[FailingServer]:
    """A server while the context is open; set `AWS_ENDPOINT_URL` to `http://127.0.0.1:{server.server.port}`."""
    served = FailingServer()
    thread = threading.Thread(target=served.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        thread.join()

"""A local server that speaks S3 over HTTP, and what tests put into it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

ACCESS_KEY, SECRET_KEY = "AKIAXTESTXTESTXTEST0", "test/secret+that/must+never/be+shown0000"
"""Credentials in the environment of the tests; no output may hold them."""

Answer = tuple[int, dict[str, str], Iterable[bytes]]
Rule = Callable[[str, str, str], tuple[int, str] | Answer | None]
"""Is given method, path and query of a request, and returns in its place status and code of an error, or status,
headers and body of another answer, or None."""


class _Front:
    """What stands before the server: it notes requests, delays them, and answers some with an error."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.rule: Rule | None = None
        self.seconds = 0.0
        self.requests: list[str] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def before(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            method, path, query = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")
            if path.startswith("/moto-api"):
                return app(environ, start)
            with self.lock:
                self.requests.append(f"{method} {path}{'?' if query else ''}{query}")
                self.at_once += 1
                self.most_at_once = max(self.at_once, self.most_at_once)
            time.sleep(self.seconds)
            try:
                refused = self.rule(method, path, query) if self.rule else None
                if refused is None:
                    return app(environ, start)
                if len(refused) == 3:
                    start(f"{refused[0]} Other", list(refused[1].items()))
                    return refused[2]
                status, code = refused
                body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
                start(f"{status} Refused", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
                return [] if method == "HEAD" else [body]
            finally:
                with self.lock:
                    self.at_once -= 1

        return answer


FRONT = _Front()


class ObjectStore:
    """The server, empty at the start of each test.

    Attributes:
        endpoint: its address, e.g. `http://127.0.0.1:4567`.
        front: its faults, delay and log of requests.
        client: of boto3, for it; requests of it pass the front too.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint, self.front = endpoint, FRONT
        self.client = _client(endpoint)

    def bucket(self, name: str = "case") -> str:
        """Make a bucket."""
        self.client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def get(self, bucket: str, key: str) -> bytes:
        """Read an object."""
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())

    def upload(self, folder: Path, bucket: str, prefix: str = "") -> None:
        """Write every file of a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, prefix + path.relative_to(folder).as_posix(), path.read_bytes())

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """All keys below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@cache  # it takes a second
def _client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )


@contextmanager
def served() -> Iterator[str]:
    """The address of a server that runs in a thread."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = FRONT.before(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


def fresh(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server without any bucket, and the environment of this process, and of its children, set to it."""
    FRONT.reset()
    urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
    }.items():
        monkeypatch.setenv(name, value)
    return ObjectStore(endpoint)

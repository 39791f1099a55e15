"""URLs, credentials that never show, and errors of stores."""

from __future__ import annotations

import socket

import pytest

from clue_cli import remote
from clue_cli.errors import OutputError, UsageError
from clue_cli.remote import Problem, RemoteError, filesystem, is_url, parse, safe, scrubbed, store_errors
from tests.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/a/b.jpg", "s3://bucket/a/b.jpg"),
        ("S3A://bucket/a//", "s3://bucket/a"),
        ("gcs://bucket/a ", "gs://bucket/a "),
        ("s3://bucket/a?b#c@d:e.jpg", "s3://bucket/a?b#c@d:e.jpg"),
        ("sftp://me@host/x", "sftp://me@host/x"),
    ],
)
def test_urls_are_known_and_have_one_form(text: str, url: str) -> None:
    assert is_url(text)
    assert str(parse(text)) == url


@pytest.mark.parametrize("text", ["file:///x", "C:/x", "C:\\x", "a/b", "s3:/bucket", "//host/x", "a b://x", ""])
def test_paths_are_no_urls(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIAEXAMPLE:hidden@bucket/a",
        "s3://AKIAEXAMPLE:hid/hidden@bucket/a",
        "s3://hidden@bucket/a",
        "https://me:hidden@host/a.jpg",
        "sftp://me:hidden@host/a.jpg",
        "s3://bucket/a.jpg?X-Amz-Signature=hidden",
        "https://host/a.jpg?X-Amz-Expires=1&X-Amz-Credential=hidden",
        "https://host/a.jpg?key=hidden",
        "https://host/a.jpg#hidden",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert "hidden" not in f"{caught.value} {caught.value.advice} {safe(text)}"


@pytest.mark.parametrize("text", ["memory://x", "simplecache::s3://b/x", "s3:///x", "s3://a b/c", "s3://b/\udc80"])
def test_what_is_no_remote_file_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_a_missing_plug_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(UsageError, match="extra `s3`") as caught:
        filesystem(parse("s3://bucket"))
    assert caught.value.advice == "pip install 'clue-forensics[s3]'"
    with pytest.raises(UsageError, match="protocol gs, which is not installed"):
        filesystem(parse("gs://bucket"))


def test_what_a_library_says_loses_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "geheimnis-7")
    said = (
        "GET https://me:pass-1@host/k?X-Amz-Signature=abc-2 AKIAABCDEFGHIJKLMNOP Signature=def-3, secret: 'ghi-4' "
        "geheimnis-7 failed"
    )
    clean = scrubbed(said)
    assert not any(secret in clean for secret in ("pass-1", "abc-2", "AKIA", "def-3", "ghi-4", "geheimnis"))
    assert "host/k" in clean and "failed" in clean


def _problem(where: str) -> tuple[Problem, str]:
    url = parse(where)
    opened, _ = filesystem(url)
    with pytest.raises(OutputError) as caught, store_errors(url, raising=OutputError):
        opened.call_s3("get_object", Bucket=url.bucket, Key=url.key)
    text = f"{caught.value} {caught.value.advice}"
    assert ACCESS_KEY not in text and SECRET_KEY not in text
    assert caught.value.__cause__ is None
    return caught.value.problem, caught.value.message  # type: ignore[attr-defined]


def test_errors_of_a_store_say_what_where_and_why(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    object_store.bucket("case")
    assert _problem("s3://nowhere/a") == (
        Problem.NO_BUCKET,
        "s3://nowhere/a cannot be read: there is no such bucket.",
    )
    assert _problem("s3://case/a") == (Problem.MISSING, "s3://case/a cannot be read: it does not exist.")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert _problem("s3://case/a")[0] in (Problem.NO_CREDENTIALS, Problem.MISSING)  # a public bucket needs none


def test_an_endpoint_that_nobody_answers_at_is_given_up(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setattr(remote, "ATTEMPTS", 2)
        problem, message = _problem("s3://case/a")
    assert problem is Problem.UNREACHABLE and problem.is_total
    assert "the store cannot be reached" in message


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("ExpiredToken", Problem.EXPIRED),
        ("SignatureDoesNotMatch", Problem.WRONG_CREDENTIALS),
        ("403", Problem.DENIED),
        ("SlowDown", Problem.THROTTLED),
        ("PreconditionFailed", Problem.CHANGED),
        ("InvalidObjectState", Problem.FROZEN),
        ("Strange", Problem.OTHER),
    ],
)
def test_the_server_s_code_counts_also_behind_what_a_library_made_of_it(code: str, problem: Problem) -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    original = exceptions.ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")
    with pytest.raises(RemoteError) as caught, store_errors("s3://case/a"):
        raise OSError(22, "no") from original
    assert caught.value.problem is problem  # type: ignore[attr-defined]

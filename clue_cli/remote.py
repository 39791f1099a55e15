"""URLs of object stores and other remote file systems: their form, who opens them, and what their errors mean.

The plug-ins are those of fsspec (s3fs, gcsfs, …), imported when a URL is opened. Credentials come from where a plug-in
looks for them: the environment, a file of its own, the machine. They never stand in a URL, and what a library says is
shown without them.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from clue_cli.errors import ExitCode, UsageError
from clue_cli.terminal import printable
from model.errors import ClueError

CONNECT_SECONDS, READ_SECONDS = 10, 60
"""How long to wait for a connection, and for the next bytes."""

BODY_SECONDS = 900
"""How long the answer to one request may take, of at most 32 MiB."""

ATTEMPTS = 4
"""How often a request is tried. The waits in between double, and stay below 20 seconds."""

CONNECTIONS = 32
"""Most requests at once."""

_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+._-]+(?:::[A-Za-z0-9+._:/-]*?)?)://(?P<rest>.*)", re.DOTALL)
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_BUCKETS = frozenset({"s3", "gs"})
_WEB = frozenset({"http", "https"})
_NAMED_USER = frozenset({"sftp", "ssh", "smb", "hdfs", "abfs", "abfss"})  # `user@host` is no secret there
_LOCAL = frozenset({"local", "memory", "data", "asynclocal"})
_SIGNATURE = re.compile(
    r"[?&](x-(amz|goog)-(signature|credential|security-token)|awsaccesskeyid|googleaccessid|signature|sig|token)=", re.I
)

_EXTRAS = {"s3": "s3", "http": "s3", "https": "s3"}
"""The extra of clue that brings the plug-in of a protocol."""

_PACKAGES = {
    "gs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "oss": "ossfs",
}


class RemoteError(ClueError):
    """A URL cannot be opened, or its store cannot be reached or read any more."""

    exit_code = ExitCode.NOTHING_TO_SCAN


@dataclass(frozen=True, slots=True)
class Url:
    """Something in a store; `parse` makes one. It holds no credentials.

    Attributes:
        protocol: `s3`, `gs`, `https`, …; of several names of one protocol the usual one.
        path: bucket (or host) and key, without a slash at the end.
    """

    protocol: str
    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def bucket(self) -> str:
        """The bucket, or the host."""
        return self.path.partition("/")[0]

    @property
    def key(self) -> str:
        """What is below the bucket; empty: all of it."""
        return self.path.partition("/")[2]

    @property
    def shown(self) -> str:
        """As a person reads it: one printable line."""
        return printable(str(self))

    def below(self, path: str) -> Url:
        """What lies at a path below this."""
        return Url(self.protocol, f"{self.path}/{path}")

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"


def is_url(text: str) -> bool:
    """Whether a text is a URL, but for `file:`, which is a path."""
    match = _URL.fullmatch(text)
    return match is not None and match["protocol"].lower() != "file"


def safe(text: str) -> str:
    """A URL as it may be shown, whatever it holds: without user, password and query."""
    match = _URL.fullmatch(text.strip())
    if match is None:
        return printable(scrubbed(text))
    head, _, rest = match["rest"].rpartition("@")
    rest = re.split(r"[?#]", rest)[0]
    if ":" in head or match["protocol"].lower() not in _NAMED_USER:
        head = ""
    return printable(f"{match['protocol']}://{head}{'@' if head else ''}{rest}")


def parse(text: str) -> Url:
    """The URL that a text is.

    Raises:
        UsageError: it has credentials in it, which are not shown, or it is of a kind that is not read.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise UsageError(f"{safe(text)} is no URL.")
    protocol, rest = match["protocol"].lower(), match["rest"]
    protocol = _SAME.get(protocol, protocol)
    if "::" in protocol or "::" in rest.partition("/")[0]:
        raise UsageError(
            f"{safe(text)} is a chain of URLs, which clue does not open.", "Give the URL of the file or folder itself."
        )
    if protocol == "file" or protocol in _LOCAL:
        raise UsageError(f"{safe(text)} is not remote.", "Give a path.")
    host, _, key = rest.partition("/")
    _refuse_credentials(protocol, host, rest)
    if not host or (protocol in _BUCKETS and not _BUCKET.fullmatch(host)):
        what = "bucket" if protocol in _BUCKETS else "host"
        raise UsageError(f"The URL of the protocol {protocol} names no {what}.", f"Write {protocol}://{what.upper()}/…")
    try:
        rest.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{safe(text)} is not UTF-8.") from error
    return Url(protocol, f"{host}/{key}".rstrip("/"))


def _refuse_credentials(protocol: str, host: str, rest: str) -> None:
    advice = "Give them in the environment or the configuration file of the store, such as AWS_ACCESS_KEY_ID."
    user, at, _ = rest.rpartition("@") if protocol in _BUCKETS and ":" in host else host.rpartition("@")
    if at and (":" in user or protocol not in _NAMED_USER):
        raise UsageError(f"The URL of the protocol {protocol} has a user or a password in it.", advice)
    if _SIGNATURE.search(rest):
        raise UsageError(
            f"The URL of the protocol {protocol} has a signature or a token in it.",
            "Download the file and scan that, or give credentials in the environment.",
        )
    if protocol in _WEB and re.search(r"[?#]", rest):
        raise UsageError(
            f"{safe(f'{protocol}://{rest}')} goes on with a query, which may be secret.",
            "Download the file and scan that.",
        )


class Problem(Enum):
    """What went wrong with a store: in words, and with advice."""

    NO_BUCKET = "There is no such bucket.", "Check its name and the endpoint."
    MISSING = "It does not exist.", "Check the spelling."
    DENIED = "Access is denied.", "These credentials may not list or read it."
    NO_CREDENTIALS = (
        "No credentials were found.",
        "Set them as for the provider's own tools, such as AWS_ACCESS_KEY_ID or AWS_PROFILE; for a public bucket set "
        "FSSPEC_S3_ANON=true.",
    )
    EXPIRED = "The credentials have expired.", "Renew them and repeat the command; it resumes."
    WRONG_CREDENTIALS = "The credentials are not valid.", "Check them, the endpoint, and the clock of this machine."
    UNREACHABLE = "The store cannot be reached.", "Check the network and the endpoint, and repeat the command."
    THROTTLED = "The store refuses: there are too many requests.", "Repeat the command later."
    CHANGED = "It changed after it was listed.", "Scan it again when nothing writes to it."
    ELSEWHERE = "The bucket is in another region or at another endpoint.", "Set AWS_REGION or AWS_ENDPOINT_URL."
    REDIRECTED = (
        "It redirects to another address, which clue does not follow.",
        "Give the address that it leads to, or download the file and scan that.",
    )
    BROKEN = (
        "Its bytes do not arrive, while the store answers.",
        "Check the object, and repeat the command; it tries this one again.",
    )
    FROZEN = "It is in an archive tier of the store.", "Restore it there, and repeat the command."
    FULL = "The store has no room, or a quota is used up.", "Free some, and repeat the command."
    UNSUPPORTED = (
        "The store does not support the request.",
        "Results need conditional writes (If-None-Match). Update the store, or copy a local results folder into it.",
    )
    OTHER = "The store reports an error.", None

    @property
    def words(self) -> str:
        """A sentence."""
        return str(self.value[0])

    @property
    def advice(self) -> str | None:
        """What to do; None if that is not known."""
        return self.value[1]  # type: ignore[no-any-return]

    @property
    def is_total(self) -> bool:
        """Whether everything else in the store fails as well."""
        return self in (Problem.NO_CREDENTIALS, Problem.EXPIRED, Problem.WRONG_CREDENTIALS, Problem.UNREACHABLE)


_CODES = {
    Problem.NO_BUCKET: "NoSuchBucket",
    Problem.MISSING: "NoSuchKey NoSuchVersion NotFound 404 410",
    Problem.DENIED: "AccessDenied AllAccessDisabled AccountProblem Forbidden InvalidPayer NotSignedUp 401 403",
    Problem.EXPIRED: "ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired",
    Problem.WRONG_CREDENTIALS: "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken InvalidClientTokenId "
    "InvalidSecurity AuthFailure RequestTimeTooSkewed",
    Problem.THROTTLED: "SlowDown ServiceUnavailable Throttling ThrottlingException TooManyRequests "
    "TooManyRequestsException RequestLimitExceeded BandwidthLimitExceeded 429 503",
    Problem.CHANGED: "PreconditionFailed 412",
    Problem.ELSEWHERE: "PermanentRedirect TemporaryRedirect IllegalLocationConstraintException "
    "AuthorizationHeaderMalformed 301 302 303 307 308",
    Problem.FROZEN: "InvalidObjectState",
    Problem.UNSUPPORTED: "NotImplemented 501",
    Problem.FULL: "XMinioStorageFull QuotaExceeded InsufficientStorage 507",
}
_BY_CODE = {code: problem for problem, codes in _CODES.items() for code in codes.split()}

_BY_CLASS = {
    "NoCredentialsError": Problem.NO_CREDENTIALS,
    "PartialCredentialsError": Problem.NO_CREDENTIALS,
    "CredentialRetrievalError": Problem.NO_CREDENTIALS,
    "ProfileNotFound": Problem.NO_CREDENTIALS,
    "DefaultCredentialsError": Problem.NO_CREDENTIALS,
    "TokenRetrievalError": Problem.EXPIRED,
    "UnauthorizedSSOTokenError": Problem.EXPIRED,
    "SSOTokenLoadError": Problem.EXPIRED,
    "RefreshError": Problem.EXPIRED,
    "FileExpired": Problem.CHANGED,
    "_Redirected": Problem.REDIRECTED,
    "ConnectionError": Problem.UNREACHABLE,
    "EndpointConnectionError": Problem.UNREACHABLE,
    "HTTPClientError": Problem.UNREACHABLE,
    "ClientConnectionError": Problem.UNREACHABLE,
    "ClientPayloadError": Problem.UNREACHABLE,
    "IncompleteRead": Problem.UNREACHABLE,
}
_BY_ERRNO = {"ENOSPC": Problem.FULL, "EDQUOT": Problem.FULL, "EBUSY": Problem.THROTTLED}


def problem_of(error: BaseException) -> Problem:
    """What an error of a plug-in means."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for link in chain:  # what the server said is more than what a library made of it
        response: Any = getattr(link, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        status = getattr(link, "status", None) or getattr(link, "code", None)
        if (found := _BY_CODE.get(str(code)) or _BY_CODE.get(str(status))) is not None:
            return found
    for link in chain:
        for base in type(link).__mro__:
            if (found := _BY_CLASS.get(base.__name__)) is not None:
                return found
    for link in chain:
        if isinstance(link, FileNotFoundError):
            return Problem.MISSING
        if isinstance(link, PermissionError):
            return Problem.DENIED
        if isinstance(link, TimeoutError | ConnectionError):
            return Problem.UNREACHABLE
        if isinstance(link, OSError) and (found := _BY_ERRNO.get(errno.errorcode.get(link.errno or 0, ""))) is not None:
            return found
    return Problem.OTHER


def described(
    error: BaseException, where: str, doing: str = "read", problem: Problem | None = None
) -> tuple[Problem, str]:
    """What an error of a plug-in means, and a sentence about it without secrets.

    Args:
        where: what it is about, as it may be shown, e.g. `s3://bucket/key`.
        doing: `read`, `listed`, `written`, …
        problem: what the error means, if that is known better than from the error.
    """
    problem = problem or problem_of(error)
    said = ""
    if problem in (Problem.OTHER, Problem.UNREACHABLE, Problem.BROKEN, Problem.FULL):
        words = printable(scrubbed(str(error)))[:300].strip().rstrip(".")
        said = f" ({type(error).__name__}{': ' if words else ''}{words})"
    return problem, f"{where} cannot be {doing}: {problem.words[0].lower()}{problem.words[1:-1]}{said}."


@contextmanager
def store_errors(where: Url | str, doing: str = "read", raising: type[ClueError] = RemoteError) -> Iterator[None]:
    """Turn what a plug-in raises into an error that says what, where and why.

    Args:
        where: a URL, or what is shown in its place.
        doing: `read`, `listed`, `written`, …
        raising: the class of the error.

    Raises:
        ClueError: of the class `raising`. Its attribute `problem` is the `Problem`.
    """
    try:
        yield
    except (ClueError, MemoryError):
        raise
    except Exception as error:
        problem, message = described(error, where.shown if isinstance(where, Url) else where, doing)
        translated = raising(message, problem.advice)
        translated.problem = problem  # type: ignore[attr-defined]
        raise translated from None  # not the cause: its text may hold secrets


_SECRETS = re.compile(
    r"(?<=://)[^/@\s]+@"  # user and password
    r"|\?[^\s\"'<>]*"  # a query
    r"|\b(?:AKIA|ASIA|AROA|GOOG)[A-Z0-9]{12,}\b"
    r"|(?i:\b(?:signature|credential|[a-z-]*token|secret|password|authorization)[\"']?\s*[=:]\s*)[^\s,;]+"
)
_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.I)


def scrubbed(text: str) -> str:
    """What a library says, without URLs' users and queries, signatures, and the values of secret variables."""
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET_NAME.search(name):
            text = text.replace(value, "…")
    return _SECRETS.sub("…", text)


def filesystem(url: Url, raising: type[ClueError] = RemoteError) -> tuple[Any, str]:
    """The fsspec file system of a URL, which keeps no listings, and the path of the URL in it. No request is made.

    It may be used by several threads.

    Raises:
        UsageError: the plug-in is not installed, or there is none.
        ClueError: of the class `raising`: the plug-in cannot be set up, e.g. because a profile is missing.
    """
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(url.protocol)
    except (ImportError, ValueError) as error:
        raise _no_plugin(url, unknown=isinstance(error, ValueError)) from error
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if url.protocol == "s3":
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"mode": "standard", "max_attempts": ATTEMPTS},
            "max_pool_connections": CONNECTIONS,
        }
    elif url.protocol in _WEB:
        import aiohttp

        seconds = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        options["client_kwargs"] = {"timeout": seconds, "trace_configs": [trace]}
    with store_errors(url, "opened", raising):
        if url.protocol == "s3":
            options["config_kwargs"]["http_session_cls"] = _straight_session()
        opened = kind(**options)
        if hasattr(opened, "retries"):
            opened.retries = 2  # the client repeats its requests itself
    return opened, str(url) if url.protocol in _WEB else url.path


class _Redirected(Exception):
    """A web server sends clue to another address."""


async def _refuse_redirect(*_: Any) -> None:
    raise _Redirected


class _Straight:
    """An HTTP session that follows no redirect: another host would get the session token, and its bytes be read."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, method: str, **arguments: Any) -> Any:
        return self._session.request(method, **arguments, allow_redirects=False)


def _straight_session() -> type:
    from aiobotocore.httpsession import AIOHTTPSession  # type: ignore[import-untyped]

    if not hasattr(AIOHTTPSession, "_get_session"):
        raise UsageError("This version of aiobotocore is too old.", "pip install --upgrade aiobotocore s3fs")

    class Session(AIOHTTPSession):  # type: ignore[misc]
        async def _get_session(self, proxy_url: Any) -> _Straight:
            return _Straight(await super()._get_session(proxy_url))

    return Session


def _no_plugin(url: Url, *, unknown: bool) -> UsageError:
    if unknown:
        return UsageError(f"{url.shown}: no plug-in of fsspec is known for the protocol {url.protocol}.")
    extra, package = _EXTRAS.get(url.protocol), _PACKAGES.get(url.protocol)
    if extra is not None:
        return UsageError(
            f"{url.shown} needs the plug-in that the extra `{extra}` brings.", f"pip install 'clue-forensics[{extra}]'"
        )
    return UsageError(
        f"{url.shown} needs a plug-in of fsspec for the protocol {url.protocol}, which is not installed.",
        f"pip install {package}" if package else "Install the package that fsspec's documentation names for it.",
    )

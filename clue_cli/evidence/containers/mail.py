"""What is in a mail or a mailbox: attachments and other parts that are no text, and pictures within the text.

A mail's parts are numbered as IMAP numbers them, and so are those of a mail that is part of it. What was encoded is at
most as large as the mail, which is read into memory.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from email import policy
from email.errors import CloseBoundaryNotFoundDefect, HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from typing import BinaryIO, cast

from clue_cli.evidence.containers import Archive, Member, refused
from clue_cli.evidence.formats import HEAD_SIZE, Kind, kind_of, sniff
from clue_cli.evidence.streams import UNPACK_ADVICE, Budget, ReadFailure
from clue_cli.records import FailureCode

_LARGEST = 256 << 20
"""Most bytes of one mail."""

_LONGEST_LINE = 1 << 20
_DEEPEST = 50
_FROM = re.compile(rb"From (.*\d\d:\d\d|\r?\n)")  # Thunderbird writes it without sender and time
_BEFORE = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:\d+\s*\n)?"
)  # a mark of UTF-8, empty lines, the length that .emlx have
_UUENCODED = re.compile(rb"^begin [0-7]{3,4} ([^\r\n]{1,1000})\r?\n((?:[!-`][ -`]*\r?\n)+)", re.M)
_WRAPPED = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_DATA_URL = re.compile(rb"data:image/[\w.+-]{1,40}(?:;[\w.=+-]{1,80}){0,5};base64,([A-Za-z0-9+/=\s%]{64,})")

_BASE64 = re.compile(  # of a JPEG, a PNG or a GIF, where a line of text begins: as in a mail that came back
    rb"^(?:/9j/|iVBORw0KGgo|R0lGOD)[A-Za-z0-9+/]{50,}={0,2}(?:\r?\n[A-Za-z0-9+/]+={0,2}(?=\r?\n|\Z))*", re.M
)


def members(archive: Archive, budget: Budget) -> Iterator[Member]:
    """The parts of a mail; those of an mbox have the number of their mail before their own."""
    lines = io.BufferedReader(cast("io.RawIOBase", archive.stream), 1 << 17)
    if archive.type_name != "mbox":
        yield from _parts(_BEFORE.sub(b"", b"".join(_mail(lines)), count=1), "", budget)
        return
    for number, mail in enumerate(_mails(lines), 1):
        if isinstance(mail, ReadFailure):
            yield Member(f"mail-{number}", None, refused(mail.code, mail.message, mail.advice))
        else:
            yield from _parts(mail, f"mail-{number}/", budget)


def _mail(lines: BinaryIO) -> Iterator[bytes]:
    size = 0
    while piece := lines.read(1 << 20):
        size += len(piece)
        if size > _LARGEST:
            raise _too_large()
        yield piece


def _too_large() -> ReadFailure:
    message = f"The mail is larger than {_LARGEST >> 20} MiB; it was not read."
    return ReadFailure(FailureCode.ARCHIVE_LIMIT, message, UNPACK_ADVICE)


def _mails(lines: BinaryIO) -> Iterator[bytes | ReadFailure]:
    """Each mail of an mbox: it begins with a line `From …` with a time, behind an empty one."""
    mail: list[bytes] = []
    size, empty, begun = 0, True, False
    while line := lines.readline(_LONGEST_LINE):
        if empty and _FROM.match(line):
            if begun:
                yield _too_large() if size > _LARGEST else b"".join(mail)
            mail, size, begun = [], 0, True
        elif (size := size + len(line)) <= _LARGEST:
            mail.append(line)
        else:
            mail = []
        empty = not line.strip()
    if begun or mail:
        yield _too_large() if size > _LARGEST else b"".join(mail)


def _parts(mail: bytes, prefix: str, budget: Budget) -> Iterator[Member]:
    try:
        message = BytesParser(policy=policy.compat32).parsebytes(mail)
        yield from _walk(message, "", prefix, budget, 0)
        if any(isinstance(defect, CloseBoundaryNotFoundDefect) for part in message.walk() for defect in part.defects):
            words = "The mail ends within its parts: it was cut, and others may be missing."
            yield Member(f"{prefix}(the end)", None, refused(FailureCode.ARCHIVE_CORRUPT, words))
    except RecursionError as error:
        raise ReadFailure(FailureCode.ARCHIVE_LIMIT, "The mail has too many parts within parts.") from error


def _walk(part: Message, number: str, prefix: str, budget: Budget, depth: int) -> Iterator[Member]:
    if depth > _DEEPEST:
        raise ReadFailure(FailureCode.ARCHIVE_LIMIT, f"The mail has parts within parts, more than {_DEEPEST} levels.")
    inner = part.get_payload()
    place = f"{prefix}part-{number or 1}"
    if part.get_content_type() in _WRAPPED and part.get_param("smime-type") in ("signed-data", "compressed-data"):
        message = "The mail is wrapped in a signature or compressed (S/MIME); clue does not open it."
        advice = "Unwrap it (openssl cms -verify -noverify -in IN.eml -out OUT.eml) and scan that."
        yield Member(place, None, refused(FailureCode.UNSUPPORTED_FORMAT, message, advice))
        return
    if part.get_content_type() in (*_WRAPPED, "multipart/encrypted"):
        advice = "Decrypt it with a mail program, save it as .eml and scan that."
        yield Member(place, None, refused(FailureCode.ARCHIVE_ENCRYPTED, "The mail is encrypted.", advice))
        return
    if not part.is_multipart() and part.get_content_maintype() == "multipart":
        message = "The mail is damaged: its parts cannot be separated."
        yield Member(place, None, refused(FailureCode.ARCHIVE_CORRUPT, message))
        return
    if isinstance(inner, list):
        if (
            part.get_content_maintype() == "message" and len(inner) == 1
        ):  # a mail within the mail: its number is the part's
            coding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
            mail = cast(Message, inner[0])
            if coding in ("base64", "quoted-printable") and not mail.keys():
                part.set_payload(mail.get_payload())  # it was taken for the text of a mail without headers
                part.set_type("application/octet-stream")
                yield from _walk(part, number, prefix, budget, depth + 1)
                return
            yield from _walk(mail, number, prefix, budget, depth + 1)
            return
        for count, child in enumerate(inner, 1):
            yield from _walk(
                cast(Message, child), f"{number}.{count}" if number else str(count), prefix, budget, depth + 1
            )
        return
    name = _file_name(part)
    content = _decoded(part)
    budget.charge_bytes(len(content))
    if part.get_content_maintype() != "text" or name or kind_of(sniff(content[:HEAD_SIZE])) is not Kind.OTHER:
        yield Member(f"{place}/{name}" if name else place, len(content), _opener(content))
    if part.get_content_maintype() != "text":
        return
    encoded = [match[1] for match in _DATA_URL.finditer(content)] + [match[0] for match in _BASE64.finditer(content)]
    for count, text in enumerate(encoded, 1):
        picture = _from_base64(text)
        budget.charge_bytes(len(picture))
        yield Member(f"{place}/inline-{count}", len(picture), _opener(picture))
    for match in _UUENCODED.finditer(content):
        attached = _from_uuencoded(match[2])
        budget.charge_bytes(len(attached))
        yield Member(f"{place}/{match[1].decode('utf-8', 'surrogateescape')}", len(attached), _opener(attached))


def _opener(content: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(content)


def _decoded(part: Message) -> bytes:
    """The bytes of a part; of one whose encoding makes no sense, as they stand there."""
    try:
        content = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        content = None
    if isinstance(content, bytes):
        return content
    return str(part.get_payload()).encode("utf-8", "surrogateescape")


def _from_base64(text: bytes) -> bytes:
    text = re.sub(rb"[^A-Za-z0-9+/]", b"", text)
    text = text[: len(text) - (len(text) % 4 == 1)]
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def _from_uuencoded(text: bytes) -> bytes:
    """What the lines stand for, as far as they make sense."""
    lines = []
    with suppress(binascii.Error):
        for line in text.splitlines():
            lines.append(binascii.a2b_uu(line))
    return b"".join(lines)


def _file_name(part: Message) -> str:
    """The name that the mail gives an attachment, decoded; empty if it gives none."""
    try:
        pieces = decode_header(part.get_filename() or "")
        return "".join(
            text if isinstance(text, str) else text.decode(charset or "utf-8", "replace") for text, charset in pieces
        )
    except (ValueError, LookupError, TypeError, AttributeError, HeaderParseError):
        return "(unreadable name)"

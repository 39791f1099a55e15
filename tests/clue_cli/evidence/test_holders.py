"""What can hold pictures and was not opened."""

from __future__ import annotations

import pytest

from clue_cli.evidence.holders import holder_of, kind_named, not_opened


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("claim.pdf", b"%PDF-1.7", "PDF"),
        ("claim", b"\r\n%PDF-1.7", "PDF"),
        ("clip.mp4", b"\0\0\0\x14ftypmp42", "video"),
        ("clip.jpg.bin", b"\0\0\0\x14ftypqt  ", "video"),
        ("song.m4a", b"\0\0\0\x14ftypM4A ", None),
        ("clip.mkv", b"\x1aE\xdf\xa3", "video"),
        ("clip.avi", b"RIFF\1\2\3\4AVI LIST", "video"),
        ("sound.wav", b"RIFF\1\2\3\4WAVE", None),
        ("letter.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document"),
        ("mail.msg", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "mail file"),
        ("x/Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "thumbnail cache"),
        ("mail.eml", b"From: a", "mail file"),
        ("disk.dd", b"\xeb\x63", "disk image"),
        ("a.jpg.lzma", b"]\0\0\x80\0", "archive"),
        ("word/media/image1.emf", b"\1\0\0\0", "metafile"),
        ("notes.txt", b"text", None),
        ("empty.pdf", b"", None),
    ],
)
def test_holders(name: str, head: bytes, expected: str | None) -> None:
    assert holder_of(name, head) == expected


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, ""),
        ({"PDF": 20, "video": 1}, "20 PDF and 1 video were not opened; they can hold pictures."),
        ({"video": 1}, "1 video was not opened; it can hold pictures."),
        (
            {"mail file": 2, "PDF": 1000, "archive": 2},
            "1,000 PDF, 2 archives and 2 mail files were not opened; they can hold pictures.",
        ),
    ],
)
def test_the_sentence(counts: dict[str, int], words: str) -> None:
    assert not_opened(counts) == words


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.rar", "archive"), ("z.zip!/b.PDF", "PDF"), ("c.vmdk", "disk image"), ("d.pst", "mail file"), ("e", "archive")],
)
def test_an_archive_that_was_not_opened_is_named_by_its_ending(name: str, kind: str) -> None:
    assert kind_named(name) == kind

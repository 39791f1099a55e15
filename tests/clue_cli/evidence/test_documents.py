"""PDF, Office and mail: every picture comes out as it was put in, and what cannot be read is named."""

from __future__ import annotations

import base64
import binascii
import io
import random
import re
import zlib
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from clue_cli.evidence.streams import ArchiveLimits
from clue_cli.records import FailureCode
from tests.clue_cli.evidence.collect import Found, collect
from tests.faults import archives, pictures
from tests.faults.compound import compound

if TYPE_CHECKING:
    import pikepdf

PHOTO = pictures.jpeg()
OTHER = pictures.jpeg(40)
RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
GREY = np.ascontiguousarray(RGB[:, :, 0])
CMYK = np.random.default_rng(1).integers(0, 256, (30, 40, 4), dtype=np.uint8)


def scan(tmp_path: Path, data: bytes, name: str = "case.pdf", **options: Any) -> Found:
    path = tmp_path / name
    path.write_bytes(data)
    return collect(path, **options)


def statements(found: Found, locator: str) -> dict[str, str]:
    return {finding.kind: finding.statement for finding in found.findings[locator]}  # type: ignore[attr-defined]


@pytest.fixture
def qpdf() -> Any:
    return pytest.importorskip("pikepdf")


def picture(document: pikepdf.Pdf, data: bytes, **entries: Any) -> pikepdf.Object:
    """A picture of 40×30 pixels, RGB with 8 bits if nothing else is said."""
    import pikepdf

    usual = {"Width": 40, "Height": 30, "BitsPerComponent": 8, "ColorSpace": pikepdf.Name.DeviceRGB}
    stream = pikepdf.Stream(document, data)
    for key, value in {"Type": pikepdf.Name.XObject, "Subtype": pikepdf.Name.Image, **usual, **entries}.items():
        stream[f"/{key}"] = value
    return document.make_indirect(stream)


def pages(document: pikepdf.Pdf, *shown: list[pikepdf.Object], content: bytes = b"") -> None:
    import pikepdf

    for number, objects in enumerate(shown):
        document.add_blank_page(page_size=(100, 100))
        held = pikepdf.Dictionary({f"/I{index}": thing for index, thing in enumerate(objects)})
        document.pages[number].Resources = pikepdf.Dictionary(XObject=held)
        if content:
            document.pages[number].Contents = document.make_stream(content)


def saved(document: pikepdf.Pdf, **options: Any) -> bytes:
    import pikepdf

    buffer = io.BytesIO()
    plain = {"compress_streams": False, "stream_decode_level": pikepdf.StreamDecodeLevel.none}
    document.save(buffer, **{**plain, **options})
    return buffer.getvalue()


def numbers(document: bytes) -> list[int]:
    """Object numbers of its pictures."""
    import pikepdf

    with pikepdf.open(io.BytesIO(document)) as opened:
        return [
            thing.objgen[0]
            for thing in opened.objects
            if isinstance(thing, pikepdf.Stream) and thing.get("/Subtype") == "/Image"
        ]


def predicted(pixels: np.ndarray) -> bytes:
    """Deflated with the PNG predictor None."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))


def pdf_of_photos(count: int = 3) -> bytes:
    import pikepdf

    document = pikepdf.new()
    photos = [pictures.encoded(pictures.photo(200, 150, seed=seed), "JPEG") for seed in range(count)]
    name = pikepdf.Name.DCTDecode
    pages(document, *([picture(document, data, Filter=name, Width=200, Height=150)] for data in photos))
    return saved(document)


def test_a_jpeg_comes_out_of_a_pdf_byte_for_byte_once_with_all_its_pages(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    names = [qpdf.Name.FlateDecode, qpdf.Name.DCTDecode]
    plain = picture(document, PHOTO, Filter=qpdf.Name.DCTDecode)
    packed = picture(document, zlib.compress(OTHER), Filter=qpdf.Array(names))
    pages(document, [plain], [plain, packed], [plain])
    data = saved(document)
    first, second = (
        f"case.pdf!/page-{page}/object-{number}.jpg" for page, number in zip((1, 2), numbers(data), strict=True)
    )
    for found in (
        scan(tmp_path, data),
        scan(tmp_path, saved(document, encryption=qpdf.Encryption(owner="x", user=""), stream_decode_level=None)),
    ):
        assert list(found.pictures.values()) == [PHOTO, OTHER] and not found.failures
    found = scan(tmp_path, data)
    assert list(found.pictures) == [first, second]
    assert statements(found, first) == {"pdf_pages": "The PDF shows it on 3 pages: 1, 2, 3."}
    assert statements(found, second) == {}


def kinds() -> dict[str, Callable[[Any, Any], tuple[bytes, dict[str, Any], np.ndarray]]]:
    palette = RGB.reshape(-1, 3)[:256]
    return {
        "deflated": lambda n, _: (zlib.compress(RGB.tobytes()), {"Filter": n.FlateDecode}, RGB),
        "raw": lambda n, _: (RGB.tobytes(), {}, RGB),
        "hexadecimal": lambda n, _: (RGB.tobytes().hex().encode() + b">", {"Filter": n.ASCIIHexDecode}, RGB),
        "grey": lambda n, _: (
            zlib.compress(GREY.tobytes()),
            {"Filter": n.FlateDecode, "ColorSpace": n.DeviceGray},
            GREY,
        ),
        "cmyk": lambda n, _: (
            zlib.compress(CMYK.tobytes()),
            {"Filter": n.FlateDecode, "ColorSpace": n.DeviceCMYK},
            CMYK,
        ),
        "predicted": lambda n, p: (
            predicted(RGB),
            {"Filter": n.FlateDecode, "DecodeParms": p.Dictionary(Predictor=15, Colors=3, Columns=40)},
            RGB,
        ),
        "indexed": lambda n, p: (
            zlib.compress(GREY.tobytes()),
            {
                "Filter": n.FlateDecode,
                "ColorSpace": p.Array([n.Indexed, n.DeviceRGB, 255, p.String(palette.tobytes())]),
            },
            palette[GREY],
        ),
        "bilevel": lambda n, _: (
            np.packbits(GREY > 99, axis=1).tobytes(),
            {"ColorSpace": n.DeviceGray, "BitsPerComponent": 1},
            GREY > 99,
        ),
    }


@pytest.mark.parametrize("kind", kinds())
def test_pixels_of_every_kind_come_out_of_a_pdf_without_loss(tmp_path: Path, qpdf: Any, kind: str) -> None:
    document = qpdf.new()
    data, entries, pixels = kinds()[kind](qpdf.Name, qpdf)
    pages(document, [picture(document, data, **entries)])
    found = scan(tmp_path, saved(document))
    assert not found.failures
    ((locator, content),) = found.pictures.items()
    assert locator.endswith(".png" if kind == "predicted" else ".tif")
    with Image.open(io.BytesIO(content)) as image:
        shown = np.asarray(image.convert("RGB") if kind == "indexed" else image)
    assert np.array_equal(shown, pixels)


@pytest.mark.parametrize("k", [-1, 0])
def test_a_fax_comes_out_of_a_pdf(tmp_path: Path, qpdf: Any, k: int) -> None:
    buffer = io.BytesIO()
    bilevel = Image.fromarray(GREY > 99)
    bilevel.save(buffer, "TIFF", compression="group4" if k else "group3")
    with Image.open(buffer) as tiff:
        (start,), (size,) = tiff.tag_v2[273], tiff.tag_v2[279]  # type: ignore[attr-defined]
        inverted = tiff.tag_v2[262] == 1  # type: ignore[attr-defined]
    document = qpdf.new()
    parameters = qpdf.Dictionary(K=k, Columns=40, BlackIs1=inverted)
    entries = {"Filter": qpdf.Name.CCITTFaxDecode, "DecodeParms": parameters, "BitsPerComponent": 1}
    pages(
        document,
        [picture(document, buffer.getvalue()[start : start + size], ColorSpace=qpdf.Name.DeviceGray, **entries)],
    )
    (content,) = scan(tmp_path, saved(document)).pictures.values()
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image), np.asarray(bilevel))


def test_what_a_pdf_does_with_a_picture_is_a_finding(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    mask = picture(document, GREY.tobytes(), ColorSpace=qpdf.Name.DeviceGray)
    masked = picture(document, RGB.tobytes(), SMask=mask, Decode=qpdf.Array([1, 0, 1, 0, 1, 0]))
    form = qpdf.Stream(document, b"")
    form.Subtype, form.Type = qpdf.Name.Form, qpdf.Name.XObject
    form.Resources = qpdf.Dictionary(XObject=qpdf.Dictionary(I=masked, Self=document.make_indirect(form)))
    pages(document, [document.make_indirect(form)])
    picture(document, PHOTO, Filter=qpdf.Name.DCTDecode)  # on no page, but kept by the root
    document.Root.Kept = document.objects[-1]
    found = scan(tmp_path, saved(document))
    shown, unused = found.pictures
    assert "!/page-1/" in shown and "!/no-page/" in unused
    assert set(statements(found, shown)) == {"pdf_mask", "pdf_inverted"}
    assert set(statements(found, unused)) == {"pdf_unused"}


def test_inline_pictures_and_attachments_of_a_pdf_are_read(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    content = b"q BI /W 40 /H 30 /BPC 8 /CS /RGB /F /AHx ID " + RGB.tobytes().hex().encode() + b"> EI Q"
    pages(document, [], content=content)
    document.attachments["../evil\x1b.jpg"] = PHOTO
    document.attachments["in.zip"] = archives.zip_of({"z.jpg": OTHER})
    found = scan(tmp_path, saved(document) + b"\r\n" + archives.zip_of({"behind.jpg": OTHER}))
    assert list(found.pictures) == [
        "case.pdf!/page-1/inline-1.tif",
        r"case.pdf!/attachment/\u002e\u002e/evil\u001b.jpg",
        "case.pdf!/attachment/in.zip!/z.jpg",
        "case.pdf!/(after the end)!/behind.jpg",
    ]
    with Image.open(io.BytesIO(found.pictures["case.pdf!/page-1/inline-1.tif"])) as image:
        assert np.array_equal(np.asarray(image), RGB)


def test_pictures_of_a_pdf_cannot_hide_behind_masks(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    first, second = (picture(document, data, Filter=qpdf.Name.DCTDecode) for data in (PHOTO, OTHER))
    first.SMask, second.SMask = second, first
    shown = picture(document, GREY.tobytes(), ColorSpace=qpdf.Name.DeviceGray)
    decoy = picture(document, RGB.tobytes(), SMask=shown)
    pages(document, [first], [second, decoy], [shown])
    assert len(scan(tmp_path, saved(document)).pictures) == 4


def drawings(qpdf: Any, document: Any) -> dict[str, Any]:
    """Resources of pages that draw inline pictures, by what draws them."""
    content = b"BI /W 64 /H 48 /BPC 8 /CS /RGB /F /DCT ID " + PHOTO + b"\nEI"
    name, dictionary, box = qpdf.Name, qpdf.Dictionary, [0, 0, 9, 9]
    form = document.make_stream(content, Type=name.XObject, Subtype=name.Form, BBox=box)
    pattern = document.make_stream(content, Type=name.Pattern, PatternType=1, BBox=box)
    font = dictionary(Type=name.Font, Subtype=name.Type3, CharProcs=dictionary(a=document.make_stream(content)))
    cycle = document.make_indirect(dictionary(Font=dictionary(F=font)))
    font.Resources = cycle
    return {"form": dictionary(XObject=dictionary(F=form)), "pattern": dictionary(Pattern=dictionary(P=pattern))} | {
        "letter": cycle
    }


@pytest.mark.parametrize("kind", ["form", "pattern", "letter", "annotation"])
def test_inline_pictures_are_found_wherever_a_pdf_draws_them(tmp_path: Path, qpdf: Any, kind: str) -> None:
    document = qpdf.new()
    pages(document, [])
    made = drawings(qpdf, document)
    if kind == "annotation":
        look = qpdf.Dictionary(Subtype=qpdf.Name.Stamp, AP=qpdf.Dictionary(N=made["form"].XObject.F))
        document.pages[0].Annots = qpdf.Array([look])
    else:
        document.pages[0].Resources = made[kind]
    found = scan(tmp_path, saved(document))
    assert list(found.pictures) == ["case.pdf!/page-1/inline-1.jpg"]
    assert not found.failures


def test_more_than_nine_inline_pictures_are_numbered_as_they_are_drawn(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    levels = [b"BI /W 1 /H 1 /BPC 8 /CS /G ID %b EI\n" % bytes([65 + number]) for number in range(12)]
    pages(document, [], content=b"".join(levels))
    found = scan(tmp_path, saved(document))
    assert [bytes(data[-1:]) for data in found.pictures.values()] == [bytes([65 + number]) for number in range(12)]
    assert list(found.pictures)[10] == "case.pdf!/page-1/inline-11.tif"


def test_a_name_that_is_no_text_costs_no_picture(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    document.Root.Odd = document.make_stream(b"x", Type=qpdf.Name.Odd, Subtype=qpdf.Name.Odd)
    pages(document, [picture(document, PHOTO, Filter=qpdf.Name.DCTDecode)])
    found = scan(tmp_path, saved(document).replace(b"/Odd", b"/O\xe3d"))
    assert list(found.pictures.values()) == [PHOTO]
    assert not found.failures


def test_files_attached_to_a_place_on_a_page_are_read_and_so_are_those_without_a_name(
    tmp_path: Path, qpdf: Any
) -> None:
    document = qpdf.new()
    pages(document, [])
    content, lost = (document.make_stream(data, Type=qpdf.Name.EmbeddedFile) for data in (PHOTO, OTHER))
    note = qpdf.Dictionary(
        Subtype=qpdf.Name.FileAttachment, FS=qpdf.Dictionary(UF="a.jpg", EF=qpdf.Dictionary(F=content))
    )
    document.pages[0].Annots = qpdf.Array([note])
    document.Root.Lost = lost
    found = scan(tmp_path, saved(document))
    named, unnamed = found.pictures
    assert named == "case.pdf!/attachment/a.jpg"
    assert unnamed.startswith("case.pdf!/attachment/object-")


def changed(document: bytes, number: int, photo: bytes) -> bytes:
    """A PDF whose picture a program replaced by writing another one behind it."""
    dictionary = (
        b"/Type/XObject/Subtype/Image/Width 64/Height 48/BitsPerComponent 8/ColorSpace/DeviceRGB/Filter/DCTDecode"
    )
    head = b"%d 0 obj\n<<%b/Length %d>>\nstream\n" % (number, dictionary, len(photo))
    at = len(document) + len(head) + len(photo) + 18
    root, before = (re.findall(words, document)[-1] for words in (rb"/Root (\d+)", rb"startxref\s+(\d+)"))
    table = b"xref\n%d 1\n%010d 00000 n \n" % (number, len(document))
    end = b"trailer\n<</Size 99/Root %b 0 R/Prev %b>>\nstartxref\n%d\n%%%%EOF\n" % (root, before, at)
    return document + head + photo + b"\nendstream\nendobj\n" + table + end


def test_what_a_change_of_a_pdf_replaced_is_read(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    pages(document, [picture(document, PHOTO, Filter=qpdf.Name.DCTDecode)])
    first = saved(document)
    (number,) = numbers(first)
    data = changed(changed(first, number, OTHER), number, OTHER)
    found = scan(tmp_path, data)
    place = f"page-1/object-{number}.jpg"
    assert found.pictures == {f"case.pdf!/{place}": OTHER, f"case.pdf!/version-1/{place}": PHOTO}
    assert "version 1" in statements(found, f"case.pdf!/version-1/{place}")["pdf_earlier"]
    assert not found.failures
    cut = scan(tmp_path, changed(first, number, OTHER)[:-90])  # in the middle of the change
    assert list(cut.pictures.values()) == [OTHER, PHOTO]
    assert cut.failures == {"case.pdf": FailureCode.ARCHIVE_CORRUPT}


def test_a_pdf_behind_another_hides_nothing(tmp_path: Path, qpdf: Any) -> None:
    made = []
    for photo in (PHOTO, OTHER):
        document = qpdf.new()
        pages(document, [picture(document, photo, Filter=qpdf.Name.DCTDecode)])
        made.append(saved(document))
    assert set(scan(tmp_path, b"".join(made)).pictures.values()) == {PHOTO, OTHER}


def test_a_picture_behind_a_pdf_does_not_damage_it(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    pages(document, [picture(document, PHOTO, Filter=qpdf.Name.DCTDecode)])
    found = scan(tmp_path, saved(document) + OTHER + bytes(2000))
    assert list(found.pictures.values()) == [PHOTO, OTHER]
    assert not found.failures


def test_an_encrypted_pdf_says_what_to_do(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.open(io.BytesIO(pdf_of_photos()))
    found = scan(tmp_path, saved(document, encryption=qpdf.Encryption(owner="a", user="b"), stream_decode_level=None))
    assert found.failures == {"case.pdf": FailureCode.ARCHIVE_ENCRYPTED}
    assert "qpdf --decrypt" in str(found.advice["case.pdf"])


def test_a_picture_that_clue_cannot_read_costs_itself_only(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    bad = [
        picture(document, b"x", Filter=qpdf.Name.JBIG2Decode),
        picture(document, b"x", ColorSpace=qpdf.Array([qpdf.Name.Lab, qpdf.Dictionary()])),
        picture(document, zlib.compress(bytes(1 << 20)), Width=1 << 30, Height=1 << 30, Filter=qpdf.Name.FlateDecode),
        picture(document, b"x", Width=-1),
    ]
    pages(document, [*bad, picture(document, PHOTO, Filter=qpdf.Name.DCTDecode)])
    found = scan(tmp_path, saved(document))
    assert list(found.pictures.values()) == [PHOTO]
    assert list(found.failures.values()) == [
        FailureCode.UNSUPPORTED_FORMAT,
        FailureCode.UNSUPPORTED_FORMAT,
        FailureCode.ARCHIVE_LIMIT,
        FailureCode.ARCHIVE_CORRUPT,
    ]
    assert all("0x" not in message for message in found.messages.values())


def test_a_deflated_bomb_in_a_pdf_gives_what_the_picture_claims(tmp_path: Path, qpdf: Any) -> None:
    document = qpdf.new()
    pages(document, [picture(document, zlib.compress(bytes(64 << 20)), Filter=qpdf.Name.FlateDecode)])
    data = saved(document)
    (content,) = scan(tmp_path, data).pictures.values()
    assert len(content) < 4000
    assert scan(tmp_path, data, limits=ArchiveLimits(gib=1e-6)).failures.popitem()[1] is FailureCode.ARCHIVE_LIMIT


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6, 0.8, 0.95, 0.995])
@pytest.mark.parametrize("linear", [False, True])
def test_a_cut_pdf_is_told_and_its_pictures_come_out_as_far_as_they_go(
    tmp_path: Path, qpdf: Any, part: float, linear: bool
) -> None:
    whole = pdf_of_photos()
    whole = saved(qpdf.open(io.BytesIO(whole)), linearize=True) if linear else whole
    photos = [pictures.encoded(pictures.photo(200, 150, seed=seed), "JPEG") for seed in range(3)]
    cut = whole[: int(len(whole) * part)]
    found = scan(tmp_path, cut)
    assert found.failures == {"case.pdf": FailureCode.ARCHIVE_CORRUPT}
    for photo in photos:
        if photo in cut:
            assert photo in found.pictures.values()
    rest = [content for content in found.pictures.values() if content not in photos]
    assert len(rest) <= 1 and all(any(photo.startswith(content.rstrip()) for photo in photos) for content in rest)


def test_damaged_pdfs_always_have_an_answer(tmp_path: Path, qpdf: Any) -> None:
    whole = pdf_of_photos()
    for packed in (whole, saved(qpdf.open(io.BytesIO(whole)), object_stream_mode=qpdf.ObjectStreamMode.generate)):
        dice = random.Random(14)
        for number in range(60):
            data = bytearray(packed)
            for _ in range(1 + number % 20):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            found = scan(tmp_path, bytes(data))
            assert found.pictures or found.failures, number
            assert not [message for message in found.messages.values() if "0x" in message]


def test_a_pdf_in_an_archive_is_read(tmp_path: Path, qpdf: Any) -> None:
    found = scan(tmp_path, archives.tar_of({"in.pdf": pdf_of_photos(1)}, "w:gz"), "case.tgz")
    assert len(found.pictures) == 1 and next(iter(found.pictures)).startswith("case.tgz!/in.pdf!/page-1/object-")


def mail(inner: EmailMessage | None = None) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "photos"
    message["Date"], message["Message-ID"] = "Mon, 1 Jan 2024 00:00:00 +0000", "<1@example.org>"
    message.set_content("See below.\n\nFrom here on it is text.\n")
    page = f"<img src='data:image/jpeg;base64,{base64.b64encode(OTHER).decode()}'>"
    message.add_alternative(page, subtype="html")
    message.add_attachment(
        PHOTO, maintype="image", subtype="jpeg", filename="Übergröße ../a\x1b.jpg".replace("\x1b", "ä")
    )
    message.add_attachment(archives.zip_of({"z.jpg": OTHER}), maintype="application", subtype="zip", filename="z.zip")
    message.add_attachment(b"a note", maintype="text", subtype="plain", filename="note.txt")
    if inner is not None:
        message.add_attachment(inner)
    return message


NAMES = {"part-1.2/inline-1": OTHER, "part-2/Übergröße ../aä.jpg": PHOTO, "part-3/z.zip!/z.jpg": OTHER}
INNER = {f"part-5.{name.removeprefix('part-')}": content for name, content in NAMES.items()}


@pytest.mark.parametrize("name", ["case.eml", "1700000000.M1P2.host_2,S"])
def test_a_mail_gives_its_attachments_by_number_and_name(tmp_path: Path, name: str) -> None:
    found = scan(tmp_path, mail(mail()).as_bytes(), name)
    assert found.pictures == {f"{name}!/{part}": content for part, content in {**NAMES, **INNER}.items()}
    assert found.others == [f"{name}!/part-4/note.txt", f"{name}!/part-5.4/note.txt"]
    assert not found.failures


@pytest.mark.parametrize("name", ["case.mbox", "Inbox"])
def test_a_mailbox_gives_the_parts_of_each_mail(tmp_path: Path, name: str) -> None:
    line = b"From a@example.org Mon Jan  1 00:00:00 2024\n"
    found = scan(tmp_path, line + mail().as_bytes() + b"\n" + line + mail().as_bytes(), name)
    expected = {f"{name}!/mail-{number}/{part}": content for number in (1, 2) for part, content in NAMES.items()}
    assert found.pictures == expected and not found.failures


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7, 0.9])
def test_a_cut_mail_is_told_and_gives_what_comes_before_the_cut(tmp_path: Path, part: float) -> None:
    whole = mail().as_bytes()
    found = scan(tmp_path, whole[: int(len(whole) * part)], "case.eml")
    assert "it was cut" in found.messages["case.eml!/(the end)"]
    assert all(any(photo.startswith(content) for photo in (PHOTO, OTHER)) for content in found.pictures.values())


def test_a_mail_with_parts_within_parts_without_end_is_stopped(tmp_path: Path) -> None:
    message = EmailMessage()
    message.set_content("x")
    for _ in range(60):
        outer = EmailMessage()
        outer.add_attachment(message)
        message = outer
    assert scan(tmp_path, message.as_bytes(), "case.eml").failures == {"case.eml": FailureCode.ARCHIVE_LIMIT}


def test_hostile_headers_of_a_mail_cost_nothing(tmp_path: Path) -> None:
    photo = base64.encodebytes(PHOTO)
    for header in (
        b"Content-Type: image/jpeg; name==?x-none?Q?=FF.jpg?=",
        b"Content-Type: image/jpeg\nContent-Disposition: attachment; filename*0*=nope''%ff%zz; filename*1=.jpg",
        b"Content-Type: \xff\xfe; name=\xff.jpg",
        b"Content-Type: text/plain",
    ):
        data = b"From: a\nDate: b\nSubject: c\n" + header + b"\nContent-Transfer-Encoding: base64\n\n" + photo
        found = scan(tmp_path, data, "case.eml")
        assert list(found.pictures.values()) == [PHOTO], header


HEADERS = b"From: a\nDate: Mon, 1 Jan 2024 10:00:00 +0000\nSubject: b\nMIME-Version: 1.0\n"
BASE64 = base64.encodebytes(PHOTO)
WITH_PHOTO = HEADERS + b"Content-Type: image/jpeg; name=a.jpg\nContent-Transfer-Encoding: base64\n\n" + BASE64
HTML = b"<img src='data:image/jpeg;charset=utf-8;base64," + BASE64 + b"'>"
UUENCODED = b"".join(binascii.b2a_uu(PHOTO[start : start + 45]) for start in range(0, len(PHOTO), 45))
ODD_MAILS = {
    "a mark of UTF-8": (b"\xef\xbb\xbf" + WITH_PHOTO, "part-1/a.jpg"),
    "empty lines first": (b"\r\n\r\n" + WITH_PHOTO, "part-1/a.jpg"),
    "a page as attachment": (HEADERS + b"Content-Type: text/html; name=a.html\n\n" + HTML, "part-1/inline-1"),
    "uuencode in the text": (HEADERS + b"\nHello\nbegin 644 a.jpg\n" + UUENCODED + b"`\nend\n", "part-1/a.jpg"),
    "a mail that came back": (HEADERS + b"\nIt was not delivered:\n" + WITH_PHOTO + b"\nBye\n", "part-1/inline-1"),
    "an encoded mail": (
        HEADERS
        + b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(WITH_PHOTO),
        "part-1!/part-1/a.jpg",
    ),
}


@pytest.mark.parametrize("kind", ODD_MAILS)
def test_a_picture_is_found_however_a_mail_holds_it(tmp_path: Path, kind: str) -> None:
    data, where = ODD_MAILS[kind]
    assert scan(tmp_path, data, "case.eml").pictures == {f"case.eml!/{where}": PHOTO}


def test_a_mailbox_may_name_neither_sender_nor_time(tmp_path: Path) -> None:
    found = scan(tmp_path, b"From \n" + WITH_PHOTO + b"\nFrom \n" + WITH_PHOTO, "Inbox")
    assert list(found.pictures) == ["Inbox!/mail-1/part-1/a.jpg", "Inbox!/mail-2/part-1/a.jpg"]


def test_a_mail_that_is_wrapped_in_its_signature_says_what_to_do(tmp_path: Path) -> None:
    data = HEADERS + b"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nMIIB"
    found = scan(tmp_path, data, "case.eml")
    assert found.failures == {"case.eml!/part-1": FailureCode.UNSUPPORTED_FORMAT}
    assert "openssl cms" in str(found.advice["case.eml!/part-1"])


def test_an_encrypted_mail_says_what_to_do(tmp_path: Path) -> None:
    data = b"From: a\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nMIIB"
    found = scan(tmp_path, data, "case.eml")
    assert list(found.failures.values()) == [FailureCode.ARCHIVE_ENCRYPTED]


@pytest.mark.parametrize(
    ("name", "marker"), [("a.docx", "[Content_Types].xml"), ("a.odt", "mimetype"), ("a.epub", "mimetype")]
)
def test_of_a_document_only_pictures_and_embedded_files_are_looked_at(tmp_path: Path, name: str, marker: str) -> None:
    sheet = archives.zip_of({"[Content_Types].xml": b"<x/>", "xl/media/image1.jpeg": OTHER})
    parts = {
        marker: b"text",
        "word/document.xml": b"<w/>" * 2000,
        "word/media/image1.jpeg": PHOTO,
        "word/embeddings/a.xlsx": sheet,
        "word/settings.xml": OTHER,
        "word/media/bad.jpg": b"text",
    }
    found = scan(tmp_path, archives.zip_of(parts), name)
    assert found.pictures == {
        f"{name}!/word/media/image1.jpeg": PHOTO,
        f"{name}!/word/embeddings/a.xlsx!/xl/media/image1.jpeg": OTHER,
        f"{name}!/word/settings.xml": OTHER,
    }
    assert found.others == []
    assert found.failures == {f"{name}!/word/media/bad.jpg": FailureCode.NOT_AN_IMAGE}


def message(attachments: dict[str, bytes], inside: str = "") -> dict[str, bytes]:
    """The streams of a message of Outlook."""
    streams = {f"{inside}__properties_version1.0": bytes(64)}
    for number, (name, content) in enumerate(attachments.items()):
        place = f"{inside}__attach_version1.0_#{number:08X}"
        streams[f"{place}/__substg1.0_37010102"] = content
        if name:
            streams[f"{place}/__substg1.0_3707001F"] = name.encode("utf-16-le")
    return streams


LARGE = pictures.encoded(pictures.photo(200, 160), "PNG")


def test_attachments_of_a_message_of_outlook_are_read(tmp_path: Path) -> None:
    inner = message({"b.png": LARGE + b"2"}, "__attach_version1.0_#00000002/__substg1.0_3701000D/")
    data = compound(message({"caf\u00e9.png": LARGE, "": LARGE + b"1"}) | inner)
    found = scan(tmp_path, data, "mail.msg")
    assert found.pictures == {
        "mail.msg!/attachment-1/caf\u00e9.png": LARGE,
        "mail.msg!/attachment-2": LARGE + b"1",
        "mail.msg!/attachment-3/attachment-1/b.png": LARGE + b"2",
    }
    assert not found.failures


def test_a_compound_file_that_is_no_message_and_a_damaged_one_are_named(tmp_path: Path) -> None:
    found = scan(tmp_path, compound({"WordDocument": bytes(5000)}), "mail.msg")
    assert found.failures == {"mail.msg": FailureCode.UNSUPPORTED_FORMAT}
    found = scan(tmp_path, compound({"WordDocument": bytes(5000)}), "old.doc")
    assert found.failures == {"old.doc": FailureCode.UNSUPPORTED_FORMAT}
    data = compound(message({"a.png": LARGE, "../../b\x1b.png": LARGE + b"1"}))
    for length in range(0, len(data), 1500):
        found = scan(tmp_path, data[:length], "mail.msg")
        assert found.failures or length == 0, length
    rng = random.Random(3)
    for _ in range(40):
        flipped = bytearray(data)
        for _ in range(6):
            flipped[rng.randrange(8, len(data))] = rng.randrange(256)
        scan(tmp_path, bytes(flipped), "mail.msg")

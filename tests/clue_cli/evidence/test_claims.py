"""Findings about what a file claims of its history."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from clue_cli.evidence.claims import XMP_LIMIT, claim_findings
from clue_cli.records import Finding, Weight
from tests.faults import pictures

_OPEN = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
)
_CLOSE = b"</rdf:RDF></x:xmpmeta>" + b" " * 200 + b'<?xpacket end="w"?>'


def xmp(body: bytes) -> bytes:
    return _OPEN + b"<rdf:Description>" + body + b"</rdf:Description>" + _CLOSE


def history(*steps: bytes) -> bytes:
    return xmp(
        b'<m:History xmlns:m="http://ns.adobe.com/xap/1.0/mm/" xmlns:e="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#">'
        b"<rdf:Seq>" + b"".join(steps) + b"</rdf:Seq></m:History>"
    )


def findings(data: bytes, packet: bytes = b"") -> list[Finding]:
    with Image.open(io.BytesIO(data)) as image:
        return claim_findings(image, data, packet)


def by_kind(data: bytes, packet: bytes = b"") -> dict[str, Finding]:
    return {finding.kind: finding for finding in findings(data, packet)}


def with_exif(tags: dict[int, Any], own: dict[int, Any] | None = None, gps: dict[int, Any] | None = None) -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    exif.get_ifd(0x8769).update(own or {})
    exif.get_ifd(0x8825).update(gps or {})
    return pictures.jpeg(exif=exif)


CAMERA = {0x010F: "Canon", 0x0110: "Canon EOS 5D", 0x0132: "2024:02:03 04:05:06"}
SHOT = {0x9003: "2024:02:03 04:05:06", 0xA002: 48, 0xA003: 32, 0x829A: 0.01}


def test_an_honest_photo_claims_nothing() -> None:
    assert findings(pictures.jpeg()) == []
    assert findings(with_exif(CAMERA, SHOT, {29: "2024:02:03"})) == []
    assert findings(with_exif(CAMERA, SHOT | {0xA002: 32, 0xA003: 48})) == []  # turned


def test_the_history_of_xmp_is_told_in_words() -> None:
    step = b'<rdf:li e:action="saved" e:softwareAgent="Adobe Photoshop 25.0" e:when="2024-01-02T03:04:05Z"/>'
    other = b"<rdf:li><rdf:Description><e:action>converted</e:action></rdf:Description></rdf:li>"
    found = by_kind(pictures.jpeg(), history(other, *[step] * 11))["edit_history"]
    assert found.data == {"steps": 12}
    assert "12 steps: converted; saved with Adobe Photoshop 25.0 on 2024-01-02T03:04:05Z;" in found.statement
    assert "and 4 more" in found.statement
    assert found.weight is Weight.SUPPORTS_EDIT
    assert "edit_history" not in by_kind(pictures.jpeg(), history())


@pytest.mark.parametrize(
    ("body", "kind", "words", "weight"),
    [
        (
            b'<i:DigitalSourceType xmlns:i="iptc">http://cv.iptc.org/newscodes/digitalsourcetype/'
            b"compositeWithTrainedAlgorithmicMedia</i:DigitalSourceType>",
            "digital_source_type",
            "edited with a generative model",
            Weight.SUPPORTS_EDIT,
        ),
        (
            b'<i:x xmlns:i="iptc" i:t="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"/>',
            "digital_source_type",
            "captured by a digital camera",
            Weight.INFORMATION,
        ),
        (
            b'<p:Credit xmlns:p="http://ns.adobe.com/photoshop/1.0/">Edited with Google AI</p:Credit>',
            "generative_edit",
            "Edited with Google AI",
            Weight.SUPPORTS_EDIT,
        ),
        (
            b'<p:DocumentAncestors xmlns:p="http://ns.adobe.com/photoshop/1.0/"><rdf:Bag><rdf:li>a</rdf:li><rdf:li>b'
            b"</rdf:li></rdf:Bag></p:DocumentAncestors>",
            "document_ancestors",
            "2 other documents",
            Weight.SUPPORTS_EDIT,
        ),
        (
            b'<c:Exposure2012 xmlns:c="http://ns.adobe.com/camera-raw-settings/1.0/">+0.5</c:Exposure2012>',
            "raw_settings",
            "Camera Raw or Lightroom",
            Weight.INFORMATION,
        ),
    ],
)
def test_statements_of_xmp(body: bytes, kind: str, words: str, weight: Weight) -> None:
    found = by_kind(pictures.jpeg(), xmp(body))[kind]
    assert words in found.statement
    assert found.weight is weight


_NESTED = b'<m:History xmlns:m="http://ns.adobe.com/xap/1.0/mm/"><a>', b"</a></m:History>"


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        (xmp(b"<broken"), "metadata_damaged"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]>' + xmp(b"&a;"), "metadata_damaged"),
        (xmp(b"a" * XMP_LIMIT), "metadata_too_large"),
        (xmp(b"<a>" * 40 + b"</a>" * 40), None),
        (xmp(_NESTED[0] * 50_000 + _NESTED[1] * 50_000), "metadata_damaged"),
        (b"no packet", None),
        (b"</rdf:RDF><rdf:RDF", None),
    ],
)
def test_hostile_xmp_costs_a_finding_at_most(packet: bytes, kind: str | None) -> None:
    assert [finding.kind for finding in findings(pictures.jpeg(), packet)] == ([kind] if kind else [])


def test_markup_and_control_characters_are_cleaned() -> None:
    step = b'<rdf:li e:action="saved" e:softwareAgent="&lt;b&gt;\xe2\x80\xaegpj.exe"/>'
    statement = by_kind(pictures.jpeg(), history(step))["edit_history"].statement
    assert "<b>\ufffdgpj.exe" in statement


@pytest.mark.parametrize(
    ("tags", "own", "gps", "kind", "weight"),
    [
        ({}, {0xA002: 96, 0xA003: 64}, {}, "size_differs", Weight.INFORMATION),
        ({}, {0xA002: 96, 0xA003: 60}, {}, "size_differs", Weight.SUPPORTS_EDIT),
        ({}, {0xA002: 24, 0xA003: 16}, {}, "size_differs", Weight.SUPPORTS_EDIT),
        ({}, {0xA002: 63, 0xA003: 40}, {}, "size_differs", Weight.INFORMATION),
        ({0x0132: "2024:02:01 04:00:00"}, {}, {}, "times_contradict", Weight.SUPPORTS_EDIT),
        ({0x0132: "2024:02:03 04:00:00"}, {}, {}, "times_contradict", Weight.INFORMATION),
        ({0x0132: "2024:02:04 04:00:00"}, {}, {}, "changed_later", Weight.INFORMATION),
        ({}, {}, {29: "2024:03:03"}, "times_contradict", Weight.SUPPORTS_EDIT),
        ({0x0110: "NIKON D70"}, {}, {}, "camera_contradicts", Weight.SUPPORTS_EDIT),
        ({}, {0x829A: None}, {}, "no_exposure", Weight.INFORMATION),
    ],
)
def test_exif_that_contradicts_itself(
    tags: dict[int, Any], own: dict[int, Any], gps: dict[int, Any], kind: str, weight: Weight
) -> None:
    shot = {tag: value for tag, value in (SHOT | own).items() if value is not None}
    found = findings(with_exif(CAMERA | tags, shot, gps))
    assert [(finding.kind, finding.weight) for finding in found] == [(kind, weight)]


def test_the_size_that_exif_states_is_not_always_that_of_this_picture() -> None:
    data = with_exif(CAMERA, SHOT | {0xA002: 6000, 0xA003: 3000})
    with Image.open(io.BytesIO(data)) as image:
        assert claim_findings(image, data, b"", sized=False) == []


def test_texts_of_generators_and_phones() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", '{"nodes": []}', zip=True)
    info.add_text("Software", "Some Painter 2\x07")
    found = by_kind(pictures.encoded(pictures.photo(), "PNG", pnginfo=info))
    assert "ComfyUI" in found["generator_settings"].statement
    assert found["software"].statement == "The PNG says it was written by Some Painter 2\ufffd."
    other = PngImagePlugin.PngInfo()
    for key, text in (("parameters", "gain 3"), ("prompt", "Name?"), ("workflow", "step 1, step 2")):
        other.add_text(key, text)
    assert findings(pictures.encoded(pictures.photo(), "PNG", pnginfo=other)) == [], "other programs use these names"
    phone = by_kind(pictures.jpeg() + b"\0\0\x01\x0a PhotoEditor_Re_Edit_Data{}SEFT")
    assert "Samsung" in phone["phone_edit"].statement
    comment = by_kind(pictures.jpeg(comment="CREATOR: gd-jpeg v1.0"))
    assert "“CREATOR: gd-jpeg v1.0”" in comment["comment"].statement


def test_iptc_and_the_mark_of_facebook() -> None:
    def record(number: int, value: bytes) -> bytes:
        return bytes((0x1C, 2, number)) + len(value).to_bytes(2, "big") + value

    iptc = record(40, b"FBMD01000abc") + record(110, b"An agency")
    resource = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + bytes(len(iptc) % 2)
    segment = b"\xff\xed" + (len(resource) + 2).to_bytes(2, "big") + resource
    data = pictures.jpeg()
    found = by_kind(data[:2] + segment + data[2:])
    assert "Facebook" in found["social_network"].statement
    assert "credit: An agency" in found["iptc"].statement

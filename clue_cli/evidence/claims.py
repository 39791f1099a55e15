"""What a file claims of its history: XMP, IPTC, texts of generators and editors, and EXIF that contradicts itself.

All of it is the file's own word, which anybody can write; what supports an edit is what a picture would hardly claim
of itself without one, or claims that do not fit each other. The statements say what else could explain them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from xml.etree import ElementTree

from PIL import Image, ImageFile, IptcImagePlugin

from clue_cli.evidence.locator import clean_text
from clue_cli.records import Finding, Origin, Weight

XMP_LIMIT = 4 << 20
"""Bytes; a longer packet is not read."""
_DEEPEST = 64
"""Elements of XMP within each other."""
_STEPS = 8
"""Steps of a history that are named."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_HISTORY = "{http://ns.adobe.com/xap/1.0/mm/}History"
_EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
_ANCESTORS = "{http://ns.adobe.com/photoshop/1.0/}DocumentAncestors"
_RAW_SETTINGS = "{http://ns.adobe.com/camera-raw-settings/1.0/}"
GENERATED_CODES = frozenset({"trainedalgorithmicmedia"})
"""IPTC's digital source types of a picture that was generated as a whole. Cameras and phones set the composite ones."""
_SOURCE_TYPE = re.compile(
    r"digitalsourcetype/([a-z]{1,60})|\b((?:compositewith)?trainedalgorithmicmedia)\b", re.IGNORECASE
)
_SOURCE_TYPES: Mapping[str, tuple[str, Weight]] = {
    "trainedalgorithmicmedia": ("made by a generative model", Weight.SUPPORTS_EDIT),
    "compositewithtrainedalgorithmicmedia": ("edited with a generative model", Weight.SUPPORTS_EDIT),
    "algorithmicmedia": ("made by a program", Weight.SUPPORTS_EDIT),
    "compositesynthetic": ("a composite with generated elements", Weight.SUPPORTS_EDIT),
    "composite": ("a composite of several pictures", Weight.SUPPORTS_EDIT),
    "compositecapture": ("a composite of several captures, as for HDR or a panorama", Weight.INFORMATION),
    "humanedits": ("edited by a person", Weight.SUPPORTS_EDIT),
    "minorhumanedits": ("retouched by a person", Weight.SUPPORTS_EDIT),
    "digitalart": ("drawn on a computer", Weight.SUPPORTS_EDIT),
    "digitalcreation": ("made on a computer", Weight.SUPPORTS_EDIT),
    "digitalcapture": ("captured by a digital camera", Weight.INFORMATION),
    "computationalcapture": ("captured and computed by a camera", Weight.INFORMATION),
    "negativefilm": ("scanned from a negative", Weight.INFORMATION),
    "positivefilm": ("scanned from a slide", Weight.INFORMATION),
    "print": ("scanned from a print", Weight.INFORMATION),
    "screencapture": ("a capture of a screen", Weight.INFORMATION),
}
"""IPTC's codes for the digital source type, in words."""
_AI_EDIT = re.compile(
    r"edited with google ai|made with google ai|magic (?:eraser|editor)|generative (?:fill|edit|expand)", re.I
)

_GENERATORS: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "workflow": ("ComfyUI", re.compile(r"\s*\{.*\"nodes\"", re.DOTALL)),
    "prompt": ("ComfyUI", re.compile(r"\s*\{.*\"class_type\"", re.DOTALL)),
    "parameters": ("the Stable Diffusion web UI", re.compile(r"(?=.*\bSteps: \d)(?=.*\bSampler: )", re.DOTALL)),
    "invokeai_metadata": ("InvokeAI", re.compile(r"\s*\{")),
    "sd-metadata": ("InvokeAI", re.compile(r"\s*\{")),
}
"""Text chunks of a PNG, in lower case, who writes them, and how they begin: other programs use the same names."""
_SAMSUNG_EDIT = b"PhotoEditor_Re_Edit_Data"
"""Name of a block behind the picture that Samsung's photo editor writes."""

_IPTC = {(2, 65): "program", (2, 40): "instructions", (2, 110): "credit", (2, 115): "source", (2, 120): "caption"}
_MCU = 16  # pixels; the largest block that a camera compresses together
_TIME_ZONES = timedelta(hours=27)  # what two of them can be apart, with a clock that one hour was added to
_TIME = "%Y:%m:%d %H:%M:%S"
_MAKES = ("canon", "nikon", "sony", "olympus", "panasonic", "leica", "samsung", "apple", "huawei", "casio")
"""Makers whose names no other maker's models have; those of Kodak, Nokia and Pentax are licensed to others."""


def claim_findings(image: Image.Image, data: bytes, xmp: bytes, sized: bool = True) -> list[Finding]:
    """Findings about what a file says of its own history.

    Args:
        image: the opened file; nothing of its pixels is read.
        data: the file.
        xmp: its XMP packet, empty if it has none.
        sized: whether the size that EXIF states is meant to be that of this picture.

    Returns:
        In a fixed order. Whatever the bytes hold, nothing is raised.
    """
    found: list[Finding] = []
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _xmp(xmp),
        lambda: _iptc(image),
        lambda: _texts(image, data),
        lambda: _exif(image, sized),
    )
    for part in parts:
        try:
            found += part()
        except Exception as error:  # parsers fed with hostile bytes raise whatever they like
            statement = f"A block of metadata could not be read ({type(error).__name__})."
            found.append(_finding("metadata_damaged", statement))
    return found


def _finding(kind: str, statement: str, weight: Weight = Weight.INFORMATION, **data: str | int | None) -> Finding:
    return Finding(kind=kind, source=Origin.METADATA, statement=statement, weight=weight, data=data)


def _xmp(packet: bytes) -> Iterator[Finding]:
    start, end = packet.find(b"<rdf:RDF"), packet.rfind(b"</rdf:RDF>") + len(b"</rdf:RDF>")
    if not 0 <= start < end:
        return
    if len(packet) > XMP_LIMIT:
        yield _finding("metadata_too_large", f"Its XMP has {len(packet)} bytes, too many to be read.")
        return
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        yield _finding("metadata_damaged", "Its XMP declares entities, which no program writes; it was not read.")
        return
    root = ElementTree.fromstring(packet[start:end], ElementTree.XMLParser(target=_Shallow()))
    steps = [_event(item) for item in root.iterfind(f".//{_HISTORY}/*/{_RDF}li")]
    named = [step for step in steps if step]
    if named:
        more = f", and {len(named) - _STEPS} more" if len(named) > _STEPS else ""
        number = "1 step" if len(named) == 1 else f"{len(named)} steps"
        yield _finding(
            "edit_history",
            f"XMP keeps a history of {number}: {'; '.join(named[:_STEPS])}{more}. "
            "Programs write it when they save or convert a picture, whether or not its content was changed.",
            Weight.SUPPORTS_EDIT
            if any("derived" not in step and "saved" in step for step in named)
            else Weight.INFORMATION,
            steps=len(named),
        )
    if count := sum(len(list(bag.iter(f"{_RDF}li"))) for bag in root.iter(_ANCESTORS)):
        yield _finding(
            "document_ancestors",
            f"XMP names {count} other document{'s' if count > 1 else ''} from which something was pasted into this one "
            "in Photoshop, or into one that it was made from. Templates and text layers leave such names, too.",
            Weight.SUPPORTS_EDIT,
            documents=count,
        )
    if any(name.startswith(_RAW_SETTINGS) for element in root.iter() for name in (element.tag, *element.attrib)):
        yield _finding(
            "raw_settings",
            "XMP holds settings of Camera Raw or Lightroom: the picture was developed or adjusted as a whole; local "
            "corrections and removals are possible there.",
        )
    values = [*_values(root)]
    for code in dict.fromkeys(
        (match[1] or match[2]).lower() for value in values for match in _SOURCE_TYPE.finditer(value)
    ):
        if known := _SOURCE_TYPES.get(code):
            words, weight = known
            statement = (
                f"XMP states IPTC's digital source type “{code}”: the picture is said to be {words}. Programs and "
                "people set it, and can set it wrongly."
            )
            yield _finding("digital_source_type", statement, weight, code=code)
    if credit := next((value for value in values if _AI_EDIT.search(value)), None):
        yield _finding(
            "generative_edit",
            f"XMP says “{clean_text(credit, 80)}”, as phones and programs write after a change by a generative model; "
            "a caption may use such words, too.",
            Weight.SUPPORTS_EDIT,
        )


def declares_generated(findings: Sequence[Finding]) -> bool:
    """Whether the file claims that the whole picture was generated.

    That are settings of an image generator, and IPTC's digital source type, in XMP or as that with which content
    credentials say the picture was created. That a part was generated or edited is no such claim.
    """
    return any(
        finding.kind == "generator_settings"
        or (
            finding.kind in ("digital_source_type", "credential_actions")
            and str(finding.data.get("code", "")).lower() in GENERATED_CODES
        )
        for finding in findings
    )


class _Shallow(ElementTree.TreeBuilder):
    """Raises ValueError at elements nested so deeply that a search of the parts of each would take hours."""

    depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError("nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag)


def _values(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        yield from element.attrib.values()
        if element.text and not element.text.isspace():
            yield element.text


def _event(item: ElementTree.Element) -> str:
    """One step of a history: what, with which program, when."""

    def of(name: str) -> str | None:
        found = item.get(_EVENT + name) or item.findtext(f".//{_EVENT}{name}")
        return clean_text(found, 60) if found else None

    action, program, when = of("action"), of("softwareAgent"), of("when")
    words = [action or "", f"with {program}" if program else "", f"on {when}" if when else ""]
    return " ".join(word for word in words if word)


def _iptc(image: Image.Image) -> Iterator[Finding]:
    if image.format not in ("JPEG", "MPO", "TIFF"):
        return
    block: Mapping[Any, Any] = IptcImagePlugin.getiptcinfo(cast("ImageFile.ImageFile", image)) or {}
    said = {}
    for key, name in _IPTC.items():
        value = block.get(key)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, bytes) and (text := clean_text(value, 100)):
            said[name] = text
    if said.get("instructions", "").startswith("FBMD"):
        yield _finding(
            "social_network",
            "IPTC has a mark that Facebook and Instagram set (FBMD): the file seems to come from there. They compress "
            "every picture again.",
        )
        del said["instructions"]
    if said:
        words = "; ".join(f"{name}: {text}" for name, text in said.items())
        yield _finding("iptc", f"IPTC says {words}. Agencies and photo programs write it.")


def _texts(image: Image.Image, data: bytes) -> Iterator[Finding]:
    if image.format == "PNG":
        texts = {str(key): value for key, value in image.info.items() if isinstance(value, str)}  # `text` would decode
        known = ((_GENERATORS[key.lower()], text) for key, text in texts.items() if key.lower() in _GENERATORS)
        writers = {name for (name, form), text in known if form.match(text)}
        if writers:
            who = ", ".join(sorted(writers))
            yield _finding(
                "generator_settings",
                f"The PNG carries settings of an image generator, as {who} writes them into what it makes or changes. "
                "A photo can pass through such a program with small changes or none.",
                Weight.SUPPORTS_EDIT,
            )
        if text := clean_text(texts.get("Software", ""), 80):
            yield _finding("software", f"The PNG says it was written by {text}.")
    comment = image.info.get("comment")
    if image.format in ("JPEG", "MPO") and comment and (text := clean_text(comment, 120)):
        yield _finding("comment", f"A comment in the file says “{text}”. Programs and web sites leave such comments.")
    if _SAMSUNG_EDIT in data:
        yield _finding(
            "phone_edit",
            "The file carries a block that Samsung's photo editor writes when a photo was edited there; it may "
            "have been a crop or a filter.",
            Weight.SUPPORTS_EDIT,
        )


def _exif(image: Image.Image, sized: bool) -> Iterator[Finding]:
    if image.format not in ("JPEG", "MPO", "PNG", "WEBP", "HEIF", "AVIF") or not image.info.get("exif"):
        return  # without a block, a PNG would be decoded to look for one behind its pixels
    exif = image.getexif()
    own = exif.get_ifd(0x8769)
    width, height = _number(own.get(0xA002)), _number(own.get(0xA003))
    if sized and width and height and {width, height} != set(image.size):
        now, before = max(image.size) / min(image.size), max(width, height) / min(width, height)
        same_shape = abs(now / before - 1) < 0.01 and max(image.size) < max(width, height)
        lost = [big - small for big, small in zip(sorted((width, height)), sorted(image.size), strict=True)]
        trimmed = all(0 <= side < _MCU for side in lost)
        what = "was reduced, as for the web," if same_shape else "was cropped, enlarged or put into another one"
        what = "lost less than a block at its edges, as in a lossless rotation," if trimmed else what
        yield _finding(
            "size_differs",
            f"EXIF says the picture had {width} × {height} pixels; it has {image.size[0]} × {image.size[1]}: it {what} "
            "after EXIF was written. Some programs leave these numbers wrong.",
            Weight.INFORMATION if same_shape or trimmed else Weight.SUPPORTS_EDIT,
            width=width,
            height=height,
        )
    taken, changed = _time(own.get(0x9003)), _time(exif.get(0x0132))
    if taken and changed and changed < taken:
        zone = taken - changed < _TIME_ZONES
        yield _finding(
            "times_contradict",
            f"EXIF says the picture was last changed on {changed}, before it was taken on {taken}: one of the two is "
            f"wrong, {'in another time zone, ' if zone else ''}or a clock was set in between.",
            Weight.INFORMATION if zone else Weight.SUPPORTS_EDIT,
        )
    elif taken and changed and (changed - taken).total_seconds() > 60:
        yield _finding(
            "changed_later",
            f"EXIF says the picture was taken on {taken} and last changed on {changed}. Programs that "
            "import or rotate set that time as well.",
        )
    satellite = _time(f"{exif.get_ifd(0x8825).get(29, '')} 12:00:00")
    if taken and satellite and abs((satellite - taken).total_seconds()) > 48 * 3600:
        yield _finding(
            "times_contradict",
            f"EXIF says the picture was taken on {taken}, but its GPS date is {satellite.date()}: one of the two was "
            "changed, or the clock of the camera was wrong.",
            Weight.SUPPORTS_EDIT,
        )
    make, model = (str(exif.get(tag, "")).lower() for tag in (0x010F, 0x0110))
    other = next((name for name in _MAKES if re.search(rf"\b{name}\b", model) and name not in make), None)
    if make.strip("\0 ") and other:
        yield _finding(
            "camera_contradicts",
            f"EXIF names the maker “{clean_text(exif[0x010F], 40)}” and the model “{clean_text(exif[0x0110], 40)}”, "
            "which is another maker's: the two were not written by one camera. Some programs write them wrongly.",
            Weight.SUPPORTS_EDIT,
        )
    if make.strip("\0 ") and not any(own.get(tag) for tag in (0x829A, 0x829D, 0x8827, 0x9201, 0x9202, 0x920A)):
        yield _finding(
            "no_exposure",
            "EXIF names a camera but neither exposure time, aperture, sensitivity nor focal length, which cameras "
            "write: a program may have dropped or written the block.",
        )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value < 1 << 20 else None


def _time(value: object) -> datetime | None:
    try:
        return datetime.strptime(str(value).strip("\0 ")[:19], _TIME)
    except ValueError:
        return None

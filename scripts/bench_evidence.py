"""Measure what `clue scan` does with files that are whole, cut, damaged or hostile: a generated corpus.

Each kind of file is made whole, cut at ten places and with bits flipped at three, with markup in every text that it
can hold, and scanned by the console script with the model `mini`. What comes out is counted against what went in:

    lost        inputs without a record of any kind, and whole files of which a picture has none (must be 0)
    crashes     runs that ended with an internal error, and records of one (must be 0)
    wronged     whole files that were called damaged, by a failure or by a finding, and cut ones that were called
                unsupported (must be 0)
    named       inputs that are no picture of a supported format, and whose record says so by its true reason

Then every input that failed is read again in one warm pool, for the seconds that a failure costs.

    python scripts/bench_evidence.py                    everything; some minutes on two cores
    python scripts/bench_evidence.py --json out.json --keep FOLDER
"""

from __future__ import annotations

import argparse
import email.message
import gzip
import importlib.util
import io
import json
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from clue_cli.errors import ExitCode
from clue_cli.evidence.item import Item
from clue_cli.evidence.locator import escape_name
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.evidence.walk import walk

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.faults import archives, heic

MARKUP = '<script>alert("x")</script>\u202e{{7*7}}&amp;\n\x1b[31m'
CUTS = 10
FLIPS = 3
SIZE = (160, 120)
FAILED_MEDIAN = 0.05
"""Seconds that a file which fails may cost, in the median."""

DAMAGED = {"corrupt_image", "archive_corrupt", "decoder_crashed", "decoder_timeout"}
DAMAGE_SAID = {
    "rows_missing", "damaged_data", "less_precise", "end_missing", "checksum_wrong", "exif_damaged",
    "metadata_damaged", "thumbnail_unread", "pictures_missing",
}  # fmt: skip
"""Kinds of findings."""
BROKEN = {"internal_error", "not_finite"}
"""What a failure says where code that is clue's own went wrong."""


def photo(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth colours with noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(small, np.int16) + rng.integers(-9, 10, (size[1], size[0], 3)), 0, 255)
    return Image.fromarray(noisy.astype(np.uint8)).convert(mode)


def saved(image: Image.Image, kind: str, append_images: Sequence[Image.Image] = (), **options: object) -> bytes:
    buffer = io.BytesIO()
    more = [one.copy() for one in append_images]  # a saved image keeps options of its encoder
    image.copy().save(buffer, kind, **options, **({"append_images": more} if more else {}))
    return buffer.getvalue()


def marked_exif() -> Image.Exif:
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298):
        exif[tag] = MARKUP
    exif.get_ifd(0x8769).update({0x9003: MARKUP, 0x9286: MARKUP.encode()})
    return exif


def marked_xmp() -> bytes:
    escaped = MARKUP.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("\x1b", "")
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:m="http://ns.adobe.com/xap/1.0/mm/" '
        f'xmlns:e="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" xmp:CreatorTool="{escaped}"><m:History><rdf:Seq>'
        f'<rdf:li e:action="saved" e:softwareAgent="{escaped}"/></rdf:Seq></m:History></rdf:Description></rdf:RDF>'
        "</x:xmpmeta>"
    ).encode()


def png_texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key in ("Software", "Comment", "workflow"):
        info.add_itxt(key, MARKUP)
    return info


def pictures() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of a whole picture of every format that the default installation decodes."""
    first, more = photo(), [photo(seed) for seed in (1, 2)]
    yield "baseline.jpg", saved(first, "JPEG", quality=90, exif=marked_exif(), xmp=marked_xmp(), comment=MARKUP)
    yield "progressive.jpg", saved(first, "JPEG", quality=80, progressive=True, exif=marked_exif())
    yield "444.jpg", saved(first, "JPEG", quality=95, subsampling=0)
    yield "grey.jpg", saved(photo(3, "L"), "JPEG", quality=85)
    yield "cmyk.jpg", saved(photo(4, "CMYK"), "JPEG", quality=85)
    turned = marked_exif()
    turned[0x0112] = 6
    yield "turned.jpg", saved(first, "JPEG", exif=turned)
    yield "several.mpo", saved(first, "MPO", save_all=True, append_images=more)
    yield "plain.png", saved(first, "PNG", pnginfo=png_texts(), exif=marked_exif())
    yield "palette.png", saved(first.quantize(64), "PNG")
    yield "alpha.png", saved(photo(5, "RGBA"), "PNG")
    yield "grey16.png", saved(Image.fromarray(np.asarray(photo(6, "L"), np.uint16) * 257), "PNG")
    yield "animated.png", saved(first, "PNG", save_all=True, append_images=more)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        yield f"{compression}.tif", saved(first, "TIFF", compression=compression, exif=marked_exif())
    yield "pages.tif", saved(first, "TIFF", save_all=True, append_images=more)
    yield "grey16.tif", saved(Image.fromarray(np.asarray(photo(7, "L"), np.uint16) * 257), "TIFF")
    yield "cmyk.tif", saved(photo(8, "CMYK"), "TIFF")
    yield "lossy.webp", saved(first, "WEBP", quality=80, exif=marked_exif(), xmp=marked_xmp())
    yield "lossless.webp", saved(first, "WEBP", lossless=True)
    yield "animated.webp", saved(first, "WEBP", save_all=True, append_images=more)
    yield "one.avif", saved(first, "AVIF", exif=marked_exif())
    yield "still.gif", saved(first.quantize(64), "GIF", comment=MARKUP.encode())
    yield "animated.gif", saved(first, "GIF", save_all=True, append_images=more)
    yield "one.bmp", saved(first, "BMP")
    yield "one.ico", saved(first.resize((128, 128)), "ICO")
    yield "one.tga", saved(first, "TGA")
    yield "rle.tga", saved(first, "TGA", compression="tga_rle")
    yield "one.jp2", saved(first, "JPEG2000")
    yield "codestream.j2k", saved(first, "JPEG2000", no_jp2=True)
    yield "one.psd", psd(first)
    yield "one.heic", heic.heic()
    yield "burst.heic", heic.heic(pictures=3, main=1, maps=1, described=1)


def psd(image: Image.Image) -> bytes:
    """A flat PSD, uncompressed."""
    width, height = image.size
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, height, width, 8, 3)
    return head + bytes(12) + bytes(2) + np.asarray(image).transpose(2, 0, 1).tobytes()


def containers() -> Iterator[tuple[str, bytes, int]]:
    """Name, bytes, and the number of pictures in a whole container of every kind."""
    jpeg, png = saved(photo(11), "JPEG"), saved(photo(12), "PNG")
    marked = f"a{MARKUP}.jpg".replace("/", "")
    members = {"DCIM/a.jpg": jpeg, "b.png": png, marked: saved(photo(13), "JPEG")}
    yield "three.zip", archives.zip_of(members), 3
    yield "three.tar", archives.tar_of(members), 3
    yield "three.tar.gz", archives.tar_of(members, "w:gz"), 3
    yield "three.tar.bz2", archives.tar_of(members, "w:bz2"), 3
    yield "three.tar.xz", archives.tar_of(members, "w:xz"), 3
    yield "two.tar", archives.tar_of({"a.jpg": jpeg}) + archives.tar_of({"b.png": png}), 2
    yield "one.jpg.gz", gzip.compress(jpeg), 1
    yield (
        "nested.zip",
        archives.zip_of({"inner.zip": archives.zip_of({"a.jpg": jpeg}), "b.tar": archives.tar_of({"b.png": png})}),
        2,
    )
    if importlib.util.find_spec("py7zr"):
        yield "two.7z", archives.seven_zip_of({"a.jpg": jpeg, "b.png": png}), 2
    yield "two.pdf", saved(photo(14), "PDF", save_all=True, append_images=[photo(15)], title=MARKUP), 2
    xml = b'<?xml version="1.0"?><x/>'
    word = {"[Content_Types].xml": xml, "word/document.xml": xml, "word/media/image1.jpeg": jpeg}
    yield "report.docx", archives.zip_of(word), 1
    yield (
        "slides.odp",
        archives.zip_of({"mimetype": b"application/vnd.oasis.opendocument.presentation", "Pictures/1.png": png}),
        1,
    )
    mail = email.message.EmailMessage()
    mail["Subject"] = "a <script>"
    mail.set_content("See the pictures.")
    mail.add_attachment(jpeg, maintype="image", subtype="jpeg", filename="a<script>.jpg")
    mail.add_attachment(png, maintype="image", subtype="png", filename="b.png")
    yield "two.eml", mail.as_bytes(), 2
    yield "two.mbox", b"From a@b Thu Jan  1 00:00:00 2026\n" + mail.as_bytes() + b"\n", 2


def others() -> Iterator[tuple[str, bytes]]:
    """Whole files that are no picture of a supported format: each must be named for what it is."""
    jpeg = saved(photo(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    for name, marker in (("lossless.jpg", 0xC3), ("lossless-arithmetic.jpg", 0xCB), ("hierarchical.jpg", 0xC5)):
        yield name, jpeg[: frame + 1] + bytes((marker,)) + jpeg[frame + 2 :]
    yield "12bit.jpg", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]
    yield "jpeg-ls.jls", b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\0\0\xff\xd9"
    yield "text.jpg", b"This is no picture.\n" * 40
    yield "empty.jpg", b""
    yield "page.png", b"<!doctype html><html></html>"
    yield "one.rar", b"Rar!\x1a\x07\x01\0" + bytes(200)
    yield "disk.vmdk", b"KDMV" + bytes(1000)
    yield (
        "clip.mp4",
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"mp42", 0, b"mp42") + struct.pack(">I4s", 5008, b"mdat") + bytes(5000),
    )


def apple_png() -> bytes:
    """Apple's variant of PNG: BGRA, premultiplied, deflated without a header."""
    pixels = np.asarray(photo(9, "RGBA"))[:, :, [2, 1, 0, 3]]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", *SIZE, 8, 6, 0, 0, 0)
    body = packer.compress(rows) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"CgBI", b"\x50\0\x20\2")
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


class Corpus:
    """Files in a folder, and what is expected of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole: dict[str, int] = {}
        """Pictures in each whole file."""
        self.hurt: set[str] = set()
        self.foreign: set[str] = set()

    def make(self) -> None:
        """Write all files."""
        rng = random.Random(14)
        whole = [*((name, data, 1) for name, data in pictures()), ("apple.png", apple_png(), 1), *containers()]
        for name, data, count in whole:
            self._write(f"whole-{name}", data)
            self.whole[f"whole-{name}"] = count
            for number in range(CUTS):
                self.hurt.add(self._write(f"cut{number}-{name}", data[: len(data) * (number + 1) // (CUTS + 1)]))
            for number in range(FLIPS):
                flipped = bytearray(data)
                for _ in range(4):
                    flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
                self.hurt.add(self._write(f"flip{number}-{name}", bytes(flipped)))
        for name, data in others():
            self.foreign.add(self._write(f"other-{name}", data))
        self.whole[self._write(f"whole-{MARKUP.replace('/', '')}.jpg", saved(photo(20), "JPEG"))] = 1

    def _write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return escape_name(name)


def scan(folder: Path, results: Path) -> int:
    """Exit code of a scan."""
    command = [sys.executable, "-m", "clue_cli", "scan", str(folder), "--out", str(results), "--quiet", "--no-previews"]
    return subprocess.run(command, check=False).returncode


def records(results: Path) -> list[dict[str, Any]]:
    lines = (results / "records.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def file_of(locator: str) -> str:
    """Name of the input that a locator belongs to."""
    return Path(locator.partition("!/")[0]).name


def kinds(rows: list[dict[str, Any]]) -> set[str]:
    """Of all findings of some records."""
    return {finding["kind"] for row in rows for finding in row.get("findings", ())}


def outcome(corpus: Corpus, found: list[dict[str, Any]], code: int) -> dict[str, object]:
    """What the scan did with the corpus."""
    by_file: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        by_file.setdefault(file_of(str(record["locator"])), []).append(record)
    said = {name: by_file.get(name, []) for name in (*corpus.whole, *corpus.hurt, *corpus.foreign)}
    codes = {name: {str(r["code"]) for r in rows if r["kind"] == "failure"} for name, rows in said.items()}
    images = {name: sum(r["kind"] == "image" for r in rows) for name, rows in said.items()}
    short = [name for name, number in corpus.whole.items() if images[name] < number]
    damaged = {name for name, rows in said.items() if codes[name] & DAMAGED or kinds(rows) & DAMAGE_SAID}
    unsupported = [name for name in corpus.hurt if name.startswith("cut") and "unsupported_format" in codes[name]]
    not_pictures = {name for name in corpus.foreign if not said[name]}
    return {
        "inputs": len(said),
        "whole, examined": sum(images[name] >= number for name, number in corpus.whole.items()),
        "whole": len(corpus.whole),
        "whole, not examined in full": sorted(short),
        "wronged": sorted([*damaged.intersection((*corpus.whole, *corpus.foreign)), *unsupported]),
        "hurt, with a picture examined": sum(images[name] > 0 for name in corpus.hurt),
        "hurt": len(corpus.hurt),
        "lost": sorted({name for name in (*corpus.whole, *corpus.hurt) if not said[name]}.union(short)),
        "named": len(corpus.foreign) - len([n for n in corpus.foreign if codes[n] & DAMAGED or images[n]]),
        "others": len(corpus.foreign),
        "others without a record (no picture by name or content)": sorted(not_pictures),
        "crashes": int(code == ExitCode.INTERNAL_ERROR) + sum(bool(each & BROKEN) for each in codes.values()),
        "exit code": code,
        "failures by code": dict(Counter(str(r["code"]) for r in found if r["kind"] == "failure").most_common()),
    }


def seconds_of_failures(folder: Path, names: set[str]) -> list[float]:
    """Seconds from bytes to failure of each file, in a warm pool of one process."""
    out = []
    with DecodePool(1, DecodeLimits()) as pool:
        for item in walk([folder]):
            if not isinstance(item, Item) or item.path is None or item.path.name not in names:
                continue
            started = time.perf_counter()
            read = read_item(item)
            if isinstance(read, tuple):
                list(pool.decode(item.locator, *read))
            out.append(time.perf_counter() - started)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="a new folder for the corpus and its results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place: Path = args.keep or Path(temporary)
        (place / "evidence").mkdir(parents=True)
        corpus = Corpus(place / "evidence")
        corpus.make()
        code = scan(place / "evidence", place / "results")
        found = records(place / "results")
        figures = outcome(corpus, found, code)
        failed = {file_of(str(r["locator"])) for r in found if r["kind"] == "failure" and "!/" not in str(r["locator"])}
        seconds = seconds_of_failures(place / "evidence", failed)
        figures["seconds of a failure, median"] = round(statistics.median(seconds), 4) if seconds else None
        figures["seconds of a failure, largest"] = round(max(seconds), 3) if seconds else None
    text = json.dumps(figures, indent=1, ensure_ascii=True)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(bool(figures["lost"] or figures["wronged"] or figures["crashes"]))


if __name__ == "__main__":
    main()

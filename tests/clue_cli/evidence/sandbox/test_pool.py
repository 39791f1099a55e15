"""Decoders in processes of their own: what goes wrong there costs one page, and nobody notices anything else."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from clue_cli.errors import ClueError
from clue_cli.evidence.item import Photo, Unreadable
from clue_cli.evidence.reader import identify
from clue_cli.evidence.sandbox.pool import DecodePool, Unanswered, _findings
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.records import FailureCode, Finding, Origin, Step, Weight
from tests.faults import broken_pictures, crashing_decoder, pictures

ROOT = Path(__file__).resolve().parents[4]
BAD = "tests.faults.crashing_decoder"


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def bad_pool() -> Iterator[DecodePool]:
    with DecodePool(1, DecodeLimits(seconds=3.0), worker_module=BAD) as pool:
        yield pool


def decode(pool: DecodePool, data: bytes, name: str = "a.dat", **options: Any) -> list[Photo | Unreadable]:
    return list(pool.decode(name, data, identify(data, name), **options))


def telling(*reds: int) -> bytes:
    """A TIFF whose pages tell the bad decoder what to do."""
    pages = []
    for red in reds:
        page = pictures.photo()
        page.putpixel((0, 0), (red, 0, 0))
        pages.append(page)
    return pictures.encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])


@pytest.mark.parametrize(("name", "data"), pictures.one_of_each().items(), ids=list(pictures.one_of_each()))
def test_every_format_comes_through(pool: DecodePool, name: str, data: bytes) -> None:
    photos = decode(pool, data, "ev/picture")
    assert len(photos) == (2 if name == "tiff" else 1)
    for number, photo in enumerate(photos):
        assert isinstance(photo, Photo)
        assert (photo.locator, photo.page, photo.page_count) == ("ev/picture", number, len(photos))
        assert photo.pixels.shape == (32, 48, 3)
        assert photo.pixels.dtype == np.uint8
        assert photo.pixels.flags.c_contiguous
        assert photo.file.sniffed_type == name
        assert photo.seconds_decode >= 0


def test_findings_arrive_whole_with_their_weight_and_values() -> None:
    steps = "".join(
        f'<rdf:li e:action="saved" e:softwareAgent="Adobe Photoshop 25.{minor} (Macintosh)"/>' for minor in range(9)
    )
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:m="http://ns.adobe.com/xap/1.0/mm/" '
        f'xmlns:e="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"><m:History><rdf:Seq>{steps}</rdf:Seq></m:History>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    once = pictures.encoded(pictures.photo(512, 512), "JPEG", quality=60)
    data = pictures.encoded(Image.open(io.BytesIO(once)), "JPEG", quality=92, xmp=xmp.encode())
    with DecodePool(1, DecodeLimits(), as_evidence=True) as pool:
        (photo,) = decode(pool, data, "a.jpg")
    assert isinstance(photo, Photo)
    found = {finding.kind: finding for finding in photo.findings}
    assert found["edit_history"].statement.endswith("whether or not its content was changed.")
    assert (found["edit_history"].weight, found["edit_history"].data) == (Weight.SUPPORTS_EDIT, {"steps": 9})
    assert found["quantization_tables"].data["quality"] == 92
    assert found["compressed_twice"].source is Origin.FILE


def test_a_decoder_that_lies_is_not_believed_much() -> None:
    def said(**values: Any) -> dict[str, Any]:
        return {"kind": "odd", "source": "file", "statement": "x", "data": {}, "weight": "information"} | values

    (finding,) = _findings(
        [
            said(kind="marked_regions", source="pixels"),
            said(statement="\u202e" * 19000, weight="speaks_against", data={"a b": 1, "c": "\x1b["}),
        ]
    )
    assert (finding.kind, finding.weight, finding.data) == ("odd", Weight.INFORMATION, {"c": "\ufffd["})
    assert finding.statement == "\ufffd" * 4000


def test_a_photo_carries_what_is_known_about_it(pool: DecodePool) -> None:
    data = pictures.encoded(pictures.photo(), "PNG")
    odd = Finding(kind="odd", source=Origin.CONTAINER, statement="The path is odd.")
    (photo,) = decode(pool, data, "z.zip!/a.jpg", findings=(odd,))
    assert isinstance(photo, Photo)
    assert [finding.statement for finding in photo.findings] == [
        "The path is odd.",
        "The name says jpeg, the content is png.",
    ]
    np.testing.assert_array_equal(photo.pixels, np.asarray(pictures.photo()))


def test_findings_arrive_whole() -> None:
    steps = "".join(
        f'<rdf:li e:action="saved" e:softwareAgent="Adobe Photoshop 25.{step} (Windows)" e:when="2024"/>'
        for step in range(8)
    )
    xmp = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:m="http://ns.adobe.com/xap/1.0/mm/" '
        'xmlns:e="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#">'
        f"<m:History><rdf:Seq>{steps}</rdf:Seq></m:History></rdf:RDF>"
    )
    once = Image.open(io.BytesIO(pictures.jpeg(480, 320, quality=50)))
    with DecodePool(1, as_evidence=True) as pool:
        (photo,) = decode(pool, pictures.encoded(once, "JPEG", quality=90, xmp=xmp.encode()))
    assert isinstance(photo, Photo)
    found = {finding.kind: finding for finding in photo.findings}
    assert found["edit_history"].statement.endswith("whether or not its content was changed.")
    assert found["edit_history"].weight is Weight.SUPPORTS_EDIT
    assert found["edit_history"].data == {"steps": 8}
    assert found["compressed_twice"].data["earlier_step"]


def test_a_turned_photo_arrives_as_stored(pool: DecodePool) -> None:
    (stored,) = decode(pool, pictures.oriented_jpeg(1))
    (turned,) = decode(pool, pictures.oriented_jpeg(6))
    assert isinstance(stored, Photo)
    assert isinstance(turned, Photo)
    assert turned.orientation == 6
    np.testing.assert_array_equal(turned.pixels, stored.pixels)
    np.testing.assert_array_equal(turned.displayed(turned.pixels), np.rot90(stored.pixels, -1))


def test_hostile_exif_arrives_harmless(pool: DecodePool) -> None:
    (photo,) = decode(pool, broken_pictures.jpeg_with_hostile_exif())
    assert isinstance(photo, Photo)
    assert photo.exif.camera_make == broken_pictures.MARKUP
    assert "\x1b" not in str(photo.exif)


def test_endless_exif_ends(pool: DecodePool) -> None:
    (photo,) = decode(pool, broken_pictures.jpeg_with_exif(broken_pictures.endless_exif()))
    assert isinstance(photo, Photo)
    assert any("EXIF block is damaged" in finding.statement for finding in photo.findings)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (broken_pictures.truncated(pictures.jpeg(), 0.5), FailureCode.CORRUPT_IMAGE),
        (broken_pictures.png_claiming(60_000, 60_000), FailureCode.TOO_MANY_PIXELS),
    ],
)
def test_a_failure_names_its_file_and_step(pool: DecodePool, data: bytes, code: FailureCode) -> None:
    (failure,) = decode(pool, data, "ev/a.jpg")
    assert isinstance(failure, Unreadable)
    assert (failure.locator, failure.step, failure.code) == ("ev/a.jpg", Step.DECODE, code)
    assert failure.file == identify(data, "ev/a.jpg")


@pytest.mark.parametrize(
    ("red", "code", "word"),
    [
        (crashing_decoder.CRASH, FailureCode.DECODER_CRASHED, "SIGSEGV"),
        (crashing_decoder.KILL, FailureCode.DECODER_CRASHED, "memory"),
        (crashing_decoder.HANG, FailureCode.DECODER_TIMEOUT, "longer than 3 seconds"),
        (crashing_decoder.NONSENSE, FailureCode.DECODER_CRASHED, "nonsense"),
        (crashing_decoder.LIE, FailureCode.DECODER_CRASHED, "nonsense"),
    ],
)
def test_a_decoder_that_misbehaves_costs_exactly_its_page(
    bad_pool: DecodePool, red: int, code: FailureCode, word: str
) -> None:
    alone = decode(bad_pool, telling(red))
    assert [type(result) for result in alone] == [Unreadable]
    good, failure, last = decode(bad_pool, telling(0, red, 0))
    assert isinstance(good, Photo)
    assert isinstance(last, Photo)
    assert isinstance(failure, Unreadable)
    assert (failure.code, failure.page, failure.page_count) == (code, 1, 3)
    assert word in failure.message
    assert isinstance(decode(bad_pool, pictures.jpeg())[0], Photo)


@pytest.mark.parametrize(
    "replies",
    [
        [],
        [{}, {}],
        [{"shape": [2, 3], "dtype": "float64"}],
        [{"shape": [2], "dtype": "uint8"}],
        [{"shape": [2, 3, 4], "dtype": "uint8"}],
        [{"shape": [0, 3], "dtype": "uint8"}],
        [{"shape": [2.0, 3], "dtype": "uint8"}],
        [{"shape": [10**5, 10**5], "dtype": "uint8"}],
        [{"failure": "why"}],
    ],
)
def test_a_reply_of_the_wrong_form_is_nonsense(bad_pool: DecodePool, replies: list[dict[str, Any]]) -> None:
    with pytest.raises(Unanswered, match="sent nonsense"):
        bad_pool.ask("say", bytes(6), replies=replies)
    _, levels = bad_pool.ask("say", bytes(range(6)), replies=[{"shape": [3, 1], "dtype": "uint16"}])
    assert levels is not None
    assert levels.tolist() == [[256], [770], [1284]]


def test_what_does_not_come_is_not_waited_for_in_vain(bad_pool: DecodePool) -> None:
    with pytest.raises(Unanswered, match="longer than 3 seconds"):
        bad_pool.ask("say", bytes(6), replies=[{"shape": [900, 900], "dtype": "uint8"}])
    with pytest.raises(Unanswered, match="ended with status 1"):
        bad_pool.ask("no such operation")


def test_a_crash_at_the_first_page_does_not_cost_the_others(bad_pool: DecodePool) -> None:
    failure, *rest = decode(bad_pool, telling(crashing_decoder.CRASH, 0, 0))
    assert isinstance(failure, Unreadable)
    assert failure.page == 0
    assert [photo.page for photo in rest if isinstance(photo, Photo)] == [1, 2]


def test_a_file_that_kills_one_decoder_after_the_other_is_given_up(bad_pool: DecodePool) -> None:
    results = decode(bad_pool, telling(*[crashing_decoder.CRASH] * 9))
    failures = [result for result in results if isinstance(result, Unreadable)]
    assert len(failures) == len(results) == 5
    assert [failure.page for failure in failures] == [0, 1, 2, 3, None]
    assert "not tried" in failures[-1].message
    assert isinstance(decode(bad_pool, pictures.jpeg())[0], Photo)


def test_what_a_library_prints_reaches_nobody(bad_pool: DecodePool, capfd: pytest.CaptureFixture[str]) -> None:
    (photo,) = decode(bad_pool, telling(crashing_decoder.PRINT))
    assert isinstance(photo, Photo)
    assert capfd.readouterr() == ("", "")


def test_a_decoder_that_died_while_idle_is_replaced_without_blame() -> None:
    with DecodePool(1) as pool:
        assert isinstance(decode(pool, pictures.jpeg())[0], Photo)
        (child,) = decoders()
        child.kill()
        child.wait(60)
        assert isinstance(decode(pool, pictures.jpeg())[0], Photo)


def decoders() -> list[psutil.Process]:
    """The decoder processes of this test run that have no pool in a fixture."""
    children = psutil.Process().children()
    newest = max(child.create_time() for child in children)
    return [child for child in children if child.create_time() == newest]


def test_pages_are_decoded_as_they_are_asked_for_and_the_rest_may_be_left(pool: DecodePool) -> None:
    data = pictures.tiff(5)
    results = pool.decode("a", data, identify(data, "a"))
    first = next(results)
    assert isinstance(first, Photo)
    results.close()  # type: ignore[attr-defined]
    assert len(decode(pool, data)) == 5


def test_several_threads_share_the_decoders() -> None:
    sources = [pictures.photo(seed=seed) for seed in range(12)]
    files = [pictures.encoded(source, "PNG") for source in sources]
    with DecodePool(2) as pool, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda data: decode(pool, data)[0], files))
    for photo, source in zip(found, sources, strict=True):
        assert isinstance(photo, Photo)
        np.testing.assert_array_equal(photo.pixels, np.asarray(source))


def test_a_decoder_that_cannot_be_started_is_an_error_with_its_last_words() -> None:
    with pytest.raises(ClueError, match=r"could not be started.*No module named 'PIL'"):
        DecodePool(1, worker_module="tests.faults.unstartable_decoder").__enter__()


def test_a_decoder_that_cannot_be_started_again_costs_the_item() -> None:
    pool = DecodePool(1, worker_module="tests.faults.unstartable_decoder")
    (failure,) = decode(pool, pictures.jpeg())
    pool.close()
    assert isinstance(failure, Unreadable)
    assert failure.code is FailureCode.DECODER_CRASHED
    assert "No module named 'PIL'" in failure.message


def test_memory_is_limited() -> None:
    picture = broken_pictures.png_claiming(15_000, 15_000)  # 900 MB once decoded
    with DecodePool(1, DecodeLimits(memory_mib=420)) as pool:
        (failure,) = decode(pool, picture)
        assert isinstance(failure, Unreadable)
        assert failure.code is FailureCode.OUT_OF_MEMORY
        assert isinstance(decode(pool, pictures.jpeg())[0], Photo)


def test_a_closed_pool_leaves_no_process_and_decodes_nothing() -> None:
    before = len(psutil.Process().children())
    with DecodePool(2) as pool:
        assert len(psutil.Process().children()) == before + 2
    assert len(psutil.Process().children()) == before
    (failure,) = decode(pool, pictures.jpeg())
    assert isinstance(failure, Unreadable)
    assert "was closed" in failure.message
    assert len(psutil.Process().children()) == before


def test_closing_ends_what_is_under_way() -> None:
    with DecodePool(1, worker_module=BAD) as pool, ThreadPoolExecutor(1) as threads:
        pending = threads.submit(decode, pool, telling(crashing_decoder.HANG))
        while not pending.running():
            threading.Event().wait(0.01)
        pool.close()
        (failure,) = pending.result(timeout=60)
    assert isinstance(failure, Unreadable)


_SCRIPT = """
import os, sys
from clue_cli.evidence.sandbox.pool import DecodePool
pool = DecodePool(1).__enter__()
(process,) = pool._children
print(process._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_decoder_survives_ctrl_c_and_not_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        decoder = psutil.Process(int(parent.stdout.readline()))
        decoder.send_signal(signal.SIGINT)
        with pytest.raises(psutil.TimeoutExpired):
            decoder.wait(timeout=0.2)
        parent.kill()
        psutil.wait_procs([decoder], timeout=60)
    assert not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE


def test_a_decoder_does_not_import_the_network_that_judges() -> None:
    heavy = "{'torch', 'diffusers', 'clue_cli.app', 'clue_cli.scan.pipeline'}"
    code = f"import sys, clue_cli.evidence.sandbox.worker; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "set()"


def test_a_decoder_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    with DecodePool(1):
        (child,) = decoders()
        assert "SECRET_KEY" not in child.environ()
        assert "PYTHONPATH" in child.environ()


def test_modules_in_the_working_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL.py").write_text("raise SystemExit('evidence was run as code')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with DecodePool(1) as pool:
        assert isinstance(decode(pool, pictures.jpeg())[0], Photo)


def test_where_pipes_cannot_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: decoding, a hanging decoder, and one that dies."""
    monkeypatch.delattr("select.poll")
    monkeypatch.delattr("os.pread")
    with DecodePool(1, DecodeLimits(seconds=2.0), worker_module=BAD) as pool:
        (photo,) = decode(pool, telling(0))
        (late,) = decode(pool, telling(crashing_decoder.HANG))
        (dead,) = decode(pool, telling(crashing_decoder.KILL))
    assert isinstance(photo, Photo)
    assert isinstance(late, Unreadable)
    assert isinstance(dead, Unreadable)
    assert late.code is FailureCode.DECODER_TIMEOUT
    assert dead.code is FailureCode.DECODER_CRASHED


def test_no_folder_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(ClueError, match="No space left") as caught, DecodePool(1):
        pass
    assert "TMPDIR" in str(caught.value.advice)

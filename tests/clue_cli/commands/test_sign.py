"""`clue sign`, `clue scan --sign`, and what `clue verify` says about signatures and time stamps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from clue_cli.app import run as clue
from clue_cli.custody.signature import PASSPHRASE
from clue_cli.errors import ExitCode
from clue_cli.results.manifest_names import MANIFEST_SUMS, SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST
from clue_cli.results.scan_store import LOCK
from tests.clue_cli.custody.signing import Authority, write_keys, write_results

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("made") / "results")


@pytest.fixture
def results(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results"))


def verified(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    capfd.readouterr()
    code = clue(["verify", *map(str, words), "--json", "--quiet"])
    return code, json.loads(capfd.readouterr().out)


def said(capfd: pytest.CaptureFixture[str], code: int, *words: object) -> str:
    capfd.readouterr()
    assert clue([*map(str, words)]) == code
    return capfd.readouterr().err


def test_a_folder_is_signed_and_verified(tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret, public = write_keys(tmp_path)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert clue(["sign", str(results), "--key", str(secret)]) == ExitCode.OK
    assert {path for path in results.rglob("*") if path.is_file()} == {*before, results / LOCK, results / SIGNATURE}
    assert all(path.read_bytes() == content for path, content in before.items())
    code, found = verified(capfd, results, "--key", public)
    assert (code, found["as_recorded"], found["signature"]["checked"]) == (ExitCode.OK, True, True)
    code, found = verified(capfd, results)
    assert (code, found["signature"]["checked"]) == (ExitCode.OK, False)
    assert "was not checked (--key)" in " ".join(found["notes"])
    shown = said(capfd, ExitCode.OK, "verify", results, "--key", public)
    assert f"Signature: {MANIFEST_SUMS} was signed with the key {found['signature']['key_id']} on 20" in shown


def test_what_does_not_hold_has_a_code_of_its_own(
    tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret, public = write_keys(tmp_path)
    _, other = write_keys(tmp_path, "other")
    code, found = verified(capfd, results, "--key", public)
    assert (code, found["findings"][0]["path"]) == (ExitCode.NOT_ATTESTED, SIGNATURE)
    assert "there is no signature" in found["findings"][0]["detail"]
    assert clue(["sign", str(results), "--key", str(secret)]) == ExitCode.OK
    code, found = verified(capfd, results, "--key", other)
    assert (code, "it is by the key" in found["findings"][0]["detail"]) == (ExitCode.NOT_ATTESTED, True)
    mask = next((results / "masks").rglob("*.png"))
    mask.write_bytes(mask.read_bytes() + b"\0")
    code, found = verified(capfd, results, "--key", public)
    assert (code, found["counts"]) == (ExitCode.SOME_FAILED, {"changed": 1})
    sums = results / MANIFEST_SUMS
    sums.write_bytes(sums.read_bytes().replace(b"a", b"b", 1))
    code, found = verified(capfd, results, "--key", public)
    assert (code, found["counts"]["signature"]) == (ExitCode.NOT_ATTESTED, 1)
    sums.unlink()
    code, found = verified(capfd, results, "--key", public)
    assert (code, found["counts"]["signature"]) == (ExitCode.NOT_ATTESTED, 1)


@pytest.mark.parametrize("place", [SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "huge", "noise", "empty"])
def test_what_lies_in_the_place_of_an_attestation(
    tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str], place: str, kind: str
) -> None:
    path = results / place
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(b"x")
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes({"huge": bytes(3 << 20), "noise": b"\x30\x82\x00", "empty": b""}[kind])
    code, found = verified(capfd, results)
    assert code == ExitCode.NOT_ATTESTED
    assert place in {one["path"] for one in found["findings"]}


def test_no_signature_of_another_key_is_replaced(
    tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret, public = write_keys(tmp_path)
    other, _ = write_keys(tmp_path, "other")
    assert clue(["sign", str(results), "--key", str(secret)]) == ExitCode.OK
    assert "is not replaced" in said(capfd, ExitCode.BAD_USAGE, "sign", results, "--key", other)
    assert clue(["sign", str(results), "--key", str(secret)]) == ExitCode.OK
    assert verified(capfd, results, "--key", public)[0] == ExitCode.OK


def test_a_changed_manifest_is_not_signed(tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret, _ = write_keys(tmp_path)
    listing = results / "manifest.hashdeep"
    listing.write_bytes(listing.read_bytes() + b"\n")
    assert "does not fit" in said(capfd, ExitCode.NOTHING_TO_SCAN, "sign", results, "--key", secret)
    assert not (results / SIGNATURE).exists()


def test_nothing_is_signed_where_nothing_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret, _ = write_keys(tmp_path)
    assert "does not exist" in said(capfd, ExitCode.NOTHING_TO_SCAN, "sign", tmp_path / "no", "--key", secret)
    assert not (tmp_path / "no").exists()
    assert "nothing to do" in said(capfd, ExitCode.BAD_USAGE, "sign", tmp_path)


def test_a_folder_in_use_is_not_signed(tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret, _ = write_keys(tmp_path)
    with FileLock(results / LOCK):
        said(capfd, ExitCode.OUTPUT_NOT_WRITABLE, "sign", results, "--key", secret)


def test_the_passphrase_comes_from_the_environment(
    tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, public = write_keys(tmp_path, passphrase="right")
    monkeypatch.setenv(PASSPHRASE, "wrong")
    assert "does not open" in said(capfd, ExitCode.BAD_USAGE, "sign", results, "--key", secret)
    monkeypatch.setenv(PASSPHRASE, "right")
    assert clue(["sign", str(results), "--key", str(secret)]) == ExitCode.OK
    assert verified(capfd, results, "--key", public)[0] == ExitCode.OK


@pytest.mark.skipif(os.name == "nt", reason="POSIX sessions")
def test_without_a_terminal_nobody_is_asked(tmp_path: Path, results: Path) -> None:
    secret, _ = write_keys(tmp_path, passphrase="right")
    done = subprocess.run(
        [sys.executable, "-m", "clue_cli", "sign", results, "--key", secret],
        input=b"right\n",
        capture_output=True,
        start_new_session=True,
        timeout=60,
    )
    assert done.returncode == ExitCode.BAD_USAGE
    assert b"no terminal" in done.stderr and PASSPHRASE.encode() in done.stderr


@needs_openssl
def test_a_time_stamp_is_asked_for_added_and_checked(
    tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    authority, other = Authority(tmp_path / "tsa"), Authority(tmp_path / "other")
    code, found = verified(capfd, results, "--authority", authority.certificate)
    assert (code, found["findings"][0]["path"]) == (ExitCode.NOT_ATTESTED, TIME_STAMP)
    assert clue(["sign", str(results), "--timestamp-request"]) == ExitCode.OK
    request = (results / TIME_STAMP_REQUEST).read_bytes()
    assert "as it was" in said(capfd, ExitCode.OK, "sign", results, "--timestamp-request")
    assert (results / TIME_STAMP_REQUEST).read_bytes() == request
    assert "is not there" in " ".join(verified(capfd, results)[1]["notes"])
    (tmp_path / "answer.tsr").write_bytes(authority.answer(request))
    assert "was not checked" in said(capfd, ExitCode.OK, "sign", results, "--timestamp", tmp_path / "answer.tsr")
    code, found = verified(capfd, results)
    assert (code, found["time_stamp"]["checked"]) == (ExitCode.OK, False)
    assert "authority not checked" in " ".join(found["notes"])
    code, found = verified(capfd, results, "--authority", authority.certificate)
    assert (code, found["time_stamp"]["checked"]) == (ExitCode.OK, True)
    assert found["time_stamp"]["authority"] == "CN=Test stamps"
    code, found = verified(capfd, results, "--authority", other.certificate)
    assert (code, found["time_stamp"]) == (ExitCode.NOT_ATTESTED, None)
    (tmp_path / "second.tsr").write_bytes(authority.answer(request))
    refused = said(capfd, ExitCode.BAD_USAGE, "sign", results, "--timestamp", tmp_path / "second.tsr")
    assert "has another time stamp" in refused


@needs_openssl
def test_an_answer_for_another_folder_is_not_added(
    tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from clue_cli.custody.timestamp import make_request

    answer = tmp_path / "answer.tsr"
    assert "cannot be read" in said(capfd, ExitCode.BAD_USAGE, "sign", results, "--timestamp", answer)
    answer.write_bytes(Authority(tmp_path / "tsa").answer(make_request(b"another")))
    assert "over other data" in said(capfd, ExitCode.BAD_USAGE, "sign", results, "--timestamp", answer)
    assert not (results / TIME_STAMP).exists()


def test_a_wrong_key_is_said_before_anything_is_compared(
    tmp_path: Path, results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret, _ = write_keys(tmp_path)
    assert "is a secret key" in said(capfd, ExitCode.BAD_USAGE, "verify", results, "--key", secret)
    assert "holds no certificate" in said(capfd, ExitCode.BAD_USAGE, "verify", results, "--authority", secret)


def test_a_scan_signs_at_its_end_and_a_bad_key_stops_it_at_once(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    secret, public = write_keys(tmp_path)
    (tmp_path / "evidence").mkdir()
    Image.effect_noise((64, 48), 40).convert("RGB").save(tmp_path / "evidence" / "a.png")
    scan = ["scan", tmp_path / "evidence", "--out", tmp_path / "out", "--model", model, "--device", "cpu"]
    assert "is a public key" in said(capfd, ExitCode.BAD_USAGE, *scan, "--sign", public)
    assert not (tmp_path / "out").exists()
    said(capfd, ExitCode.OK, *scan, "--sign", secret)
    code, found = verified(capfd, tmp_path / "out", "--key", public)
    assert (code, found["signature"]["checked"]) == (ExitCode.OK, True)
    assert f"now, with {SIGNATURE}" in said(capfd, ExitCode.OK, *scan)
    assert verified(capfd, tmp_path / "out", "--key", public)[0] == ExitCode.NOT_ATTESTED

"""Content credentials: verified offline, and every other outcome said."""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path

import pytest

from clue_cli.evidence import content_credentials
from clue_cli.evidence.content_credentials import MARK, _said, credential_findings
from clue_cli.evidence.decode import Page, decode_pages
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.records import Finding, Weight
from tests.faults import pictures

FAULTS = Path(__file__).parents[2] / "faults"


@pytest.fixture(scope="module")
def signed() -> bytes:
    """A JPEG signed by a test certificate, edited according to its manifest."""
    c2pa = pytest.importorskip("c2pa")
    chain, key = ((FAULTS / name).read_bytes() for name in ("c2pa_chain.pem", "c2pa_key.pem"))
    actions = [
        {
            "action": "c2pa.created",
            "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
        },
        {"action": "c2pa.edited", "description": "erased\u202e a bin"},
    ]
    manifest = {
        "claim_generator_info": [{"name": "Example Editor", "version": "1"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }
    out = io.BytesIO()
    with c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None)) as signer:
        c2pa.Builder(json.dumps(manifest)).sign(signer, "image/jpeg", io.BytesIO(pictures.jpeg()), out)
    return out.getvalue()


def test_sound_credentials_hold_and_say_what_was_done(signed: bytes) -> None:
    first, second = credential_findings(signed, "image/jpeg")
    assert first.data == {"state": "valid", "signer": "Example Camera"}
    assert "Whether the signer is who it claims to be was not checked" in first.statement
    assert "with Example Editor: created (digitalCapture); edited, “erased\ufffd a bin”" in second.statement
    assert second.weight is Weight.SUPPORTS_EDIT


@pytest.mark.parametrize(
    ("action", "source", "code"),
    [
        ("c2pa.created", "trainedAlgorithmicMedia", "trainedAlgorithmicMedia"),
        ("c2pa.created", "compositeWithTrainedAlgorithmicMedia", None),
        ("c2pa.created", "digitalCapture", None),
        ("c2pa.edited", "trainedAlgorithmicMedia", None),
    ],
)
def test_a_picture_created_by_a_model_is_told_from_one_that_was_edited_with_one(
    action: str, source: str, code: str | None
) -> None:
    actions = [{"action": action, "digitalSourceType": f"http://cv.iptc.org/newscodes/digitalsourcetype/{source}"}]
    manifest = {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]}
    _, found = _said({"active_manifest": "m", "manifests": {"m": manifest}})
    assert found.data.get("code") == code


def test_a_file_changed_after_signing_breaks_them(signed: bytes) -> None:
    changed = bytearray(signed)
    changed[-20] ^= 1
    (found,) = credential_findings(bytes(changed), "image/jpeg")
    assert found.data["state"] == "invalid"
    assert found.weight is Weight.SUPPORTS_EDIT


def test_what_is_no_change_is_no_accusation() -> None:
    store = {
        "active_manifest": "a",
        "manifests": {"a": {"signature_info": {"issuer": "X"}}},
        "validation_results": {"activeManifest": {"failure": [{"code": "signingCredential.expired"}]}},
    }
    (found,) = content_credentials._said(store)
    assert (found.data["state"], found.weight) == ("not confirmed", Weight.INFORMATION)


def test_damaged_credentials_cost_a_finding(signed: bytes) -> None:
    rng = random.Random(1)
    for _ in range(20):
        damaged = bytearray(signed)
        for _ in range(20):
            damaged[rng.randrange(20, len(damaged))] = rng.randrange(256)
        assert all(isinstance(finding, Finding) for finding in credential_findings(bytes(damaged), "image/jpeg"))
    (found,) = credential_findings(b"\xff\xd8" + MARK, "image/jpeg")
    assert found.data["state"] == "unreadable"


def test_without_the_extra_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    (found,) = credential_findings(MARK, "image/jpeg")
    assert found.data["state"] == "not verified"
    assert "extra `c2pa`" in found.statement
    assert credential_findings(pictures.jpeg(), "image/jpeg") == []


def test_the_decoder_passes_them_on(signed: bytes) -> None:
    (page,) = decode_pages(signed, "jpeg", DecodeLimits(), as_evidence=True)
    assert isinstance(page, Page)
    assert {"content_credentials", "credential_actions", "quantization_tables"} <= {f.kind for f in page.findings}

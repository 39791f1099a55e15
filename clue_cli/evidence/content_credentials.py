"""Content credentials (C2PA): what a signed manifest says of a picture, verified offline.

The manifest is verified by the C2PA project's own library (extra `c2pa`), in the sandbox, without the network: no
manifest, certificate status or trust list is fetched. So the signature and the hashes are checked; whether the signer
can be trusted is not, and the findings say so.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping
from typing import Any

from clue_cli.evidence.locator import clean_text
from clue_cli.records import Finding, Origin, Weight

MARK = b"jumdc2pa"
"""JUMBF description box of a manifest store: box type, then the UUID's first bytes."""

_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}, "trust": {"verify_trust_list": False}}
_UNTRUSTED = "signingCredential.untrusted"
_ACTIONS: Mapping[str, str] = {
    "c2pa.created": "created",
    "c2pa.opened": "opened",
    "c2pa.placed": "another picture placed in it",
    "c2pa.edited": "edited",
    "c2pa.removed": "something removed",
    "c2pa.cropped": "cropped",
    "c2pa.resized": "resized",
    "c2pa.color_adjustments": "colours adjusted",
    "c2pa.filtered": "filtered",
    "c2pa.drawing": "drawn on",
    "c2pa.converted": "converted",
    "c2pa.transcoded": "compressed again",
    "c2pa.published": "published",
    "c2pa.redacted": "credentials removed",
}
_EDITS = {"c2pa.placed", "c2pa.edited", "c2pa.removed", "c2pa.drawing", "c2pa.cropped"}
_SHOWN = 12
"""Actions that are named."""


def credential_findings(data: bytes, media_type: str) -> list[Finding]:
    """Findings about the content credentials of a file, none if it carries none.

    Args:
        data: the file.
        media_type: such as `image/jpeg`.
    """
    if MARK not in data:
        return []
    try:
        c2pa = importlib.import_module("c2pa")
    except ImportError:
        return [
            _finding(
                "It carries content credentials (C2PA). They were not verified: that needs the extra `c2pa`.",
                state="not verified",
            )
        ]
    try:
        with (
            c2pa.Context.from_dict(_OFFLINE) as context,
            c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader,
        ):
            store: dict[str, Any] = json.loads(reader.json())
    except Exception as error:  # whatever the library says of hostile bytes
        words = clean_text(str(error), 120) or type(error).__name__
        return [_finding(f"It carries content credentials (C2PA) that cannot be read: {words}.", state="unreadable")]
    return _said(store)


def _said(store: Mapping[str, Any]) -> list[Finding]:
    manifest = store.get("manifests", {}).get(store.get("active_manifest")) or {}
    signature = manifest.get("signature_info") or {}
    signer = clean_text(signature.get("issuer") or "", 80) or "an unnamed signer"
    when = clean_text(signature.get("time") or "", 40)
    failures = (store.get("validation_results") or {}).get("activeManifest", {}).get("failure", [])
    broken = sorted({str(failure.get("code")) for failure in failures} - {_UNTRUSTED})
    by = f"{signer}{f' on {when}' if when else ''}"
    words = clean_text(", ".join(broken), 200)
    if any(code.endswith((".mismatch", ".missing")) for code in broken):
        statement = (
            f"Its content credentials (C2PA), signed by {by}, do not hold ({words}): the file or the credentials were "
            "changed after signing. Programs that do not know of credentials break them by saving, and so does the "
            "loss of the file's end."
        )
        return [_finding(statement, Weight.SUPPORTS_EDIT, state="invalid", signer=signer)]
    if broken:  # such as an expired certificate, or an unknown algorithm
        statement = f"Its content credentials (C2PA), signed by {by}, could not be confirmed ({words})."
        return [_finding(statement, state="not confirmed", signer=signer)]
    found = [
        _finding(
            f"Its content credentials (C2PA) hold: the file is as {by} signed it. Whether the signer is who it claims "
            "to be was not checked.",
            state="valid",
            signer=signer,
        )
    ]
    generator = next(
        (clean_text(info.get("name") or "", 80) for info in manifest.get("claim_generator_info", [])), None
    )
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
        if isinstance(action, dict)
    ]
    if actions:
        words = "; ".join(_action(action) for action in actions[:_SHOWN])
        edits = any(action.get("action") in _EDITS or "lgorithmicMedia" in _source(action) for action in actions)
        created = {_source(action).rpartition("/")[2] for action in actions if action.get("action") == "c2pa.created"}
        code = {"code": "trainedAlgorithmicMedia"} if "trainedAlgorithmicMedia" in created else {}
        statement = f"The credentials say what was done{f' with {generator}' if generator else ''}: {words}."
        weight = Weight.SUPPORTS_EDIT if edits else Weight.INFORMATION
        found.append(_finding(statement, weight, "credential_actions", state="valid", **code))
    return found


def _source(action: Mapping[str, Any]) -> str:
    return str(action.get("digitalSourceType") or "")


def _action(action: Mapping[str, Any]) -> str:
    name = str(action.get("action", ""))
    words = _ACTIONS.get(name) or clean_text(name.removeprefix("c2pa.").replace("_", " "), 40) or "something"
    source = clean_text(_source(action).rpartition("/")[2], 40)
    description = clean_text(action.get("description") or "", 80)
    return words + (f" ({source})" if source else "") + (f", “{description}”" if description else "")


def _finding(
    statement: str, weight: Weight = Weight.INFORMATION, kind: str = "content_credentials", **data: str
) -> Finding:
    return Finding(kind=kind, source=Origin.METADATA, statement=statement, weight=weight, data=dict(data))

"""The files of a results folder that say what is in it, by which it is verified. They do not list themselves."""

import re

MANIFEST_HASHDEEP, MANIFEST_DFXML = "manifest.hashdeep", "manifest.dfxml"
"""Every file of the results folder, by its path below it."""

EVIDENCE_HASHDEEP, EVIDENCE_DFXML = "evidence.hashdeep", "evidence.dfxml"
"""What was read of the evidence, by locator."""

MANIFEST_SUMS = "manifest.sha256"
"""SHA-256 of the other four, as `sha256sum` writes them: what is signed."""

LISTED_IN_SUMS = (EVIDENCE_DFXML, EVIDENCE_HASHDEEP, MANIFEST_DFXML, MANIFEST_HASHDEEP)
"""In this order."""

SIGNATURE, TIME_STAMP = f"{MANIFEST_SUMS}.minisig", f"{MANIFEST_SUMS}.tsr"
TIME_STAMP_REQUEST = f"{MANIFEST_SUMS}.tsq"
"""What was asked of the authority whose answer is the time stamp; kept for its nonce."""

RUNS = "runs"
"""The folder of earlier runs; a signed or time-stamped manifest of one is kept in `runs/RUN_ID/`."""

ADDITIONS = "additions.jsonl"
"""What commands of clue wrote into the folder after the manifest."""

PAGE_NAME = re.compile(r"\w[\w .,()+&'-]{0,99}\.(?:html|pdf)")
"""Names of pages and documents beside the log that clue notes and lists as its own."""

MANIFESTS = (SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST, MANIFEST_SUMS, *LISTED_IN_SUMS, ADDITIONS)
"""All of them; those that stand for others come first."""

"""Lists of hashes in the forms that other tools write."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from clue_cli.errors import UsageError
from clue_cli.evidence.hash_lists import read_hash_list

A, B = b"the one", b"the other"


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, data).hexdigest()


SHA, SHA1, MD5 = digest(A), digest(A, "sha1"), digest(A, "md5")
FORMS = {
    "plain": f"# known\n\n{SHA}\n",
    "upper": f"{SHA.upper()}\r\n",
    "sha256sum": f"{digest(B)}  other.jpg\n{SHA} *a name.jpg\n",
    "sha256sum, escaped": f"\\{SHA}  a\\nb.jpg\n",
    "bsd": f"SHA256 (a, {MD5}.jpg) = {SHA}\n",
    "hashdeep": "%%%% HASHDEEP-1.0\n%%%% size,md5,sha256,filename\n## Invoked from: /\n## $ hashdeep .\n##\n"
    f"7,{digest(B, 'md5')},{SHA},/a, b.jpg\n",
    "powershell": f"\nAlgorithm Hash Path\n--------- ---- ----\nSHA256 {SHA.upper()} C:\\a.jpg\n",
    "nsrl": f'"SHA-1","MD5","CRC32","FileName"\n"{SHA1.upper()}","{MD5.upper()}","00","a,b.jpg"\n',
    "nsrl 3": f'"sha256","sha1","md5","file_name"\n"{SHA}","{SHA1}","{MD5}","a.jpg"\n',
    "md5sum": f"{MD5}  a.jpg\n",
}


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"powershell"}))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_forms(tmp_path: Path, form: str, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(FORMS[form].encode(encoding))
    found = read_hash_list(path)
    assert found.holds(digest(A), A)
    assert not found.holds(digest(b"third"), b"third")
    assert found.holds(digest(A), None) is not found.is_weak
    assert found.is_weak is (form in ("nsrl", "md5sum"))
    assert found.sha256 == digest(path.read_bytes())
    assert len(found) == (2 if form == "sha256sum" else 1)


def test_a_hash_that_ends_in_zeros_is_found(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{'ab' * 30}0000\n{'ab' * 31}00\n")
    found = read_hash_list(path)
    assert found.holds("ab" * 30 + "0000", None)
    assert found.holds("ab" * 31 + "00", None)
    assert not found.holds("ab" * 32, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no hashes"),
        ("# nothing\n", "holds no hashes"),
        (f"{SHA}\nnot a hash\n", "line 2, holds no hash"),
        (f"{SHA}0\n", "line 1, holds no hash"),
        ("a" * 200_000, "line 1, holds no hash"),
        ("md5\n" + "a" * 200_000, "line 2, holds no hash"),
        ("%%%% HASHDEEP-1.0\n%%%% size,tiger,filename\n7,aa,x\n", "line 3, holds no hash"),
        (FORMS["powershell"], "line 2, holds no hash"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(UsageError, match=said) as caught:
        read_hash_list(path)
    assert "hashdeep" in (caught.value.advice or "")


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_hash_list(tmp_path / "nowhere.txt")

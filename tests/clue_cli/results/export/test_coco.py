"""`clue export --format coco`: what annotation tools read is the mask, pixel by pixel; what is not there is said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode
from clue_cli.records import BoundingBox, ImageRecord, Region, Verdict, WrittenFile
from clue_cli.results.pictures import encode_mask
from tests.clue_cli.results.made import failure, image, open_store, run
from tests.object_store import ObjectStore

HEIGHT, WIDTH = 90, 120

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


def mask(seed: int) -> NDArray[np.bool_]:
    return np.asarray(ndimage.gaussian_filter(np.random.default_rng(seed).random((HEIGHT, WIDTH)), 3) > 0.51)


def record(locator: str, seed: int, **changes: Any) -> ImageRecord:
    return image(locator, width=WIDTH, height=HEIGHT, **changes)


def region(seed: int) -> Region:
    """The largest one of a mask."""
    labels, _ = ndimage.label(mask(seed), np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    rows, columns = ndimage.find_objects(labels)[int(sizes.argmax())]
    box = BoundingBox(x=columns.start, y=rows.start, width=columns.stop - columns.start, height=rows.stop - rows.start)
    return Region(box=box, area=int(sizes.max()), area_ratio=0.1, mean_probability=0.75, peak_probability=0.9)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    hashed = [WrittenFile(output="mask", byte_size=1, sha256=hashlib.sha256(encode_mask(mask(3))).hexdigest())]
    records = {
        0: record("case/</script>\u00fc \\udce9.jpg", 0, verdict=Verdict.FORGED, regions=[region(0)], region_count=9),
        1: record("case/a.tif", 1, page=0, page_count=2, verdict=Verdict.INCONCLUSIVE),
        2: record("case/a.tif", 2, page=1, page_count=2, verdict=Verdict.NO_EVIDENCE),
        3: record("case/b.jpg", 3, verdict=Verdict.FORGED, written=hashed),
    }
    with open_store(tmp_path / "results") as store:
        for seed, one in records.items():
            store.write_image(one, {"mask": encode_mask(mask(seed))})
        store.write_image(record("case/empty.jpg", 9), {"mask": encode_mask(np.zeros((HEIGHT, WIDTH), np.bool_))})
        store.write_failure(failure("case/broken.jpg"))
        store.finish(run(status="finished"))
    return tmp_path / "results"


def exported(results: Path, code: int = ExitCode.OK, *options: str) -> COCO:
    out = results.parent / "regions.json"
    assert clue(["export", str(results), "--format", "coco", "--out", str(out), *options]) == code
    return COCO(str(out))


def by_name(found: COCO) -> dict[str, dict[str, Any]]:
    return {one["file_name"]: one for one in found.dataset["images"]}


def drawn(found: COCO, image: dict[str, Any], *, exact: bool) -> NDArray[np.bool_]:
    whole = np.zeros((image["height"], image["width"]), np.bool_)
    for one in found.loadAnns(found.getAnnIds(imgIds=image["id"])):
        part = found.annToMask(one | {"segmentation": one["rle"]} if exact else one)
        ys, xs = np.nonzero(part)
        assert one["area"] == part.sum()
        assert one["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        whole |= part.astype(np.bool_)
    return whole


def test_polygons_and_runs_are_the_mask(results: Path) -> None:
    found = exported(results)
    images = by_name(found)
    names = ["case/</script>\u00fc \\udce9.jpg", "case/a.tif", "case/a.tif#page=1", "case/b.jpg"]
    assert set(images) == {*names, "case/empty.jpg"}
    for seed, name in enumerate(names):
        for exact in (False, True):
            assert np.array_equal(drawn(found, images[name], exact=exact), mask(seed))
    assert images["case/empty.jpg"] | {"annotations": 0, "mask": "read"} == images["case/empty.jpg"]
    assert found.getAnnIds(imgIds=images["case/empty.jpg"]["id"]) == []
    categories = {one["id"]: one["name"] for one in found.dataset["categories"]}
    verdicts = {image["id"]: image["verdict"] for image in images.values()}
    annotations = found.dataset["annotations"]
    assert all(categories[one["category_id"]] == verdicts[one["image_id"]] for one in annotations)
    assert all(one["iscrowd"] == 0 for one in annotations)
    assert len({one["id"] for one in annotations}) == len(annotations) == found.dataset["info"]["annotations"]
    assert [one["score"] for one in annotations if "score" in one] == [0.75]
    info = found.dataset["info"]
    assert (info["images"], info["failures"], info["masks_missing_or_damaged"]) == (5, 1, 0)
    assert images["case/a.tif#page=1"]["page"] == 1


def test_a_selection(results: Path) -> None:
    assert set(by_name(exported(results, ExitCode.OK, "--only", "inconclusive"))) == {"case/a.tif"}
    empty = exported(results, ExitCode.OK, "--where", "score>2").dataset
    assert (empty["images"], empty["annotations"]) == ([], [])


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif how == "other":
        path.write_bytes(encode_mask(~mask(3)))
    elif how == "size":
        path.write_bytes(encode_mask(np.zeros((5, 5), np.bool_)))
    elif how == "no picture":
        path.write_bytes(b"GIF89a")
    elif how == "link":
        target = path.parent.parent.parent.parent / "elsewhere.png"
        path.rename(target)
        path.symlink_to(target)
    else:
        Image.new("L", (WIDTH, HEIGHT), 60).save(path)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "mask is missing"),
        ("cut", "mask has changed since the scan"),
        ("other", "mask has changed since the scan"),
        ("link", "mask is missing"),
    ],
)
def test_a_mask_whose_hash_is_known(how: str, says: str, results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damage(results / "masks/case/b.jpg.png", how)
    check_left_out(results, "case/b.jpg", says, capfd)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "mask is missing"),
        ("cut", "mask is damaged: not a whole PNG"),
        ("size", "mask has another size than its image"),
        ("no picture", "mask is damaged: not a whole PNG"),
        ("grey", "mask is damaged or too large"),
    ],
)
def test_a_mask_without_a_hash(how: str, says: str, results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = results / "records.jsonl"
    log.write_text("".join(json.dumps(json.loads(line) | {"written": []}) + "\n" for line in log.open()))
    damage(results / "masks/case/a.tif.p0001.png", how)
    check_left_out(results, "case/a.tif#page=1", says, capfd)


def check_left_out(results: Path, name: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = exported(results, ExitCode.SOME_FAILED)
    err = capfd.readouterr().err
    assert f"Warning: {says}" in err and f"1 record: {name}." in err
    images = by_name(found)
    assert len(images) == 5
    assert found.getAnnIds(imgIds=images[name]["id"]) == []
    assert images[name]["mask"] in f"{says}" or says.removeprefix("mask ") in images[name]["mask"]
    assert found.dataset["info"]["masks_missing_or_damaged"] == 1
    assert np.array_equal(drawn(found, images["case/a.tif"], exact=True), mask(1))


def test_a_record_that_names_a_file_elsewhere(results: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(encode_mask(mask(1)))
    log = results / "records.jsonl"
    for name in ("../secret.png", str(tmp_path / "secret.png"), "masks/../../secret.png"):
        text = log.read_text().replace("masks/case/b.jpg.png", name)
        copy = tmp_path / "copy"
        copy.mkdir(exist_ok=True)
        (copy / "records.jsonl").write_text(text)
        assert by_name(exported(copy, ExitCode.SOME_FAILED))["case/b.jpg"]["mask"] == "is missing"


def test_to_standard_output(results: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert clue(["export", str(results), "--format", "coco"]) == ExitCode.OK
    assert len(json.loads(capfdbinary.readouterr().out)["images"]) == 5


def test_results_in_an_object_store(results: Path, object_store: ObjectStore, tmp_path: Path) -> None:
    (results / "masks/case/b.jpg.png").unlink()
    object_store.bucket("case")
    object_store.upload(results, "case", "results/")
    out = tmp_path / "remote.json"
    words = ["export", "s3://case/results", "--format", "coco", "--out", str(out)]
    assert clue(words) == ExitCode.SOME_FAILED
    exported(results, ExitCode.SOME_FAILED)
    assert out.read_bytes() == (results.parent / "regions.json").read_bytes()
    assert clue(["export", "s3://case/results", "--format", "case", "--out", str(tmp_path / "remote.jsonld")]) == 0
    assert clue(["export", str(results), "--format", "case", "--out", str(tmp_path / "local.jsonld")]) == 0
    assert (tmp_path / "remote.jsonld").read_bytes() == (tmp_path / "local.jsonld").read_bytes()

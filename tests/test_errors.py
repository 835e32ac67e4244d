from roselora.errors import reason_of


def test_what_a_library_said_is_its_first_line_without_the_end() -> None:
    assert reason_of(ValueError("no such key.\n  in line 3")) == "no such key"


def test_an_error_that_says_nothing_is_told_by_its_kind() -> None:
    assert reason_of(RuntimeError("")) == "RuntimeError"


def test_a_message_that_repeats_a_whole_file_is_cut() -> None:
    assert len(reason_of(ValueError("x" * 10_000))) == 200


def test_what_the_system_said_comes_with_the_files_name_alone() -> None:
    assert reason_of(OSError(28, "No space left on device", "/a/b/model.safetensors")) == (
        "No space left on device: model.safetensors"
    )
    assert reason_of(RuntimeError("I/O error: No space left on device (os error 28)")) == "No space left on device"

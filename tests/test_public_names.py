import subprocess
import sys

import pytest

import roselora


def test_every_public_name_is_there_and_they_are_few() -> None:
    assert len(roselora.__all__) <= 15
    for name in roselora.__all__:
        assert getattr(roselora, name).__name__ == name
    assert set(roselora.__all__) == set(roselora._HOMES)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Editr'"):
        roselora.Editr  # noqa: B018


def test_importing_the_package_imports_no_heavy_library() -> None:
    program = "import roselora, sys; assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)

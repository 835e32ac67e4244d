"""The settings of methods: defaults, a file, overrides; whatever no method has is refused in one sentence."""

import hashlib
from pathlib import Path

import pytest

from roselora.bench.methods.editing_methods import METHODS
from roselora.bench.running.method_settings import as_plain, configured
from roselora.errors import ConfigError


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"settings": {"ft-m": {"learning_rate": 0.1, "epochs": 7}, "lora": {"rank": 4}}}')
    chosen = configured(["rose", "ft-m"], ["ft-m.epochs=9"], file=file, seed=3)
    assert list(chosen) == ["rose", "ft-m"], "lora is not run, so what the file says of it is passed over"
    config = chosen["ft-m"].config
    assert (config.learning_rate, config.epochs, config.seed) == (0.1, 9, 3)
    assert chosen["rose"].config.seed == 3
    assert METHODS["ft-m"].config.epochs != 9, "the defaults are nobody's to change"


def test_values_are_converted_to_the_configs_types_and_a_file_is_recorded_by_its_hash(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a text")
    method = configured(["memit"], ["memit.layers=[3, 4]", "memit.clamp=1e-1"], covariance_text=text)["memit"]
    assert method.config.layers == (3, 4)
    assert method.config.clamp == 0.1
    plain = as_plain(method.config)
    assert plain["layers"] == [3, 4]
    assert plain["text"] == {"name": "text.txt", "sha256": hashlib.sha256(b"a text").hexdigest()}


@pytest.mark.parametrize(
    ("names", "overrides", "complaint"),
    [
        (["rosa"], [], "There is no method 'rosa'; the methods are no-edit"),
        (["rose-neurons"], [], "'rose-neurons' is called gate now"),
        (["ft-m"], ["ft-m.speed=1"], "ft-m has no setting 'speed'; it has"),
        (["ft-m"], ["epochs=1"], "METHOD.FIELD=VALUE"),
        (["ft-m"], ["lora.epochs=1"], "for a method that is not part of this run; it runs ft-m"),
        (["ft-m"], ["ft-m.epochs=many"], r"ft-m\.epochs: .*integer"),
        (["ft-m"], ["ft-m.epochs=0"], "ft-m: epochs"),
        (["rose"], ["rose.density=2"], "density must be a number above 0 and at most 1, not 2.0"),
    ],
)
def test_an_unknown_method_setting_or_value_is_refused(names: list[str], overrides: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        configured(names, overrides)


def test_a_missing_file_and_a_mistyped_method_in_it_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read \\(No such file"):
        configured(["ft-m"], file=tmp_path / "settings.yaml")
    (tmp_path / "settings.yaml").write_text("ftm: {epochs: 3}")
    with pytest.raises(ConfigError, match="has settings of 'ftm', which is not a method; the methods are no-edit"):
        configured(["ft-m"], file=tmp_path / "settings.yaml")
    with pytest.raises(ConfigError, match="There is no text file"):
        configured(["rome"], covariance_text=tmp_path / "missing.txt")


@pytest.mark.parametrize("content", ["just text", "[1, 2]", "ft-m: 3", "{"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.yaml is not a file of settings"):
        configured(["ft-m"], file=file)

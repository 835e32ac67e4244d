from pathlib import Path

import pytest
import yaml

from roselora.errors import ConfigError
from roselora.training.config_file import as_yaml, commented_config, read_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(commented_config())
    return path


def test_the_commented_config_is_valid_and_holds_the_defaults(config: Path) -> None:
    assert read_settings(config) == read_settings(None, ["model=demo", "data.train=data.jsonl"])


def test_every_key_of_the_commented_config_has_a_comment(config: Path) -> None:
    for line in config.read_text().splitlines():
        if line.partition(":")[2].strip():
            assert "  # " in line or line.startswith("#"), line


def test_the_file_goes_over_defaults_and_options_over_the_file(config: Path) -> None:
    config.write_text("model: demo\ndata: {train: d.jsonl}\nadapter: {density: 0.2, rank: 4}\n")
    settings = read_settings(config, ["adapter.density=0.3"], {"model": "other"})
    assert (settings.adapter.density, settings.adapter.rank, settings.adapter.alpha) == (0.3, 4, 16)
    assert settings.model == "other"


def test_a_run_is_repeated_by_the_settings_that_it_wrote(config: Path, tmp_path: Path) -> None:
    settings = read_settings(
        config, ["training.learning_rate=1e-3", "adapter.warmup=3", "adapter.target_modules=[a, b]"]
    )
    written = tmp_path / "written.yaml"
    written.write_text(as_yaml(settings))
    assert read_settings(written) == settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learnig_rate=1", "unknown key training.learnig_rate; did you mean learning_rate"),
        ("densty=1", "unknown key densty; known here are model"),
        ("density=0.1", "unknown key density; did you mean adapter.density"),
        ("adapter.rank=x", "adapter.rank = 'x': input should be a valid integer"),
        ("adapter.rank=0", "adapter.rank = 0: input should be greater than or equal to 1"),
        ("training.learning_rate=.nan", "training.learning_rate = nan"),
        ("method=lor", "method = 'lor': input should be 'rose'"),
        ("data=3", "data = 3"),
        ("nothing", "not of the form key=value"),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence_that_names_it(config: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        read_settings(config, [override])
    assert message in str(caught.value)


def test_retention_is_refused_for_methods_that_choose_no_entries(config: Path) -> None:
    with pytest.raises(ConfigError, match="retention works by choosing entries, which the method lora does not do"):
        read_settings(config, ["method=lora", "retention.prompts=keep.txt"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: demo\nmodel: other\n", "stands twice"),
        ("- a\n", "no keys and values"),
        ("model: [", "not valid YAML"),
        ("model: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("model: demo\n", "data is missing"),
    ],
)
def test_a_file_that_is_no_config_is_refused(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_settings(config)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_settings(tmp_path / "binary")


def test_the_commented_config_is_plain_yaml() -> None:
    assert yaml.safe_load(commented_config())["adapter"]["density"] == 0.05

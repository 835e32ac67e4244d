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
        ("adapter.r=8", "unknown key adapter.r; did you mean adapter.rank"),
        ("adapter.rank=x", "adapter.rank = 'x': input should be a valid integer"),
        ("adapter.rank=0", "adapter.rank = 0: input should be greater than or equal to 1"),
        ("training.learning_rate=.nan", "training.learning_rate = nan: input should be a finite number"),
        ("training.learning_rate=1e38", "training.learning_rate = '1e38': input should be less than"),
        ("training.epochs=.inf", "training.epochs = inf: input should be a finite number"),
        ("adapter.alpha=.inf", "adapter.alpha = inf: input should be a finite number"),
        ("training.weight_decay=.inf", "training.weight_decay = inf: input should be a finite number"),
        ("training.max_grad_norm=.inf", "training.max_grad_norm = inf: write null for no clipping"),
        ("retention.weight=.inf", "retention.weight = inf: input should be a finite number"),
        ("training.seed=4294967296", "training.seed = 4294967296: input should be less than 4294967296"),
        ("training.max_steps=99999999999999", "training.max_steps = 99999999999999: input should be less than"),
        ("adapter.rank=yes", "adapter.rank = True: this key takes no yes and no (true and false)"),
        ("adapter.warmup=x", "adapter.warmup = 'x': input should be a valid integer"),
        ("adapter.target_modules=[]", "adapter.target_modules = []: list should have at least 1 item"),
        ("data.columns={promt: a}", "no shape has a column 'promt'; did you mean prompt"),
        ("data.columns={'': a}", "no shape has a column ''; there are messages"),
        ("data.columns={prompt: a, completion: a}", "the column 'a' is named twice"),
        ("data.columns={1: a}", "data.columns.1.[key] = 1: input should be a valid string"),
        ("training.eval_steps=2", "training.eval_steps needs a validation set"),
        ("int=1", "unknown key int; known here are model"),
        ("1=1", "unknown key 1; known here are model"),
        ("method=lor", "method = 'lor': input should be 'rose'"),
        ("data=3", "data = 3"),
        ("nothing", "not of the form key=value"),
        ('output="a\\0b"', "can have such a name; name another."),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence_that_names_it(config: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        read_settings(config, [override])
    assert message in str(caught.value)
    assert not str(caught.value).endswith("..")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: demo\nmodel: other\n", "is given twice"),
        ("- a\n", "no keys and values"),
        ("model: [", "is not a config file in YAML"),
        ("model: !!python/object/apply:os.system [ls]\n", "is not a config file in YAML"),
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


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nmodel: &c [*b, *b, *b]\ndata: {train: [*c, *c, *c]}",
        f"model: demo\ndata: {{train: d, max_examples: {'1' * 4000}}}",
        f"model: demo\ndata: {{train: d}}\n{'k' * 10_000}: 1",
        f"model: demo\ndata: {{train: d, shape: {'s' * 10_000}}}",
        f"model: demo\ndata: {{train: {'[' * 30 + ']' * 30}}}",
        'model: "\\ud800"\ndata: {train: d}',
        '"\\ud800": 1\ndata: {train: d}',
    ],
    ids=range(7),
)
def test_every_error_of_a_config_file_is_a_short_sentence(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError, match=r"^[^\n]*\.$") as caught:
        read_settings(config)
    assert len(str(caught.value)) < 600 + len(str(config))


def test_equal_settings_are_written_alike(config: Path) -> None:
    asked = {"alpha": "16", "dropout": "0", "warmup": "0.0"}, {"alpha": "16.0", "dropout": "0.0", "warmup": "0"}
    first, second = (
        read_settings(None, ["model=demo", "data.train=d", *(f"adapter.{key}={value}" for key, value in keys.items())])
        for keys in asked
    )
    assert as_yaml(first) == as_yaml(second)
    config.write_text(as_yaml(read_settings(config)))
    assert as_yaml(read_settings(config)) == config.read_text()
    one_step, whole = (read_settings(config, [f"adapter.warmup={value}"]) for value in ("1", "1.0"))
    assert as_yaml(one_step) != as_yaml(whole)  # a step, and all steps


def test_a_leading_tilde_is_the_home_folder_wherever_a_path_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = ["output: ~/out", "model: ~/m", "data: {train: ~/d.jsonl, eval: ./~/e.jsonl}", "retention: {prompts: ~/p}"]
    (tmp_path / "c.yaml").write_text("\n".join(keys))
    settings = read_settings("~/c.yaml", ["output=~/other"])
    assert settings.output == str(tmp_path / "other")
    assert Path(read_settings("~/c.yaml", ["output=./~/other"]).output) == Path.cwd() / "~" / "other"
    assert settings.checkpoints == tmp_path / "other" / "checkpoints"
    assert (settings.model, settings.data.train) == (str(tmp_path / "m"), str(tmp_path / "d.jsonl"))
    assert (settings.data.eval, settings.retention.prompts) == ("./~/e.jsonl", str(tmp_path / "p"))


def test_sections_can_share_values_by_a_merge_key(config: Path) -> None:
    config.write_text(
        "model: demo\ndata: {train: d}\nadapter: &a {rank: 4}\ntraining: {<<: {epochs: 2}, batch_size: 3}\n"
    )
    settings = read_settings(config)
    assert (settings.adapter.rank, settings.training.epochs, settings.training.batch_size) == (4, 2, 3)


def test_a_written_config_has_no_control_characters_and_reads_back_the_same(tmp_path: Path) -> None:
    settings = read_settings(None, given={"model": "demo", "data.train": "d.jsonl", "output": "trained\u202egnp.exe"})
    written = tmp_path / "config.yaml"
    written.write_text(as_yaml(settings), encoding="utf-8")
    assert "\u202e" not in written.read_text(encoding="utf-8")
    assert read_settings(written) == settings
    plain = read_settings(None, given={"model": "demo", "data.train": "d.jsonl", "output": "模型"})
    assert "模型" in as_yaml(plain)

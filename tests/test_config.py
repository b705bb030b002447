"""Settings: strict, all problems at once, one place for every default."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from mlx_finetuning import config
from mlx_finetuning.config import SECTIONS, PrepareConfig, TrainConfig
from mlx_finetuning.errors import ConfigFileUnreadable, InvalidSettings


def problems_of(values: dict[str, object]) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        config.load(TrainConfig, values)
    problems: list[str] = caught.value.data["problems"]
    return problems


def test_nothing_given_is_the_defaults() -> None:
    assert config.load(TrainConfig, {}) == TrainConfig()


@pytest.mark.parametrize("kind", SECTIONS.values())
def test_defaults_pass_their_own_checks(kind: type) -> None:
    assert config.load(kind, config.as_dict(kind())) == kind()


@pytest.mark.parametrize("kind", SECTIONS.values())
def test_every_setting_is_explained(kind: type) -> None:
    assert all(item.metadata["help"] for item in dataclasses.fields(kind))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("clean", "nfc, trim,", ("nfc", "trim")),
        ("clean", ["nfc", "trim"], ("nfc", "trim")),
        ("clean", "", ()),
        ("weights", "1, 0.5", (1.0, 0.5)),
        ("weights", [2, "0.5"], (2.0, 0.5)),
        ("weights", 2, (2.0,)),
        ("evaluation_sets", ["a,b.csv"], ("a,b.csv",)),
    ],
)
def test_several_values_are_a_list_or_a_text_with_commas(
    key: str, value: object, expected: tuple[object, ...]
) -> None:
    loaded = config.load(PrepareConfig, {key: value})
    assert getattr(loaded, key) == expected
    assert config.load(PrepareConfig, config.as_dict(loaded)) == loaded


def test_files_keep_several_values_as_a_text() -> None:
    settings = PrepareConfig(clean=("nfc", "trim"), weights=(2.0, 0.5))
    kept = config.as_dict(settings)
    assert (kept["clean"], kept["weights"], kept["drop"]) == ("nfc,trim", "2,0.5", "")


def test_all_problems_are_reported_at_once() -> None:
    problems = problems_of({"learning_rate": -1, "iters": 3, "rank": "x", "engine": "torch"})
    assert len(problems) == 4


def test_misspelt_setting_gets_a_suggestion() -> None:
    assert "もしかして learning_rate?" in problems_of({"lerning_rate": 1})[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", -0.001),
        ("learning_rate", "nan"),
        ("learning_rate", "inf"),
        ("learning_rate", True),
        ("learning_rate", None),
        ("iterations", -1),
        ("iterations", 2.5),
        ("batch_size", 0),
        ("rank", [8]),
        ("dropout", 0.95),
        ("schedule", "cosinus"),
        ("model", {"a": 1}),
        ("targets", {"a": 1}),
        ("targets", [["q_proj"]]),
        ("targets", True),
    ],
)
def test_unusable_value_is_refused(key: str, value: object) -> None:
    assert problems_of({key: value})[0].startswith(key)


def test_yaml_reads_one_e_minus_five_as_a_number(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("learning_rate: 1e-5\niterations: '20'\n", encoding="utf-8")
    loaded = config.load(TrainConfig, config.read_yaml(path))
    assert (loaded.learning_rate, loaded.iterations) == (1e-5, 20)


@pytest.mark.parametrize("content", [b"[1, 2]", b"a: [", b"\xff\xfe\x00", b"1: 2", b"just text"])
def test_file_that_is_no_mapping_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigFileUnreadable):
        config.read_yaml(path)


def test_missing_file_is_unreadable_and_empty_file_is_empty(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileUnreadable):
        config.read_yaml(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert config.read_yaml(tmp_path / "empty.yaml") == {}


def test_yaml_cannot_build_objects(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigFileUnreadable):
        config.read_yaml(path)


def test_assignments_keep_equal_signs_of_the_value() -> None:
    assert config.parse_assignments(["system=a=b", "rank=8"]) == {"system": "a=b", "rank": "8"}
    with pytest.raises(InvalidSettings):
        config.parse_assignments(["rank"])


def test_default_yaml_is_the_defaults() -> None:
    sections = yaml.safe_load(config.default_yaml())
    assert list(sections) == list(SECTIONS)
    for name, kind in SECTIONS.items():
        assert config.load(kind, sections[name]) == kind()


def test_shares_may_be_given_as_text() -> None:
    assert config.load(PrepareConfig, {"valid_share": "0.25"}).valid_share == 0.25


def test_the_list_of_settings_in_the_repository_is_current() -> None:
    shipped = Path(__file__).parents[1] / "config" / "default_config.yaml"
    assert shipped.read_text(encoding="utf-8") == config.default_yaml(), "run `make config`"


def test_the_list_of_settings_loads_as_the_defaults() -> None:
    sections = yaml.safe_load(config.default_yaml())
    for name, kind in config.SECTIONS.items():
        assert config.load(kind, sections[name]) == kind()


def test_wrong_switch_is_a_problem() -> None:
    assert problems_of({"keep_lower": "maybe"}) == [
        "keep_lower: 'maybe' はtrue/falseとして読めません。"
    ]


@pytest.mark.parametrize(
    "value", [10**400, 16**5000, -(10**400), [10**400] * 1000, {"a": 1}], ids=range(5)
)
def test_endless_value_is_a_short_problem(value: object) -> None:
    (problem,) = problems_of({"rank": value})
    assert problem.startswith("rank: ") and len(problem) < 150


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


@pytest.mark.parametrize("text", ["a: 2026-99-99", f"a: {'9' * 5000}", LAUGHS, "[" * 50_000])
def test_hostile_settings_are_refused_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigFileUnreadable):
        config.read_yaml(path)

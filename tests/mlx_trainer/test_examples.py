"""What the loss sees: every assistant turn with its end of turn, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from mlx_finetuning.errors import NothingToLearn
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from support.chat_templates import TEMPLATES
from support.helpers import with_template

THREE_TURNS = [
    {"role": "system", "content": "案内係です。"},
    {"role": "user", "content": "営業時間は？"},
    {"role": "assistant", "content": "午前9時からです。"},
    {"role": "user", "content": "定休日は？😀"},
    {"role": "assistant", "content": "水曜日です。"},
]


def supervised_text(loaded: LoadedModel, tokens: list[int], supervised: list[bool]) -> list[str]:
    """The supervised spans as text."""
    spans: list[list[int]] = []
    for index, (token, flag) in enumerate(zip(tokens, supervised, strict=True)):
        if flag and (index == 0 or not supervised[index - 1]):
            spans.append([])
        if flag:
            spans[-1].append(token)
    return [loaded.tokenizer.decode(span) for span in spans]


@pytest.mark.parametrize("name", ["chatml", "role prefix"])
def test_every_assistant_turn_is_supervised_with_one_end_of_turn(
    tiny: LoadedModel, name: str
) -> None:
    tiny = with_template(tiny, TEMPLATES[name])
    [one] = tiny.chat.sequences(THREE_TURNS)
    spans = [span.strip() for span in supervised_text(tiny, one.tokens, one.supervised)]
    assert spans == ["午前9時からです。<|im_end|>", "水曜日です。<|im_end|>"]
    whole = tiny.render(THREE_TURNS, ask=False)
    assert one.tokens == whole[: len(one.tokens)]


def test_a_template_without_end_of_turn_gets_one_for_every_answer(tiny: LoadedModel) -> None:
    tiny = with_template(tiny, TEMPLATES["no end of turn"])
    sequences = tiny.chat.sequences(THREE_TURNS)
    spans = [supervised_text(tiny, one.tokens, one.supervised) for one in sequences]
    assert [span.strip() for [span] in spans] == [
        "午前9時からです。<|im_end|>",
        "水曜日です。<|im_end|>",
    ]
    assert all(one.tokens.count(tiny.tokenizer.eos_token_id) == 1 for one in sequences)


def test_the_prompt_of_generation_is_what_was_trained(tiny: LoadedModel) -> None:
    [one] = tiny.chat.sequences(THREE_TURNS)
    for turns in (THREE_TURNS[:2], THREE_TURNS[:4]):
        prompt = tiny.render(turns, ask=True)
        assert one.tokens[: len(prompt)] == prompt
        assert one.supervised[len(prompt)] and not one.supervised[len(prompt) - 1]


def test_plain_text_is_supervised_whole_and_ends_once(tiny: LoadedModel) -> None:
    example = encode_rows(tiny, [{"text": "むかしむかし。", "row": 5}], 64)[0]
    assert all(example.supervised)
    assert example.row == 5
    assert tiny.tokenizer.decode(example.tokens) == "むかしむかし。<|im_end|>"


def test_long_rows_are_cut_and_counted(tiny: LoadedModel) -> None:
    long = [*THREE_TURNS[:-1], {"role": "assistant", "content": "長い答え。" * 50}]
    example = encode_rows(tiny, [{"messages": long}], 64)[0]
    assert len(example.tokens) == 64
    assert example.cut == len(tiny.chat.sequences(long)[0].tokens) - 64


def test_long_text_is_divided_and_every_token_predicted_once(tiny: LoadedModel) -> None:
    text = "むかしむかし、あるところに、おじいさんがいました。" * 9
    [whole] = encode_rows(tiny, [{"text": text, "row": 5}], 4096)
    parts = encode_rows(tiny, [{"text": text, "row": 5}], 32)
    assert all(len(part.tokens) <= 32 and part.row == 5 and not part.cut for part in parts)
    assert sum(part.targets for part in parts) == whole.targets == len(whole.tokens) - 1
    assert [token for part in parts for token in part.tokens[1:]] == whole.tokens[1:]


def test_rows_without_any_answer_left_say_so(tiny: LoadedModel) -> None:
    question = {"role": "user", "content": "とても長い質問です。" * 30}
    rows = [{"messages": [question, {"role": "assistant", "content": "はい。"}]}]
    with pytest.raises(NothingToLearn):
        encode_rows(tiny, rows, 32)


def numbered(count: int) -> list[Example]:
    return [Example([7] * (3 + i), [True] * (3 + i), row=i) for i in range(count)]


def test_what_rounding_adds_is_never_supervised() -> None:
    batch = batches.padded(numbered(5))
    assert batch.tokens.shape[1] % batches.LENGTH_STEP == 0
    assert batch.supervised == sum(2 + i for i in range(5)) == batch.weights.sum().item()
    counted = np.array(batch.positions)[np.array(batch.weights) == 1]
    per_row = np.bincount(counted // batch.tokens.shape[1])
    assert per_row.tolist() == [2 + i for i in range(5)]
    assert (counted % batch.tokens.shape[1] < 2 + counted // batch.tokens.shape[1]).all()


def test_every_example_is_seen_once_an_epoch_and_updates_keep_their_size() -> None:
    stream = batches.endless(10, batch_size=4, seed=1)
    taken = [next(stream) for _ in range(5)]
    assert {len(rows) for rows in taken} == {4}
    seen = [row for rows in taken for row in rows]
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))


def test_order_is_fixed_by_the_seed() -> None:
    def rows(seed: int) -> list[list[int]]:
        stream = batches.endless(10, 3, seed)
        return [next(stream) for _ in range(7)]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


def test_a_batch_larger_than_the_data_takes_all_of_it() -> None:
    assert len(next(batches.endless(3, 8, 0))) == 3


def test_order_from_any_update_on_is_the_orders_rest() -> None:
    stream = batches.endless(10, 4, 1)
    whole = [next(stream) for _ in range(12)]
    for start in range(10):
        later = batches.endless(10, 4, 1, start)
        assert [next(later) for _ in range(2)] == whole[start : start + 2]


def test_concatenated_examples_have_no_padding() -> None:
    examples = numbered(4)
    batch = batches.concatenated(examples)
    assert batch.lengths == (2, 3, 4, 5)
    assert batch.tokens.shape == (1, 14)
    assert batch.supervised == len(batch.positions) == 14

"""Templates, tokens, conversations and mixtures against the published ones."""

import json
from pathlib import Path

import pytest

from rlhf.chat_templates.baichuan2 import ASSISTANT, USER, Message, chat_example, chat_ids
from rlhf.chat_templates.safe_rlhf import IGNORED, TEMPLATES, format_prompt
from rlhf.checkpoints.model_folder import Model, with_template
from rlhf.data import encoding, mixture
from rlhf.data.schemas import Example
from rlhf.models import PUBLISHED
from rlhf.tokenizer.tokenizer import Tokenizer, load_tokenizer
from tests.conftest import ROOT

FILES = ROOT.parent / "shared" / "data" / "rlhf" / "tokenizers"
needs_files = pytest.mark.skipif(not FILES.is_dir(), reason=f"the tokenizers' files are not at {FILES}")


@pytest.fixture(scope="module")
def llama():
    return load_tokenizer(FILES / "llama_tokenizer.model", PUBLISHED["llama-7b"])


@pytest.fixture(scope="module")
def baichuan():
    return load_tokenizer(FILES / "baichuan2_tokenizer.model", PUBLISHED["baichuan2-13b"])


def test_prompts_of_one_and_of_three_turns():
    assert format_prompt("hi", "</s>") == "BEGINNING OF CONVERSATION: USER: hi ASSISTANT:"
    result = format_prompt(["a", "b", "c"], "</s>")
    assert result == "BEGINNING OF CONVERSATION: USER: a ASSISTANT:b</s>USER: c ASSISTANT:"
    with pytest.raises(ValueError, match="odd number of turns, the last one of the user, got 2"):
        format_prompt(["a", "b"], "</s>")


PROMPT = [22815, 29940, 4214, 8079, 8707, 5348, 29903, 8098, 29901]
PROMPT += [3148, 1001, 29901, 7251, 319, 1799, 9047, 13566, 29901]


@needs_files
def test_llama_tokens_of_a_prompt(llama):
    text = format_prompt("hi", llama.eos_text)
    assert llama.encode(text) == [1, *PROMPT] and llama.encode(text, start=False) == PROMPT
    assert llama.size == 32_000 and llama.pad == 32_000  # the padding that Safe RLHF adds
    assert llama.decode([*llama.encode(text), 2, 32_000]) == text
    assert llama.encode("a</s>b", start=False) == [*llama.encode("a", start=False), 2, *llama.encode("b", start=False)]


@needs_files
@pytest.mark.parametrize(
    "text, ids",
    [
        ("Hello world", [23160, 2063]),
        ("BEGINNING OF CONVERSATION: USER: hi ASSISTANT:",
         [16183, 61047, 40340, 8115, 14861, 43622, 11180, 92345, 2684, 2428, 92345, 53246, 62163, 15202, 21250, 92345]),
        ("登鹳雀楼->王之涣\n夜雨寄北->",
         [93198, 97845, 95008, 93084, 63, 92574, 92876, 92479, 97097, 5, 93199, 93142, 94115, 92683, 63, 92574]),
        ("x = 12345\n    return  y",
         [92365, 92311, 64, 92311, 92336, 92338, 92354, 92369, 92358, 5, 1411, 3509, 1373, 92330]),
        ("😀", [98740]),
        ("  two spaces", [92311, 1885, 11819]),
    ],
)  # fmt: skip
def test_baichuan_tokens(baichuan, text, ids):
    assert baichuan.encode(text) == ids
    assert baichuan.decode(ids) == text
    assert (baichuan.size, baichuan.bos, baichuan.eos, baichuan.pad) == (125_696, None, 2, 0)


@needs_files
def test_special_tokens_of_baichuan_have_the_published_ids(baichuan):
    assert (USER, ASSISTANT) == (195, 196)
    piece = baichuan.backend.model.id_to_piece
    assert (piece(USER), piece(ASSISTANT)) == ("<reserved_106>", "<reserved_107>")
    assert [piece(i) for i in range(5)] == ["<unk>", "<s>", "</s>", "<SEP>", "<CLS>"]
    assert (piece(101), piece(1088), piece(1089)) == ("<reserved_12>", "<reserved_999>", "<0x00>")
    assert baichuan.encode("\n\t", start=False) == [5, 6]
    content = json.loads((FILES.parent / "hf_meta" / "generation_config.json").read_text())
    assert (content["user_token_id"], content["assistant_token_id"]) == (USER, ASSISTANT)
    assert (content["bos_token_id"], content["eos_token_id"], content["pad_token_id"]) == (
        1,
        baichuan.eos,
        baichuan.pad,
    )


@needs_files
def test_a_tokenizer_that_does_not_fit_the_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"baichuan2_tokenizer.model has 125696 tokens and the model embeds 32000"):
        load_tokenizer(FILES / "baichuan2_tokenizer.model", PUBLISHED["llama-7b"])
    with pytest.raises(ValueError, match=r"llama_tokenizer.model has 32000 tokens and the model embeds 125696"):
        load_tokenizer(FILES / "llama_tokenizer.model", PUBLISHED["baichuan2-7b"])
    with pytest.raises(FileNotFoundError, match=r"no tokenizer: expected tokenizer.json or tokenizer.model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json is not a readable tokenizer"):
        load_tokenizer(tmp_path)


@needs_files
def test_conversations_of_baichuan_keep_the_newest_round_and_older_ones_that_fit(baichuan):
    def ids(text):
        return baichuan.encode(text, start=False)

    old = [USER, *ids("Hello world"), ASSISTANT, *ids("Hello")]
    new = [USER, *ids("x = 1")]
    messages = [Message("user", "Hello world"), Message("assistant", "Hello"), Message("user", "x = 1")]
    assert chat_ids(messages, baichuan, 100) == [*old, *new, ASSISTANT]
    assert chat_ids(messages, baichuan, len(old) + len(new) - 1) == [*new, ASSISTANT]
    system = [Message("system", "Hello"), *messages]
    assert chat_ids(system, baichuan, 100) == [*ids("Hello"), *old, *new, ASSISTANT]
    assert chat_ids(system, baichuan, len(old) + len(new)) == [*ids("Hello"), *new, ASSISTANT]
    assert chat_ids(messages[:2], baichuan, 100) == old
    assert chat_ids(messages[2:], baichuan, 3) == [*new, ASSISTANT][-3:]
    late, unknown = [messages[0], system[0]], [Message("bot", "")]
    for wrong, message in (([], "turn of the user"), (late, "first"), (unknown, "role")):
        with pytest.raises(ValueError, match=message):
            chat_ids(wrong, baichuan, 10)


@needs_files
def test_a_baichuan_model_is_prompted_and_trained_in_its_own_format(baichuan, llama):
    assert (baichuan.template, llama.template) == ("baichuan", "safe-rlhf")
    hello, sample = [23160, 2063], Example(("Hello world",), "Hello world")
    assert encoding.prompts([sample], baichuan, 4)[0].ids.tolist() == [[195, *hello, 196]]
    result, *_ = encoding.supervised([sample], baichuan, 7)
    assert result.ids.tolist() == [[195, *hello, 196, *hello, 2]]
    assert result.labels.tolist() == [[2, *[IGNORED] * 3, *hello, 2]]
    ids_of_prompt = encoding.prompts([Example(("hi",))], baichuan._replace(template="safe-rlhf"), 16)[0].ids
    assert ids_of_prompt[0, :4].tolist() == [16183, 61047, 40340, 8115]  # the template of Safe RLHF


def test_roles_are_refused_for_a_family_without_them():
    model = Model(PUBLISHED["llama-7b"], Tokenizer(Path("none"), None, 32_000, 1, 2, 0, "</s>"), {})
    assert with_template(model, None) is model
    with pytest.raises(ValueError, match="needs a model of family 'baichuan', got 'llama'"):
        with_template(model, "baichuan")
    own = Model(PUBLISHED["tiny-baichuan"], model.tokenizer, {})
    assert [with_template(own, name).tokenizer.template for name in TEMPLATES] == list(TEMPLATES)


@needs_files
def test_answers_are_learned_and_so_is_the_end_before_the_users_turn(baichuan):
    hello, more = baichuan.encode("Hello world", start=False), baichuan.encode("x = 1", start=False)
    messages = [Message("user", "Hello world"), Message("assistant", "x = 1"), Message("user", "x = 1")]
    ids, labels = chat_example(messages, baichuan, 24)
    expected = [USER, *hello, ASSISTANT, *more, USER, *more, 2]
    assert ids == expected + [0] * (24 - len(expected))
    expected_labels = [2, *[IGNORED] * len(hello), IGNORED, *more, 2, *[IGNORED] * len(more), 2]
    assert labels == expected_labels + [IGNORED] * (24 - len(expected_labels))
    assert chat_example(messages, baichuan, 5) == (expected[:5], expected_labels[:5])


# Mixtures.


@pytest.mark.parametrize(
    "text, share, count, path",
    [
        ("alpaca", 1.0, None, None),
        ("alpaca:", 1.0, None, None),
        ("alpaca:0.5", 0.5, None, None),
        ("alpaca:1/4", 0.25, None, None),
        ("alpaca:7/-1", 1.0, 7, None),
        ("alpaca:0:/data/a:b", 0.0, None, "/data/a:b"),
        ("alpaca::/data", 1.0, None, "/data"),
    ],
)
def test_parts_of_a_mixture(text, share, count, path):
    result = mixture.parse(text)
    assert (result.name, result.share, result.count) == ("alpaca", share, count)
    assert (str(result.path) if result.path else None) == path


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "a data set must be NAME"),
        (":1", "a data set must be NAME"),
        ("a:1:", "empty path"),
        ("a:-1", "at least 0"),
        ("a:x", "'x' of 'a:x' must be a number"),
        ("a:1/0", "fraction"),
        ("a:-3/-1", "exactly N rows"),
        ("a:nan", "at least 0"),
    ],
)
def test_parts_that_make_no_sense_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        mixture.parse(text)


def test_two_data_sets_of_ten_give_the_published_rows():
    rows = mixture.mix(mixture.parse_all(["a:0.4", "b:4/-1"]), [10, 10])
    assert rows == [(0, 7), (0, 9), (0, 5), (0, 3), (1, 9), (1, 0), (1, 3), (1, 1)]
    rows = mixture.mix(mixture.parse_all(["a:1.4", "b:0"]), [10, 10])
    assert rows == [(0, i) for i in (*range(10), 7, 9, 5, 3)]
    with pytest.raises(ValueError, match="a is named more than once"):
        mixture.parse_all(["a", "a:0.5"])
    with pytest.raises(ValueError, match="a must have 3 rows, got an empty data set"):
        mixture.mix(mixture.parse_all(["a:3/-1"]), [0])


def test_the_split_of_ten_is_the_published_one():
    assert mixture.split(10, 0.3) == ([5, 6, 0, 7, 3, 2, 4], [9, 1, 8])
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixture.split(10, 1.0)


def test_of_equal_prompts_the_last_is_kept():
    assert mixture.last_of_each(["a", "b", "a", "c", "b"]) == [2, 3, 4]

"""`icl episodes make | show | check`, as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import icl.tasks
from icl.cli.episodes import app
from icl.errors import IclError
from icl.tasks.loaded import Split, TaskFamily
from tests.episodes.toy_families import make_family, regular_family

WORDS = {
    "arb": ["كتاب", "قلم", "بيت", "شمس", "قمر", "نهر", "جبل", "بحر", "باب", "ولد", "بنت", "حجر"],
    "heb": ["ספר", "עט", "בית", "שמש", "ירח", "נהר", "הר", "ים", "דלת", "ילד", "ילדה", "אבן"],
    "amh": ["መጽሐፍ", "ብዕር", "ቤት", "ፀሐይ", "ጨረቃ", "ወንዝ", "ተራራ", "ባሕር", "በር", "ልጅ", "ሴት", "ድንጋይ"],
    "jpn": ["本", "筆", "家", "太陽", "月", "川", "山", "海", "扉", "男の子", "女の子", "石"],
}
NAMES = {
    "arb": ("أ شيء", "ب شيء"),
    "heb": ("דבר א", "דבר ב"),
    "amh": ("ሀ", "ለ"),
    "jpn": ("甲", "乙"),
}


def many_scripts() -> TaskFamily:
    import dataclasses

    tables = {
        ("kind", language): [
            (f"{language}{i}", str(i), word, "xy"[i % 2]) for i, word in enumerate(words)
        ]
        for language, words in WORDS.items()
    }
    family = make_family(tables, "xy")

    def load(task: str, language: str):  # type: ignore[no-untyped-def]
        words = dict(zip("xy", NAMES[language], strict=True))
        return dataclasses.replace(family.load(task, language), words=words)

    return dataclasses.replace(family, load=load)


FAMILIES = {"regular": regular_family(), "scripts": many_scripts()}


REAL = icl.tasks.load_family


@pytest.fixture(autouse=True)
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        icl.tasks, "load_family", lambda name, data=None, template=None: FAMILIES[name]
    )


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_what_was_made_is_checked_and_drawn_again(tmp_path: Path) -> None:
    out = tmp_path / "set"
    options = ["--ways", 3, "--shots", "0,2", "--queries", 6, "--count", 5]
    assert "10 episodes" in run(
        "make", "regular", "--out", out, *options, "--support-language", "en"
    )
    assert "10 episodes, as written, none leaks" in run("check", out)
    assert "the same bytes" in run("check", out, "--family", "regular")
    assert "10 episodes" in run("check", out / "episodes.jsonl")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["sampler"]["setting"]["name"] == "cross-lingual"


def test_every_option_of_make_reaches_the_sampler(tmp_path: Path) -> None:
    options = [
        "--ways", 2, "--max-ways", 4, "--vary-shots", "--natural-support", "--natural-queries",
        "--imbalance", 2, "--near", 0.9, "--seed", 3, "--task", "task1", "--language", "fr",
        "--shots", "4", "--queries", 8, "--count", 2, "--variant", "flipped-labels",
        "--setting", "mine", "--drop-leaks", "--pool", 3,
    ]  # fmt: skip
    run("make", "regular", "--out", tmp_path / "set", *options)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["sampler"] == {
        "split": "test", "ways": 2, "shots": [4], "queries": 8, "seed": 3, "near": 0.9, "pool": 3,
        "setting": {"name": "mine", "support_language": None, "other_domain": False},
        "tasks": ["task1"], "languages": ["fr"],
        "composition": {
            "max_ways": 4, "vary_shots": True, "support": "natural", "imbalance": 2.0,
            "queries": "natural",
        },
    }  # fmt: skip
    assert (manifest["variant"], manifest["drop_leaks"]) == ("flipped-labels", True)
    run("check", tmp_path / "set", "--family", "regular")


@pytest.mark.parametrize("language", sorted(WORDS))
def test_show_prints_the_prompt_in_logical_order_with_the_label_marked(
    tmp_path: Path, language: str
) -> None:
    options = ["--ways", 2, "--shots", "2", "--queries", 4, "--language", language]
    run("make", "scripts", "--out", tmp_path / "set", *options, "--count", 1)
    shown = run("show", tmp_path / "set", "--query", 1)
    from icl.episodes.files import open_episodes

    (episode,) = open_episodes(tmp_path / "set")
    words = dict(zip(episode.labels.names, episode.labels.words, strict=True))
    query = episode.query[1]
    demos = [(e.fields, words[e.label]) for e in episode.support]
    prompt = episode.labels.template.prompt(demos, query.fields)
    assert f"{prompt}⟦\u2068 {words[query.label]}\u2069⟧" in shown
    assert f"Characters: {len(prompt)} = 0 instruction +" in shown


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    """A byte-level BPE tokenizer as GPT-2's, trained on a few words."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(
        [f" {w} = {n}" for k in WORDS for w in WORDS[k] for n in NAMES[k]], trainer
    )
    PreTrainedTokenizerFast(tokenizer_object=bpe).save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("language", sorted(WORDS))
def test_show_counts_tokens_as_the_model_does_and_marks_the_boundary(
    tmp_path: Path, language: str, tokenizer_folder: Path
) -> None:
    from transformers import AutoTokenizer

    from icl.episodes.files import open_episodes

    options = ["--ways", 2, "--shots", "2", "--queries", 4, "--language", language]
    run("make", "scripts", "--out", tmp_path / "set", *options, "--count", 1)
    shown = run("show", tmp_path / "set", "--model", tokenizer_folder)
    (episode,) = open_episodes(tmp_path / "set")
    words = dict(zip(episode.labels.names, episode.labels.words, strict=True))
    demos = [(e.fields, words[e.label]) for e in episode.support]
    prompt = episode.labels.template.prompt(demos, episode.query[0].fields)
    count = len(AutoTokenizer.from_pretrained(tokenizer_folder)(prompt)["input_ids"])
    assert f"Tokens: {count}, of which" in shown
    assert f"between the tokens {count - 1} and {count}: " in shown
    after = shown.rsplit("⟦", 1)[1]
    spelt = "".join(c for c in after if c not in "⟧\u2068\u2069'\n").replace(" ", "")
    assert spelt == words[episode.query[0].label].replace(" ", "")


def test_show_takes_the_most_shots_unless_told(tmp_path: Path) -> None:
    options = ["--ways", 2, "--shots", "0,1,2", "--queries", 4, "--count", 3]
    run("make", "regular", "--out", tmp_path / "set", *options)
    assert "Episode 0 of" in (first := run("show", tmp_path / "set"))
    assert "2 shots" in first
    assert "0 shots" in run("show", tmp_path / "set", "--index", 2, "--shots", 0)


def test_check_of_a_family_tells_what_splits_share() -> None:
    test = FAMILIES["regular"].split("test")
    FAMILIES["split"] = TaskFamily(
        "split",
        FAMILIES["regular"].load,
        {
            "train": Split("train", test.tasks, ("en",)),
            "test": Split("test", test.tasks, ("fr", "sw")),
        },
        (("train", "test", "language"),),
    )
    told = run("check", "--family", "split")
    assert "train and test share no language, as promised" in told
    assert "144 examples of train are also in test (the same item, by parallel id)" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["make", "regular", "--out", "OUT", "--shots", "one"], "--shots is 'one'"),
        (["make", "regular", "--out", "OUT", "--variant", "odd"], "no variant 'odd'"),
        (["make", "regular", "--out", "SET"], "exists"),
        (["show", "OUT"], "cannot be read"),
        (["show", "SET", "--index", "9"], "no episode 9"),
        (["show", "SET", "--shots", "9"], "no episode 0 with 9 shots"),
        (["show", "SET", "--query", "99"], "has 4 queries"),
        (["show", "SET", "--model", "./none"], "model directory './none' does not exist"),
        (["check"], "Nothing to check"),
        (["check", "OUT"], "cannot be read"),
        (["check", "SET/episodes.jsonl", "--family", "regular"], "no manifest"),
    ],
)
def test_faults_are_told_in_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    options = ["--ways", 2, "--shots", "1", "--queries", 4, "--count", 1]
    run("make", "regular", "--out", tmp_path / "set", *options)
    places = {"OUT": tmp_path / "none", "SET": tmp_path / "set"}
    filled = [
        str(places[a]) if a in places else a.replace("SET/", f"{tmp_path}/set/") for a in arguments
    ]
    result = CliRunner().invoke(app, filled)
    assert isinstance(result.exception, IclError), result.output
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_the_packaged_family_goes_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("babel")
    monkeypatch.setattr(icl.tasks, "load_family", REAL)
    options = ["--ways", 3, "--shots", "0,2", "--queries", 6, "--count", 3]
    languages = ["--language", "he", "--language", "ka", "--support-language", "en"]
    told = run("make", "cldr", "--out", tmp_path / "set", *options, *languages)
    assert "6 episodes" in told
    assert "the same bytes" in run("check", tmp_path / "set", "--family", "cldr")
    assert "en → " in run("show", tmp_path / "set")


@pytest.mark.parametrize("name", ["table", "table.parquet"])
def test_episodes_go_to_datasets_and_come_back(tmp_path: Path, name: str) -> None:
    options = ["--ways", 2, "--count", 3, "--pool", 2, "--queries", 4]
    run("make", "regular", "--out", tmp_path / "set", *options)
    assert "9 episodes" in run("export", tmp_path / "set", tmp_path / name)
    assert "9 episodes" in run("import", tmp_path / name, "--out", tmp_path / "again")
    before, after = (tmp_path / d / "episodes.jsonl" for d in ("set", "again"))
    assert before.read_bytes() == after.read_bytes()


SUMS = """\
schema_version: 1
name: sums
description: sums
licence: CC0-1.0
sources: [{type: directory, root: ., file: sums.csv, columns: {label: sum, fields: {q: q}}}]
data: [all]
tasks:
  sums:
    kind: generation
    metrics: [exact_match]
    templates:
      short: {input: "{{ q }} ="}
      long: {input: "What is {{ q }}?", target: " {{ label }}."}
splits: {test: {languages: [en]}}
"""


def test_generation_episodes_are_made_shown_with_a_named_template_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(icl.tasks, "load_family", REAL)
    (tmp_path / "sums.yaml").write_text(SUMS)
    (tmp_path / "sums.csv").write_text("q,sum\n" + "".join(f"{i}+1,{i + 1}\n" for i in range(20)))
    family, out = tmp_path / "sums.yaml", tmp_path / "set"
    options = ["--shots", "0,2", "--queries", 3, "--count", 2, "--template", "long"]
    assert "4 episodes" in run("make", family, "--out", out, *options)
    shown = run("show", out)
    assert shown.count("What is ") == 3
    assert "Labels, each" not in shown
    for question, answer in re.findall(r"What is (\d+)\+1\? (\d+)\.", shown):
        assert int(answer) == int(question) + 1
    run("check", out, "--family", family, "--template", "long")
    with pytest.raises(IclError, match="its hash differs"):
        run("check", out, "--family", family)


def test_what_is_no_data_set_of_episodes_is_told(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "other"))
    for place, said in (("other", "no column 'task'"), ("nothing", "cannot be read as a data set")):
        with pytest.raises(IclError, match=said):
            run("import", tmp_path / place, "--out", tmp_path / "set")
    assert not (tmp_path / "set").exists()

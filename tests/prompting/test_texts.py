"""Templates, words of any script, content-free inputs, and what is read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icl.prompting.calibration import content_free, domain_inputs
from icl.prompting.channel import split
from icl.prompting.consistency import ChainOfThought, vote
from icl.prompting.format import PlainFormat
from icl.prompting.probes import read
from icl.prompting.templates import TEMPLATES, instructed, named, ordered_fields
from icl.prompting.units import joined, pieces, units
from icl.prompting.verbalisers import reworded
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests.learners import problems

PAIR = Template("Premise: {{ premise }}\nHypothesis: {{ text }}\nTrue?")


def test_words_are_found_in_scripts_that_write_no_blanks_and_from_right_to_left() -> None:
    assert units("Ao\u0302ut") == units("aôut") == ["aôut"]  # NFD and NFC are one word
    assert units("مرحبا، يا عالم") == ["مرحبا", "يا", "عالم"]
    assert units("ภาษา") == ["ภ", "า", "ษ", "า"]
    assert units("हिन्दी में")[:1] != []


@given(st.text(alphabet="ab 東京 .،ب", max_size=20))
def test_pieces_put_together_hold_the_same_words(text: str) -> None:
    assert units(joined(pieces(text))) == units(text)


def test_every_named_template_shows_all_fields_in_order() -> None:
    fields = {"premise": "PPP", "text": "HHH"}
    assert ordered_fields(PAIR) == ["premise", "text"]
    for name in TEMPLATES:
        shown = instructed(named(name, PAIR), ("yes", "no")).prompt([(fields, "yes")], fields)
        assert shown.count("PPP") == shown.count("HHH") == 2
        assert shown.index("PPP") < shown.index("HHH")
        assert "yes" in shown


def test_an_instruction_names_the_labels_in_an_order_of_its_own() -> None:
    template = Template("{{ text }}:", instruction="One of {{ labels }}.\n")
    assert instructed(template, ("b", "a")).instruction == "One of a, b.\n"


def test_label_words_are_counted_by_name_not_by_place() -> None:
    labels = Labels(("b", "a"), ("x", "y"), PAIR)
    assert reworded(labels, "letter").words == ("B", "A")
    assert reworded(labels, "number").words == ("2", "1")
    assert reworded(labels, {"a": "z", "c": "w"}).words == ("x", "z")
    assert reworded(labels, "upper").words == ("X", "Y")
    assert reworded(labels, "task") is labels


def test_the_channel_names_the_label_first_and_keeps_the_cue_with_it() -> None:
    fields = {"premise": "p", "text": "h"}
    turned = split(PAIR)
    assert turned.prompt([(fields, "yes")], "no") + turned.input(fields) == (
        "True? yes\nPremise: p\nHypothesis: h\n\nTrue? no\nPremise: p\nHypothesis: h"
    )
    bare = split(Template("{{ text }} ="))  # one line: the bare label goes first
    assert bare.prompt([], "no") + bare.input(fields) == "no\nh ="


def test_content_free_inputs_fill_every_field() -> None:
    assert content_free({"a": "x", "b": "y"})[0] == {"a": "N/A", "b": "N/A"}


def test_domain_inputs_are_the_supports_own_words_and_as_many() -> None:
    texts = ["one two three", "four five", "six"]
    support = [Example(str(i), {"text": t}, "x", "xx", "") for i, t in enumerate(texts)]
    found = domain_inputs(support, 0)
    assert found == domain_inputs(support[::-1], 0) != domain_inputs(support, 1)
    assert len(found) == 20
    for fields in found:
        assert len(fields["text"].split()) == 2
        assert set(fields["text"].split()) <= set(" ".join(texts).split())


def test_domain_inputs_do_not_look_at_labels() -> None:
    support = problems.support(2)
    others = [Example(e.id, e.fields, "z", e.language, e.parallel_id) for e in support]
    assert domain_inputs(support, 0) == domain_inputs(others, 0)


@given(st.text("ab é東", min_size=1).map(str.strip).filter(bool))
def test_what_a_template_shows_is_read_back(text: str) -> None:
    for name in ("task", "question", "arrow", "input-label"):
        template = named(name, problems.TEMPLATE)
        assert read(template, template.render({"text": text}) + " month") == {"text": text}


def test_what_does_not_follow_the_template_is_not_read() -> None:
    assert read(problems.TEMPLATE, "Wort: Mai\nKind:") is None
    assert read(problems.TEMPLATE, "Word: \nKind: month") is None
    assert read(Template("{{ text | upper }} ="), "MAI =") is None


def test_a_chain_of_thought_stands_before_the_answer() -> None:
    shown = [Example("1", {"text": "2+2", "why": "Two and two."}, "4", "en", "")]
    chain = ChainOfThought(
        PlainFormat(Template("Q: {{ text }}\nA:")), "The answer is", "why", "Think."
    )
    assert chain.prompt(shown, {}, {"text": "1+1"}) == (
        "Q: 2+2\nA: Think. Two and two. The answer is 4\n\nQ: 1+1\nA: Think."
    )
    assert chain.answer(" One and one. The answer is 2\nmore") == "2"
    assert chain.answer("no idea\n3\n") == "3"
    assert chain.answer("The answer is") == ""
    assert ChainOfThought(PlainFormat(PAIR)).answer(" yes\nno") == "yes"


@given(st.lists(st.sampled_from(["a", "A.", " b", "c", ""]), max_size=8))
def test_no_answer_has_more_votes_than_the_one_chosen(answers: list[str]) -> None:
    plain = [a.strip(" .").lower() for a in answers]
    chosen = vote(answers).strip(" .").lower()
    assert plain.count(chosen) == max((plain.count(p) for p in plain if p), default=plain.count(""))

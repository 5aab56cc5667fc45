"""A text beyond the model's context: every method cuts its end, says so, and cuts nothing else."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import processors

from icl.errors import IclError
from icl.learners.base import MetaLearner
from icl.learners.embedding.features import FeatureParams, Features
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.models.context import fit_fields
from icl.models.embedding.embedder import Embedder
from icl.tasks.task import Labels
from icl.tasks.template import Template
from tests import tiny, tiny_encoders
from tests.learners import problems

LABELS = Labels(problems.NAMES, problems.NAMES, Template("Word: {{ text }}\nKind:"))
BEGIN = "the cat sat on the mat "
LONG = {"text": BEGIN * 200}
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("zero-shot", {}),
    ("in-context", {}),
    ("in-context", {"scoring": "channel"}),
    ("lora", {"steps": 1}),
    ("fomaml", {"inner_steps": 1, "adapt_steps": 1}),
    ("protomaml", {"inner_steps": 1, "adapt_steps": 1}),
    ("prototypes", {}),
    ("prototypes", {"prompted": True}),
    ("prototypes", {"pooling": "prompt"}),
]


def short_of_context(architecture: str, room: int) -> Backbone:
    backbone = tiny.backbone(architecture)
    backbone.context_length = room  # type: ignore[misc]
    return backbone


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(("method", "params"), METHODS)
def test_every_method_cuts_a_long_text_at_its_end(
    method: str, params: dict[str, Any], architecture: str
) -> None:
    """The beginning decides, the end nothing; and GPT-2's table of positions is never left."""
    room = 512 if architecture == "gpt2" else 100  # GPT-2's table has 512 places
    backbone = short_of_context(architecture, room)
    learner = make(method, params, backbone)
    predictor = learner.adapt(problems.support(2), LABELS)
    texts = [LONG, {"text": LONG["text"] * 3}, {"text": "organ " + LONG["text"] * 3}]
    with pytest.warns(UserWarning, match="of 3 texts are longer.*begins 'the cat sat"):
        long, longer, other = predictor.log_probs(texts)
    assert torch.isfinite(long).all()
    torch.testing.assert_close(long, longer, atol=1e-5, rtol=0)
    if method != "zero-shot":
        assert not torch.allclose(long, other, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        predictor.log_probs([LONG])
        predictor.log_probs([{"text": "short"}])


@pytest.mark.parametrize("scoring", ["direct", "channel"])
def test_a_long_training_query_is_cut_beside_the_instruction_too(scoring: str) -> None:
    backbone, episode = short_of_context("llama", 100), problems.episode()
    told = replace(LABELS.template, instruction="Say what kind of word it is.\n\n")
    query = tuple(replace(q, fields=LONG) for q in episode.query)
    long = replace(episode, query=query, labels=replace(episode.labels, template=told))
    learner = make("metaicl", {"scoring": scoring}, backbone)
    assert isinstance(learner, MetaLearner)
    with pytest.warns(UserWarning, match="lose their end"):
        assert torch.isfinite(learner.meta_loss([long])[0])


def test_probes_are_written_within_the_context() -> None:
    backbone = tiny.backbone("gpt2")
    long = [replace(e, fields={"text": BEGIN * 8}) for e in problems.support(4)]
    params = {"order": "global-entropy", "candidates": 2, "probe_count": 2}
    found = make("in-context", params, backbone).adapt(long, LABELS).log_probs([{"text": "organ"}])
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("method", ["lora", "in-context"])
def test_a_long_labelled_text_is_cut_or_left_out_too(method: str) -> None:
    backbone = short_of_context("gpt2", 512)
    support = problems.support(1)
    long = [*support[:-1], type(support[-1])(**{**_parts(support[-1]), "fields": LONG})]
    with pytest.warns(UserWarning, match="longer|demonstrations fit"):
        found = make(method, {}, backbone).adapt(long, LABELS).log_probs([{"text": "organ"}])
    assert torch.isfinite(found).all()


def _parts(example: Any) -> dict[str, Any]:
    names = ("id", "fields", "label", "language", "parallel_id", "domain")
    return {name: getattr(example, name) for name in names}


def test_what_stays_is_the_most_that_fits_and_stands_between_template_and_special_tokens() -> None:
    backbone = short_of_context("llama", 60)

    def write(fields: Any) -> list[str]:
        return [f"A: {fields['a']} B: {fields['b']} End:"]

    def size(fields: Any) -> int:
        return len(backbone.tokenizer(write(fields)[0])["input_ids"])

    given = {"a": "short", "b": "слово вид " * 30}
    with pytest.warns(UserWarning, match="1 of 2 texts"):
        kept, whole = fit_fields(backbone, [given, {"a": "x", "b": "y"}], write, reserve=5)
    assert whole == {"a": "x", "b": "y"}
    assert kept["a"] == "short" and given["b"].startswith(kept["b"])  # the longest field first
    assert size(kept) <= 55
    assert size({**kept, "b": given["b"][: len(kept["b"]) + 2]}) > 55
    rows = Embedder(backbone, pooling="last", keep=False).encode([LONG["text"]])
    assert rows[0][0] == backbone.tokenizer.bos_token_id and len(rows[0]) <= 60


PAIRS = Labels(problems.NAMES, problems.NAMES, Template("A: {{ text }}\nB: {{ claim }}\nKind:"))
TWO = {**LONG, "claim": "organ month"}


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize(
    ("params", "end"),
    [
        ({}, "\nB: organ month\nKind:"),
        ({"prompted": False}, "\norgan month"),
        ({"prompted": True}, "\nB: organ month\nKind:"),
        ({"pooling": "prompt"}, '\norgan month" means in one word:"'),
        ({"prompted": True, "pooling": "prompt"}, '\nB: organ month\nKind:" means in one word:"'),
    ],
)
def test_embeddings_read_the_short_field_and_all_of_the_template(
    params: dict[str, Any], end: str, closes: bool
) -> None:
    backbone = short_of_context("llama", 80)
    if closes:  # the tokenizer puts EOS behind a text that is at its end
        backbone.tokenizer = copy.deepcopy(backbone.tokenizer)
        special = [("<s>", 0), ("</s>", 1)]
        backbone.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=special
        )
    features = Features(backbone, FeatureParams(**params))
    with pytest.warns(UserWarning, match="lose their end"):
        (row,) = features.embedder.encode(features.shown([TWO], PAIRS))
    assert 70 < len(row) <= 80
    said = backbone.tokenizer.decode(row, skip_special_tokens=True)
    assert said.endswith(end) and "the cat sat" in said


@pytest.mark.parametrize("method", ["prototypes", "protomaml"])
def test_an_encoder_reads_the_short_field_behind_a_long_one(method: str) -> None:
    encoder = tiny_encoders.encoder()
    encoder.context_length = 60  # type: ignore[misc]
    support = [replace(e, fields={**e.fields, "claim": "month"}) for e in problems.support(2)]
    params = {"inner_steps": 1, "adapt_steps": 1} if method == "protomaml" else {}
    predictor = make(method, params, encoder).adapt(support, PAIRS)
    with pytest.warns(UserWarning, match="lose their end"):
        one, other = predictor.log_probs([TWO, {**LONG, "claim": "slowly"}])
    assert not torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "reserve", "said"),
    [
        (" " * 500 + "organ", 0, "begins 'organ' does not fit"),
        ("organ", 70, "takes 60 tokens, of which 70 are to be left for the answer"),
    ],
)
def test_a_text_of_which_nothing_would_be_read_is_refused(
    text: str, reserve: int, said: str
) -> None:
    backbone = short_of_context("llama", 60)
    with pytest.raises(IclError, match=said):
        fit_fields(backbone, [{"text": text}], lambda f: [f["text"] + " Kind:"], reserve=reserve)

"""The registry: methods by name, their parameters checked before any model loads."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from icl.errors import IclError, did_you_mean
from icl.learners.base import Learner, MetaLearner, Params

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

# method -> module:class; modules are imported on use, so that listing names is quick
_METHODS = {
    "majority": "icl.learners.majority:Majority",
    "stratified": "icl.learners.text_baselines:Stratified",
    "tfidf": "icl.learners.text_baselines:Tfidf",
    "zero-shot": "icl.learners.in_context:ZeroShot",
    "in-context": "icl.learners.in_context:InContext",
    "prototypes": "icl.learners.prototypes:Prototypes",
    "nearest-centroid": "icl.learners.prototypes:NearestCentroid",
    "matching": "icl.learners.neighbours:Matching",
    "knn": "icl.learners.neighbours:Neighbours",
    "soft-k-means": "icl.learners.transductive:SoftKMeans",
    "laplacian": "icl.learners.transductive:Laplacian",
    "linear-probe": "icl.learners.linear_probe:LinearProbe",
    "logistic": "icl.learners.linear_probe:Logistic",
    "ridge": "icl.learners.linear_probe:Ridge",
    "svm": "icl.learners.linear_probe:SVM",
    "head-finetuning": "icl.learners.finetuning:HeadFineTuning",
    "lora-head": "icl.learners.finetuning:LoraHead",
    "setfit": "icl.learners.setfit:SetFit",
    "meta-prototypes": "icl.learners.meta_metric:MetaPrototypes",
    "meta-matching": "icl.learners.meta_metric:MetaMatching",
    "relation": "icl.learners.meta_metric:Relation",
    "snail": "icl.learners.memory:SNAIL",
    "mann": "icl.learners.memory:MANN",
    "multitask": "icl.learners.multitask:MultiTask",
    "lora": "icl.learners.lora:LoraFineTuning",
    "fomaml": "icl.learners.fomaml:LoraFOMAML",
    "maml": "icl.learners.maml:LoraMAML",
    "maml++": "icl.learners.maml_plus_plus:LoraMAMLPlusPlus",
    "meta-sgd": "icl.learners.meta_sgd:LoraMetaSGD",
    "reptile": "icl.learners.reptile:LoraReptile",
    "anil": "icl.learners.anil:LoraANIL",
    "imaml": "icl.learners.imaml:LoraIMAML",
    "protomaml": "icl.learners.protomaml:LoraProtoMAML",
    "metaicl": "icl.learners.metaicl:MetaICL",
}


def methods() -> tuple[str, ...]:
    """Return all method names, plain baselines first."""
    return tuple(_METHODS)


def _learner_class(method: str) -> type[Learner]:
    if method not in _METHODS:
        raise IclError(f"No method {method!r}." + did_you_mean(method, _METHODS))
    module, _, name = _METHODS[method].partition(":")
    found: type[Learner] = getattr(import_module(module), name)
    return found


def validate(method: str, params: Mapping[str, Any]) -> Params:
    """Check a method's parameters; raises `IclError` that names the field and the mend."""
    kind = _learner_class(method)
    try:
        return kind.Params.model_validate(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        hint = (
            did_you_mean(field, kind.Params.model_fields)
            if first["type"] == "extra_forbidden"
            else ""
        )
        raise IclError(f"Method {method!r}, parameter {field!r}: {first['msg']}.{hint}") from error


def is_meta_learner(method: str) -> bool:
    """Tell whether a method must be meta-trained before it is used."""
    return issubclass(_learner_class(method), MetaLearner)


def needs_weights(method: str, params: Params) -> bool:
    """Tell whether a method looks into the model, so that none on a server will do."""
    kind = _learner_class(method)
    return issubclass(kind, MetaLearner) or kind.needs_weights(params)


def is_transductive(method: str) -> bool:
    """Tell whether a method sees all queries at once; False for a method that is not known here."""
    return method in _METHODS and _learner_class(method).transductive


def make(method: str, params: Mapping[str, Any], backbone: Backbone) -> Learner:
    """Build a learner on a backbone.

    Raises:
        IclError: an unknown method or parameter, or a backbone that does not suit the method.
    """
    check_backbone(method, backbone)
    return _learner_class(method)(backbone, validate(method, params))


def check_backbone(method: str, backbone: Backbone) -> None:
    """Raise `IclError` where a method needs a model that predicts words and this one is an encoder.

    It looks at the model's kind only, so that a run can be refused before anything is computed.
    """
    from icl.models.encoder import Encoder, no_head

    if _learner_class(method).predicts_words and isinstance(backbone, Encoder):
        raise IclError(f"{no_head(backbone)[:-1]}, not {method!r}.")

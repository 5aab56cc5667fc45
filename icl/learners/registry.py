"""The registry: methods by name, their parameters checked before any model loads."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from icl.errors import IclError, did_you_mean, in_short
from icl.learners.base import Learner, MetaLearner, Params
from icl.models.base import DECODER, Ability, told
from icl.tools.own_class import own_class, own_module

if TYPE_CHECKING:
    from icl.models.base import Model, Sketch

_NAMED = 3  # methods in a message
# method -> module:class; modules are imported on use, so that listing names is quick
_METHODS = {
    "majority": "icl.learners.baselines.majority:Majority",
    "stratified": "icl.learners.baselines.text_baselines:Stratified",
    "tfidf": "icl.learners.baselines.text_baselines:Tfidf",
    "zero-shot": "icl.learners.prompting.in_context:ZeroShot",
    "in-context": "icl.learners.prompting.in_context:InContext",
    "prototypes": "icl.learners.embedding.prototypes:Prototypes",
    "nearest-centroid": "icl.learners.embedding.prototypes:NearestCentroid",
    "matching": "icl.learners.embedding.neighbours:Matching",
    "knn": "icl.learners.embedding.neighbours:Neighbours",
    "soft-k-means": "icl.learners.embedding.transductive:SoftKMeans",
    "laplacian": "icl.learners.embedding.transductive:Laplacian",
    "linear-probe": "icl.learners.embedding.linear_probe:LinearProbe",
    "logistic": "icl.learners.embedding.linear_probe:Logistic",
    "ridge": "icl.learners.embedding.linear_probe:Ridge",
    "svm": "icl.learners.embedding.linear_probe:SVM",
    "head-finetuning": "icl.learners.embedding.finetuning:HeadFineTuning",
    "lora-head": "icl.learners.embedding.finetuning:LoraHead",
    "setfit": "icl.learners.embedding.setfit:SetFit",
    "meta-prototypes": "icl.learners.embedding.meta_metric:MetaPrototypes",
    "meta-matching": "icl.learners.embedding.meta_metric:MetaMatching",
    "relation": "icl.learners.embedding.meta_metric:Relation",
    "snail": "icl.learners.embedding.memory_networks:SNAIL",
    "mann": "icl.learners.embedding.memory_networks:MANN",
    "multitask": "icl.learners.embedding.multitask:MultiTask",
    "lora": "icl.learners.gradient.lora:LoraFineTuning",
    "multitask-lora": "icl.learners.gradient.multitask_lora:LoraMultiTask",
    "fomaml": "icl.learners.gradient.fomaml:LoraFOMAML",
    "maml": "icl.learners.gradient.maml:LoraMAML",
    "maml++": "icl.learners.gradient.maml_plus_plus:LoraMAMLPlusPlus",
    "meta-sgd": "icl.learners.gradient.meta_sgd:LoraMetaSGD",
    "reptile": "icl.learners.gradient.reptile:LoraReptile",
    "anil": "icl.learners.gradient.anil:LoraANIL",
    "imaml": "icl.learners.gradient.imaml:LoraIMAML",
    "protomaml": "icl.learners.gradient.protomaml:LoraProtoMAML",
    "metaicl": "icl.learners.prompting.metaicl:MetaICL",
}


def methods() -> tuple[str, ...]:
    """Return all method names, plain baselines first."""
    return tuple(_METHODS)


def home(method: str) -> tuple[str, str]:
    """Return the module and the class of a method, by name.

    Raises:
        IclError: there is no such method, or it cannot be imported.
    """
    if method not in _METHODS:
        learner_class(method)
        return own_module(method), method.rpartition(":")[2]
    module, _, name = _METHODS[method].partition(":")
    return module, name


def learner_class(method: str) -> type[Learner]:
    """Return a method's class; raises `IclError` for one neither known nor somebody's own."""
    if method in _METHODS:
        module, _, name = _METHODS[method].partition(":")
        found: type[Learner] = getattr(import_module(module), name)
        return found
    if ":" in method:
        own: type[Learner] = own_class(method, Learner, "method")  # type: ignore[type-abstract]
        if not (isinstance(own.Params, type) and issubclass(own.Params, Params)):
            raise IclError(
                f"The method {method!r}: derive its `Params` from `icl.learners.Params`."
            )
        return own
    raise IclError(f"No method {method!r}." + did_you_mean(method, _METHODS))


def validate(method: str, params: Mapping[str, Any]) -> Params:
    """Check a method's parameters; raises `IclError` that names the field and the mend."""
    kind = learner_class(method)
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


def about(method: str) -> str:
    """Return the first sentence that a method's class says of it."""
    text = inspect.getdoc(learner_class(method)) or ""
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    return re.split(r"(?<!et al)[.] ", paragraph)[0].rstrip(".") + "."


def is_meta_learner(method: str) -> bool:
    """Tell whether a method must be meta-trained before it is used."""
    return issubclass(learner_class(method), MetaLearner)


def known_class(method: str) -> type[Learner] | None:
    """Return the class of a method of icl; None for somebody's own, whose file may be gone."""
    return learner_class(method) if method in _METHODS else None


def make(method: str, params: Mapping[str, Any], backbone: Model | None) -> Learner:
    """Build a learner on a model, or on none where it needs none.

    Raises:
        IclError: an unknown method or parameter, or a model that cannot do what the method needs.
    """
    checked = validate(method, params)
    check_model(method, checked, backbone)
    try:
        return learner_class(method)(backbone, checked)
    except IclError:
        raise
    except Exception as error:  # somebody's own code may fail in any way
        if method in _METHODS and type(backbone).__module__.startswith("icl."):
            raise
        raise IclError(
            f"The method {method!r} cannot be made: {type(error).__name__}: {in_short(error)}."
        ) from error


def check_model(method: str, params: Params, model: Model | Sketch | None) -> None:
    """Raise `IclError` where a model cannot do what a method needs; says which methods it serves.

    This is the one place that brings the two together. It looks at what the model says of itself,
    so that a run can be refused before anything is computed.
    """
    kind = learner_class(method)
    wanted = _needed(method, kind, params)
    if not wanted:
        return
    if model is None:
        raise IclError(f"The method {method!r} needs a model; give one, such as {_suits(wanted)}.")
    if wanted <= model.can:
        return
    by_default = kind.needs(validate(method, {})) <= model.can
    mend = "leave them as they are by default" if by_default else _served(model.can)
    raise IclError(
        f"{'With these parameters the' if by_default else 'The'} method {method!r} needs a model"
        f" that {told(wanted - model.can)}, and {model.name!r}, {model.kind}, is none; {mend}, or"
        f" take a model such as {_suits(wanted)}."
    )


def _needed(method: str, kind: type[Learner], params: Params) -> frozenset[Ability]:
    """Return what a method needs; raises `IclError` where its class says no such thing."""
    found: Any = None
    try:
        found = kind.needs(params)
        if isinstance(found, frozenset | set) and found <= set(get_args(Ability)):
            return frozenset(found)
        reason = f"it returns {found!r}"
    except Exception as error:  # somebody's own code may fail in any way
        reason = f"{type(error).__name__}: {in_short(error)}"
    raise IclError(
        f"The method {method!r} does not say what it needs ({reason}); let its class method `needs`"
        f" return a set out of {', '.join(get_args(Ability))}."
    )


def _served(can: frozenset[Ability]) -> str:
    """Name the first methods that a model can serve."""
    serves = [
        m for m in _METHODS if (wanted := learner_class(m).needs(validate(m, {}))) and wanted <= can
    ]
    return f"take a method such as {' or '.join(map(repr, serves[:_NAMED] or ['majority']))}"


def _suits(wanted: frozenset[Ability]) -> str:
    return "'packaged:gemma-3-270m'" if wanted <= DECODER else "'packaged:all-minilm-l6-v2'"

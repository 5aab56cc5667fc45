"""The registry: methods by name, their parameters checked before any model loads."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from icl.errors import IclError, did_you_mean
from icl.learners.base import Learner, MetaLearner, Params
from icl.tools.closure import code_of

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

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


def check_method(method: str) -> None:
    """Raise `IclError` for a method that is neither known here nor somebody's own."""
    learner_class(method)


def home(method: str) -> tuple[str, str]:
    """Return the module and the class of a method, by name.

    Raises:
        IclError: there is no such method, or it cannot be imported.
    """
    if method not in _METHODS:
        check_method(method)
        module, _, name = method.rpartition(":")
        return (_module_name(Path(module)) if module.endswith(".py") else module), name
    module, _, name = _METHODS[method].partition(":")
    return module, name


def _module_name(path: Path) -> str:
    """Name the module that somebody's own file becomes; files may share a name."""
    whole = path.expanduser().resolve()
    return f"icl_own_{whole.stem}_{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}"


def learner_class(method: str) -> type[Learner]:
    """Return a method's class; raises `IclError` as `check_method` does."""
    if method in _METHODS:
        module, _, name = _METHODS[method].partition(":")
        found: type[Learner] = getattr(import_module(module), name)
        return found
    if ":" in method:
        return _own(method)
    raise IclError(f"No method {method!r}." + did_you_mean(method, _METHODS))


@cache
def _own(method: str) -> type[Learner]:
    """Import ``file.py:Class`` or ``package.module:Class``."""
    module, _, name = method.rpartition(":")
    try:
        if module.endswith(".py"):
            path = Path(module).expanduser().resolve()
            spec = spec_from_file_location(_module_name(path), path)
            if spec is None or spec.loader is None:
                raise ImportError(f"{path} is no Python file")
            loaded = module_from_spec(spec)
            sys.modules[spec.name] = loaded
            spec.loader.exec_module(loaded)
        else:
            loaded = import_module(module)
        code_of(loaded.__name__)  # read now, as it is imported: a later edit decides nothing here
    except Exception as error:  # somebody's own code may fail in any way
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise IclError(f"The method {method!r} cannot be imported: {reason}.") from error
    found = getattr(loaded, name, None)
    if not (isinstance(found, type) and issubclass(found, Learner)):
        names = [own for own, v in vars(loaded).items() if isinstance(v, type) and _is_own(v)]
        raise IclError(
            f"The method {method!r}: {module} has no learner {name!r}.{did_you_mean(name, names)}"
        )
    return found


def _is_own(kind: type) -> bool:
    return issubclass(kind, Learner) and not kind.__module__.startswith("icl.")


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


def trains_columns(method: str) -> bool:
    """Tell whether a method answers no task with more labels than it was trained with."""
    return bool(getattr(learner_class(method), "trains_columns", False))


def needs_weights(method: str, params: Params) -> bool:
    """Tell whether a method looks into the model, so that none on a server will do."""
    kind = learner_class(method)
    return issubclass(kind, MetaLearner) or kind.needs_weights(params)


def known_class(method: str) -> type[Learner] | None:
    """Return the class of a method of icl; None for somebody's own, whose file may be gone."""
    return learner_class(method) if method in _METHODS else None


def make(method: str, params: Mapping[str, Any], backbone: Backbone) -> Learner:
    """Build a learner on a backbone.

    Raises:
        IclError: an unknown method or parameter, or a backbone that does not suit the method.
    """
    check_backbone(method, backbone)
    return learner_class(method)(backbone, validate(method, params))


def check_backbone(method: str, backbone: Backbone) -> None:
    """Raise `IclError` where a method needs a model that predicts words and this one is an encoder.

    It looks at the model's kind only, so that a run can be refused before anything is computed.
    """
    from icl.models.encoder import Encoder, no_head

    if learner_class(method).predicts_words and isinstance(backbone, Encoder):
        raise IclError(f"{no_head(backbone)[:-1]}, not {method!r}.")

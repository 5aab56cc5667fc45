"""Classification tasks from Unicode CLDR, through Babel: one item in hundreds of languages.

CLDR (the Unicode Common Locale Data Repository) gives names of countries, languages, currencies,
cities, units, months and weekdays in many languages. Labels come from what CLDR says of the things
themselves, so an item has the same label in every language and its code is its parallel id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.base import Row, Source, Wanted
from icl.tasks.sources.schema import Columns
from icl.tasks.task import normalise

if TYPE_CHECKING:
    from babel import Locale

Item = tuple[str, str, str]  # code, name in the language, label

_CONTINENTS = {
    "Africa": "Africa",
    "America": "America",
    "Asia": "Asia",
    "Europe": "Europe",
    "Australia": "Oceania",
    "Pacific": "Oceania",
}
_SCRIPTS = {"Latn": "Latin", "Cyrl": "Cyrillic", "Arab": "Arabic", "Deva": "Devanagari"}
_MONEY = ("dollar", "euro", "franc", "pound", "peso", "dinar")


class CldrSource(Source):
    """Names from Unicode CLDR through Babel (extra ``offline``), see `icl.tasks.sources.cldr`."""

    has_splits: ClassVar[bool] = False

    @property
    def fixed_columns(self) -> Columns:
        """What a row has."""
        return Columns(id="code", label="label", fields={"text": "name"})

    def place(self, wanted: Wanted) -> str:
        """Return the task and the language."""
        return f"CLDR's {wanted.task!r}, {wanted.language}"

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Yield the items of a task in a language, in the order of their codes.

        Names that CLDR lacks in the language, or leaves untranslated in one that does not write
        Latin letters, are left out, and so are texts that would stand under two labels.

        Raises:
            IclError: no such task or language, or the extra ``offline`` is not installed.
        """
        try:
            from babel import Locale, UnknownLocaleError
        except ImportError as error:
            raise IclError(
                "The CLDR tasks need Babel, which is not installed; run pip install 'icl[offline]'."
            ) from error
        task, language = wanted.task, wanted.language
        if task not in _TASKS:
            raise IclError(f"There is no CLDR task {task!r}." + did_you_mean(task, _TASKS))
        try:
            locale = Locale.parse(language)
        except (UnknownLocaleError, ValueError) as error:
            raise IclError(
                f"CLDR has no language {language!r}; give a code such as 'sw' or 'zh_Hans'."
            ) from error
        named = (item for item in _TASKS[task](locale) if _is_name(item, locale))
        items = sorted(item for item in named if item[2] in wanted.labels)
        owners = defaultdict(set)
        for _, name, label in items:
            owners[normalise(name)].add(label)
        kept = (item for item in items if len(owners[normalise(item[1])]) == 1)
        for number, (code, name, label) in enumerate(kept, start=1):
            yield number, {"code": code, "name": name, "label": label}


def _global(name: Any) -> Mapping[str, Any]:
    """Return a table of CLDR's that is about no language."""
    from babel.core import get_global

    return get_global(name)


def _is_name(item: Item, locale: Locale) -> bool:
    """Tell whether an item has a name of its own in the language."""
    code, name, _ = item
    group, _, own = code.partition("/")
    untranslated = name == own and group != "city"
    return bool(name) and not untranslated and (not name.isascii() or _writes_latin(locale))


def _writes_latin(locale: Locale) -> bool:
    return _script_of(str(locale)) == "Latn"


@lru_cache(maxsize=1024)
def _subtags(code: str) -> tuple[str, str, str] | None:
    """Return the likely (language, script, territory) of a language code, where CLDR has one."""
    parts = code.split("_")
    likely = _global("likely_subtags").get(code) or _global("likely_subtags").get(parts[0])
    if likely is None:
        return None
    language, script, territory = likely.split("_")[:3]
    return language, next((p for p in parts[1:] if len(p) == 4), script), territory


def _script_of(code: str) -> str | None:
    return (_subtags(code) or (None, None))[1]


@lru_cache(maxsize=1)
def _continents() -> dict[str, str]:
    """Return territory -> continent, for territories whose time zones all lie on one."""
    found: dict[str, set[str]] = defaultdict(set)
    for zone, territory in _global("zone_territories").items():
        found[territory].add(_CONTINENTS.get(zone.split("/")[0], ""))
    return {code: "".join(names) for code, names in found.items() if len(names) == 1 and all(names)}


def _currency_of(territory: str) -> str | None:
    """Return the one currency that a territory uses today, or None."""
    used = _global("territory_currencies").get(territory, [])
    current = [code for code, _, end, tender in used if end is None and tender]
    return current[0] if len(current) == 1 else None


def _countries(locale: Locale) -> dict[str, str]:
    """Return code -> name of countries: territories with time zones, no regions or groups."""
    with_zones = set(_global("zone_territories").values())
    return {c: n for c, n in locale.territories.items() if len(c) == 2 and c in with_zones}


def _languages(locale: Locale) -> dict[str, str]:
    return {code: name for code, name in locale.languages.items() if "_" not in code}


def _word_kind(locale: Locale) -> Iterator[Item]:
    spoken = {code for codes in _global("territory_languages").values() for code in codes}
    units = locale.unit_display_names.items()
    # Not "stand-alone": Babel 2.18 stores what it resolves for one language in the data that all
    # share, so that after Swahili was read the German weekdays are Swahili.
    kinds = {
        "month": locale.months["format"]["wide"],
        "weekday": locale.days["format"]["wide"],
        "currency": locale.currencies,
        "language": {c: name for c, name in _languages(locale).items() if c in spoken},
        "country": _countries(locale),
        "unit": {code: names["long"] for code, names in units if "long" in names},
    }
    for kind, names in kinds.items():
        for code, name in names.items():
            yield f"{kind}/{code}", name, kind


def _city_continent(locale: Locale) -> Iterator[Item]:
    names: Any = locale.time_zones
    for zone in _global("zone_territories"):
        area, _, rest = zone.partition("/")
        if area not in _CONTINENTS or "/" in rest:
            continue
        name = names.get(zone, {}).get("city")
        if name is None and _writes_latin(locale):  # CLDR's fallback is the zone's own id
            name = rest.replace("_", " ")
        if name is not None:
            yield f"city/{zone}", name, _CONTINENTS[area]


def _language_continent(code: str) -> str | None:
    found = _subtags(code)
    return _continents().get(found[2]) if found is not None else None


def _country_currency(code: str) -> str | None:
    from babel import Locale as Babel

    english = Babel.parse("en").currencies
    currency = english.get(_currency_of(code) or "", "").lower().split(" ")
    return next((kind for kind in _MONEY if kind in currency), None)


def _currency_continent(code: str) -> str | None:
    territory = code[:2]  # ISO 4217: a currency's code begins with its country's
    return _continents().get(territory) if _currency_of(territory) == code else None


def _sorted(
    group: str, names: Callable[[Any], Mapping[str, str]], label: Callable[[str], str | None]
) -> Callable[[Any], Iterator[Item]]:
    """Return a task that asks for what a thing's code decides, where it decides it."""

    def items(locale: Locale) -> Iterator[Item]:
        for code, name in names(locale).items():
            if (found := label(code)) is not None:
                yield f"{group}/{code}", name, found

    return items


_TASKS: dict[str, Callable[[Any], Iterator[Item]]] = {
    "word-kind": _word_kind,
    "country-continent": _sorted("country", _countries, lambda code: _continents().get(code)),
    "city-continent": _city_continent,
    "language-script": _sorted(
        "language", _languages, lambda code: _SCRIPTS.get(_script_of(code) or "")
    ),
    "language-continent": _sorted("language", _languages, _language_continent),
    "country-currency": _sorted("country", _countries, _country_currency),
    "currency-continent": _sorted(
        "currency", lambda locale: locale.currencies, _currency_continent
    ),
}

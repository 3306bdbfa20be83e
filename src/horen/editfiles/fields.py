"""What the fields of a record of edits are taken for: this package's own, and those of the literature's data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from horen.editfiles.objects import Fields
from horen.editfiles.textfiles import BadRecordError, filled_text, json_name
from horen.edits import same_text

_SUBJECT = "what {} stands for"
_REWRITE = "requested_rewrite"
# The first name of each is this package's own.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "src", "update", "question"),
    "target": ("target", "target_new", "alt", "ans", "answer"),
    "rephrases": (
        "rephrases",
        "rephrase",
        "rephrase_prompt",
        "rephrase_prompts",
        "paraphrases",
        "paraphrase_prompts",
        "para_question",
    ),
}
_OWN = tuple(names[0] for names in _NAMES.values())
_MEANING = {name: what for what, names in _NAMES.items() for name in names}
_MEANING |= {"subject": _SUBJECT, _REWRITE: "prompt, target and subject"}
#: What a store keeps of a record beside its texts, and a codebook's folder does not.
FACTS = ("source", "tags")
_MEANING |= {name: name for name in FACTS}
# Known of these data sets, and of no use to an edit.
_UNUSED = frozenset(
    {"case_id", "pararel_idx", "neighborhood_prompts", "attribute_prompts", "generation_prompts", "relation_id"}
    | {"ground_truth", "locality_prompt", "locality_ground_truth", "locality", "pred", "answers", "loc", "loc_ans"}
    | {"cond", "target_true", "tag", "personas", "mhop", "mhop_ans", "sub_question", "sub_answer", "id", "relation"}
    | {"near", "far", "same_subject", "questions"}
)
# Its aliases of the subject are rephrases.
_PORTABILITY = "portability"
KNOWN = (*_MEANING, _PORTABILITY, *sorted(_UNUSED))


def edit_of(raw: object, seen: MutableMapping[str, str] | None = None) -> tuple[str, str, tuple[str, ...]]:
    """Return prompt, target and rephrases of a record.

    Args:
        raw: the record.
        seen: is told what each field was taken for; an empty text for one that is of no use.

    Raises:
        BadRecordError: for one that cannot be used, or that has a field which is not known.
    """
    if not isinstance(raw, dict):
        raise BadRecordError(f"it is {json_name(raw)} where an object with prompt and target is expected")
    check_names(raw)
    given = {name: value for name, value in raw.items() if value is not None or name in {"prompt", "target"}}
    prompt, target, subject = _rewritten(given) if _REWRITE in given else _plain(given)
    rephrases = _rephrases(given) + _aliased(given, target)
    texts = [_filled(text, subject) for text in (prompt, *rephrases)]
    if seen is not None:
        seen.update({name: _meaning(name, raw[name]) for name in raw})
    return texts[0], target, tuple(texts[1:])


def facts_of(raw: object) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return subject, source and tags of a record; what is not there is None, or no tag.

    Raises:
        BadRecordError: when one of them is no text, or the tags are no list of texts.
    """
    fields = Fields(raw)
    rewritten = fields.inner(_REWRITE) if _REWRITE in fields else fields
    subject = fields.optional("subject") or rewritten.optional("subject")
    return subject, fields.optional("source"), tuple(dict.fromkeys(fields.texts("tags")))


def check_names(names: Iterable[str]) -> None:
    """Raise BadRecordError for a field that is not known: what it holds must not be dropped without a word."""
    for name in names:
        if name not in KNOWN:
            raise BadRecordError(
                f"it has the field {name!r}, which is not known: leave it out, or name it as one of {_told()}"
            )


def column(name: str) -> str | None:
    """Return what a column of a table is taken for.

    It is "prompt", "target", "rephrases", something else, or None if not known.
    """
    return _MEANING.get(name, "" if name in KNOWN else None)


def _told() -> str:
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in _NAMES.items()) + f"; subject ({_SUBJECT})"


def _meaning(name: str, value: object) -> str:
    if name == _PORTABILITY:
        aliases = isinstance(value, Mapping) and "Subject_Aliasing" in value
        return "rephrases, where an alias of the subject is asked for the target" if aliases else ""
    return _MEANING.get(name, "")


def _one(given: Mapping[str, object], what: str) -> str:
    """Return the one name of a record's prompt or target."""
    found = [name for name in _NAMES[what] if name in given]
    if len(found) > 1:
        raise BadRecordError(f"it has both {found[0]} and {found[1]}, which are taken for the {what}: leave one out")
    return found[0] if found else what


def _plain(given: Mapping[str, object]) -> tuple[str, str, str | None]:
    found = []
    for what in ("prompt", "target"):
        name = _one(given, what)
        if name not in given:
            raise BadRecordError(f"it has no {what}")
        value = given[name]
        if name == "target_new" and isinstance(value, Mapping):
            found.append(Fields(value, "target_new.").text("str"))
        else:
            text = filled_text(value, name)
            found.append(text if name in _OWN else text.strip())
    subject = Fields(given).optional("subject")
    if "{}" in found[0] and subject is None and "target_new" in given:
        raise BadRecordError("it has no subject for the {} of prompt")
    return found[0], found[1], subject


def _rewritten(given: Mapping[str, object]) -> tuple[str, str, str | None]:
    for what in ("prompt", "target"):
        name = _one(given, what)
        if name in given:
            raise BadRecordError(f"it has both {name} and {_REWRITE}, which are taken for the {what}: leave one out")
    rewrite = Fields(given).inner(_REWRITE)
    prompt, subject = rewrite.text("prompt"), rewrite.optional("subject")
    if "target_new" not in rewrite:
        raise BadRecordError(f"it has no {_REWRITE}.target_new")
    if "{}" in prompt and subject is None:
        raise BadRecordError(f"it has no {_REWRITE}.subject for the {{}} of {_REWRITE}.prompt")
    return prompt, rewrite.inner("target_new").text("str"), subject


def _rephrases(given: Mapping[str, object]) -> list[str]:
    found: list[str] = []
    for name in _NAMES["rephrases"]:
        if name not in given:
            continue
        if name not in _OWN:
            found += Fields(given).texts(name)
            continue
        texts = [given[name]] if isinstance(given[name], str) else given[name]
        if not isinstance(texts, list):
            raise BadRecordError(f"rephrases is {json_name(texts)} where a list of texts is expected")
        found += [filled_text(text, f"rephrase {number}") for number, text in enumerate(texts, start=1)]
    return found


def _aliased(given: Mapping[str, object], target: str) -> list[str]:
    """Return prompts with another name of the subject that the very target answers, as KnowEdit has them."""
    if not isinstance(given.get(_PORTABILITY), Mapping):
        return []
    asked = Fields(given).inner(_PORTABILITY).asked("Subject_Aliasing")
    return [prompt for prompt, answers in asked if same_text(target) in map(same_text, answers)]


def _filled(text: str, subject: str | None) -> str:
    return text if subject is None else text.replace("{}", subject)

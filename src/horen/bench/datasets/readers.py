"""What each public format calls its fields; one function makes a record of one object."""

from __future__ import annotations

from horen.bench.datasets.fields import negatives, question, record
from horen.bench.records import (
    ALIAS,
    FAR,
    INVERSE,
    MULTI_HOP,
    NEAR,
    ONE_HOP,
    PERSONAS,
    PORTABILITY,
    REASONING,
    SAME_SUBJECT,
    SUB_QUESTION,
    Question,
    Record,
)
from horen.editfiles.objects import Fields
from horen.editfiles.textfiles import BadRecordError
from horen.edits import same_text

_NQ_PREFIX = "nq question:"


def zsre(number: int, fields: Fields) -> Record:
    """Return a record of ZsRE with the names of MEND."""
    unrelated = [text.removeprefix(_NQ_PREFIX).lstrip() for text in fields.texts("loc")]
    prompt, target, subject = fields.text("src"), fields.text("alt"), fields.optional("subject")
    template = prompt.replace(subject, "{}") if subject else prompt
    inverse = question(fields.optional("inverse question"), [subject] if subject else [], INVERSE)
    return record(
        number,
        prompt,
        target,
        rephrases=fields.texts("rephrase"),
        negatives=negatives(filter(None, unrelated), FAR),
        questions=_alias(fields, template, target) + inverse + _one_hop(fields),
        subject=subject,
    )


def counterfact(number: int, fields: Fields) -> Record:
    """Return a record of CounterFact, with the names of ROME or of EasyEdit."""
    if "requested_rewrite" not in fields:
        return record(
            number,
            fields.text("prompt"),
            fields.text("target_new"),
            rephrases=fields.texts("rephrase_prompt"),
            negatives=negatives(fields.texts("locality_prompt"), NEAR),
            questions=_one_hop(fields),
            subject=fields.optional("subject"),
        )
    rewrite = fields.inner("requested_rewrite")
    prompt, subject = rewrite.text("prompt"), rewrite.optional("subject")
    if "{}" in prompt and subject is None:
        raise BadRecordError("it has no requested_rewrite.subject for the {} of requested_rewrite.prompt")
    target = rewrite.inner("target_new").text("str")
    return record(
        number,
        prompt.replace("{}", subject or ""),
        target,
        rephrases=fields.texts("paraphrase_prompts"),
        negatives=negatives(fields.texts("neighborhood_prompts") + fields.texts("attribute_prompts"), NEAR),
        questions=_alias(fields, prompt, target) + _one_hop(fields),
        subject=subject,
    )


def wikibigedit(number: int, fields: Fields) -> Record:
    """Return a record of WikiBigEdit."""
    prompt, target = fields.text("update"), fields.text("ans")
    asked = [Question(text, (target,), PERSONAS) for text in fields.texts("personas")]
    return record(
        number,
        prompt,
        target,
        rephrases=fields.texts("rephrase"),
        negatives=negatives(fields.texts("loc"), NEAR),
        questions=asked + question(fields.optional("mhop"), fields.answers("mhop_ans"), MULTI_HOP),
        subject=fields.optional("subject"),
    )


def unke(number: int, fields: Fields) -> Record:
    """Return a record of UnKEBench."""
    parts, answers = fields.listed("sub_question"), fields.listed("sub_answer")
    if len(parts) != len(answers):
        raise BadRecordError(f"it has {len(parts)} of sub_question but {len(answers)} of sub_answer")
    asked = []
    for text, answer in zip(parts, answers, strict=True):
        asked += question(text, (answer,) if answer else (), SUB_QUESTION)
    return record(
        number,
        fields.text("question"),
        fields.text("answer"),
        rephrases=fields.texts("para_question"),
        questions=asked,
        subject=fields.optional("subject"),
    )


def qaedit(number: int, fields: Fields) -> Record:
    """Return a record of QAEdit."""
    unrelated: list[str] = []
    for item in fields.items("locality"):
        unrelated += Fields({"loc": item} if isinstance(item, str) else item, "locality.").texts("loc")
    return record(
        number,
        fields.text("prompt"),
        fields.text("target"),
        rephrases=fields.texts("rephrase"),
        negatives=negatives(unrelated, FAR),
        subject=fields.optional("subject"),
    )


def knowedit(number: int, fields: Fields) -> Record:
    """Return a record of KnowEdit's wiki_recent, wiki_counterfact or ZsRE."""
    target = fields.text("target_new")
    portability, locality = fields.inner("portability"), fields.inner("locality")
    asked = []
    for prompt, answers in portability.asked("Subject_Aliasing"):
        asked += question(prompt, answers, ALIAS if same_text(target) in map(same_text, answers) else REASONING)
    for group in ("Logical_Generalization", "Reasoning"):
        for prompt, answers in portability.asked(group):
            asked += question(prompt, answers, REASONING)
    kept = [prompt for group in ("Relation_Specificity", "Forgetfulness") for prompt, _ in locality.asked(group)]
    return record(
        number,
        fields.text("prompt"),
        target,
        rephrases=fields.texts("rephrase_prompt") + fields.texts("rephrase"),
        negatives=negatives(kept, SAME_SUBJECT),
        questions=asked,
        subject=fields.optional("subject"),
    )


def plain(number: int, fields: Fields) -> Record:
    """Return a record with the names of this package."""
    asked = []
    for position, item in enumerate(fields.items("questions"), start=1):
        given = Fields(item, f"questions {position}.")
        kind, answers = given.text("kind"), given.answers("answers")
        if kind not in PORTABILITY:
            raise BadRecordError(f"questions {position}.kind is none of {', '.join(PORTABILITY)}")
        if not answers:
            raise BadRecordError(f"it has no questions {position}.answers")
        asked.append(Question(given.text("text"), answers, kind))
    return record(
        number,
        fields.text("prompt"),
        fields.text("target"),
        rephrases=fields.texts("rephrases"),
        negatives=[found for kind in (NEAR, FAR, SAME_SUBJECT) for found in negatives(fields.texts(kind), kind)],
        questions=asked,
        subject=fields.optional("subject"),
    )


def _one_hop(fields: Fields) -> list[Question]:
    portability = fields.inner("portability")
    return question(portability.optional("New Question"), portability.answers("New Answer"), ONE_HOP)


def _alias(fields: Fields, template: str, target: str) -> list[Question]:
    """Return the prompt with another name of its subject, where the file has one and the template a place for it."""
    other = fields.optional("alternative_subject")
    return question(template.replace("{}", other), (target,), ALIAS) if other and "{}" in template else []

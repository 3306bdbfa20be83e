"""The formats that can be read: what each is, where it comes from, and its reader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from types import MappingProxyType

from horen.bench.datasets import entity_questions, readers
from horen.bench.datasets.fields import made, record
from horen.bench.records import Record, Rejected
from horen.editfiles.objects import Fields
from horen.editfiles.textfiles import Item
from horen.edits import same_text

# Takes the values of a file, those of each companion by its name, and the most records to make.
Reader = Callable[
    [Iterable[Item], Sequence[tuple[str, Iterable[Item]]], int | None], tuple[list[Record], list[Rejected]]
]


@dataclass(frozen=True)
class Format:
    """What is known of a data set.

    Attributes:
        title: its name in the literature.
        description: what it holds, in one line.
        source: address of its authors' files or repository; None for the format of this package.
        hub: its hub id, where there is one.
        licence: as its source states it.
        fields: what is read of a record, and as what; everything else is ignored.
        unstructured: whether targets are paragraphs.
        read: makes records of the values of a file.
    """

    title: str
    description: str
    source: str | None
    hub: str | None
    licence: str
    fields: tuple[str, ...]
    read: Reader = field(repr=False)
    unstructured: bool = False


def one_by_one(
    make: Callable[[int, Fields], Record],
    items: Iterable[Item],
    companions: Sequence[tuple[str, Iterable[Item]]],
    limit: int | None,
) -> tuple[list[Record], list[Rejected]]:
    """Make a record of each object; what companions ask about the same edit is added to it.

    Returns:
        The first ``limit`` records, and what cannot be used of the companions and of the file up to there.
    """
    rejected: list[Rejected] = []
    records = list(islice(made(items, make, rejected), limit))
    more: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for name, others in companions:
        for found in made(others, make, rejected, f"{name}: "):
            more[same_text(found.prompt), same_text(found.target)].append(found)
    if more:
        records = [_joined(own, more.get((same_text(own.prompt), same_text(own.target)), [])) for own in records]
    return records, rejected


def _joined(own: Record, others: Sequence[Record]) -> Record:
    both = (own, *others)
    return record(
        own.number,
        own.prompt,
        own.target,
        rephrases=[text for each in both for text in each.rephrases],
        negatives=[negative for each in both for negative in each.negatives],
        questions=[question for each in both for question in each.questions],
        subject=own.subject,
    )


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "zsre": Format(
            title="ZsRE",
            description="Zero-shot relation extraction as questions, with the field names of MEND and EasyEdit.",
            source="https://github.com/eric-mitchell/mend",
            hub=None,
            licence="MIT",
            fields=(
                "src: prompt",
                "alt: target",
                "rephrase: rephrases",
                "loc: far negatives",
                "portability (New Question, New Answer): one-hop question",
                "alternative_subject: alias question, the prompt with it in the subject's place",
                "inverse question: inverse question, which the subject answers",
                "subject",
            ),
            read=partial(one_by_one, readers.zsre),
        ),
        "counterfact": Format(
            title="CounterFact",
            description="Counterfactual statements to complete, with the field names of ROME or of EasyEdit.",
            source="https://rome.baulab.info/data/dsets/counterfact.json",
            hub="azhx/counterfact",
            licence="MIT",
            fields=(
                "requested_rewrite.prompt or prompt: prompt",
                "requested_rewrite.target_new.str or target_new: target",
                "paraphrase_prompts or rephrase_prompt: rephrases",
                "neighborhood_prompts, attribute_prompts or locality_prompt: near negatives",
                "portability (New Question, New Answer): one-hop question",
                "alternative_subject: alias question, the prompt with it in the subject's place",
                "requested_rewrite.subject or subject",
            ),
            read=partial(one_by_one, readers.counterfact),
        ),
        "wikibigedit": Format(
            title="WikiBigEdit",
            description="Changes of Wikidata between February and July 2024, as questions.",
            source="https://huggingface.co/datasets/lukasthede/WikiBigEdit",
            hub="lukasthede/WikiBigEdit",
            licence="Apache-2.0",
            fields=(
                "update: prompt",
                "ans: target",
                "rephrase: rephrases",
                "personas: personas questions",
                "loc: near negatives",
                "mhop, mhop_ans: multi-hop question",
                "subject",
            ),
            read=partial(one_by_one, readers.wikibigedit),
        ),
        "unke": Format(
            title="UnKEBench",
            description="Questions that a paragraph answers, and questions about the parts of that paragraph.",
            source="https://github.com/TrustedLLM/UnKE",
            hub=None,
            licence="none stated",
            fields=(
                "question: prompt",
                "answer: target, a paragraph",
                "para_question: rephrases",
                "sub_question, sub_answer: questions about parts",
            ),
            read=partial(one_by_one, readers.unke),
            unstructured=True,
        ),
        "qaedit": Format(
            title="QAEdit",
            description="Questions of Natural Questions, TriviaQA and SimpleQA that models answer wrongly.",
            source="https://github.com/WanliYoung/Revisit-Editing-Evaluation",
            hub="WenDingY/QAEdit",
            licence="none stated",
            fields=("prompt", "target", "rephrase: rephrases", "locality (loc): far negatives", "subject"),
            read=partial(one_by_one, readers.qaedit),
        ),
        "knowedit": Format(
            title="KnowEdit: wiki_recent, wiki_counterfact, ZsRE",
            description="Recent and counterfactual facts of Wikidata, with what follows from each and what does not.",
            source="https://github.com/zjunlp/EasyEdit/blob/main/examples/KnowEdit.md",
            hub="zjunlp/KnowEdit",
            licence="MIT",
            fields=(
                "prompt",
                "target_new: target",
                "rephrase_prompt, rephrase: rephrases",
                "portability.Subject_Aliasing: alias questions where the target answers them, else reasoning questions",
                "portability.Logical_Generalization, portability.Reasoning: reasoning questions",
                "locality.Relation_Specificity, locality.Forgetfulness: negatives about the same subject",
                "subject",
            ),
            read=partial(one_by_one, readers.knowedit),
        ),
        "entity_questions": Format(
            title="EntityQuestions",
            description="Short questions about subjects in 24 relations; the target is the first true answer.",
            source="https://github.com/princeton-nlp/EntityQuestions",
            hub=None,
            licence="MIT",
            fields=(
                "src or question: prompt; rephrases are made of it by the package's templates",
                "answers: the first is the target",
                "relation and subject, else read off the prompt: near and same-subject negatives are other prompts",
            ),
            read=entity_questions.read,
        ),
        "jsonl": Format(
            title="Own data",
            description="Any edits, one object a line, with the field names of this package.",
            source=None,
            hub=None,
            licence="yours",
            fields=(
                "prompt",
                "target",
                "rephrases",
                "near, far, same_subject: negatives",
                "questions: a list of objects with text, answers and kind",
                "subject",
            ),
            read=partial(one_by_one, readers.plain),
        ),
    }
)

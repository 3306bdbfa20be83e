"""The shipped facts and prompts: their shape, their quality rules, and the draws made from them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from horen.data import DemoFact, PromptBank, Relation, demo_facts, load_bank
from horen.errors import DataError


def plainly(text: str) -> str:
    return text.casefold().strip(" ?.")


def spread(facts: list[DemoFact]) -> list[str]:
    return [text for fact in facts for text in (fact.prompt, *fact.rephrases, *fact.near_misses)]


def renderings(bank: PromptBank) -> list[str]:
    return [
        text
        for relation in bank.relations
        for entity in bank.entities[relation.entities]
        for text in relation.render(entity)
    ]


@pytest.fixture(scope="module")
def bank() -> PromptBank:
    return load_bank()


@pytest.fixture(scope="module")
def facts() -> list[DemoFact]:
    return demo_facts()


@pytest.fixture
def small() -> PromptBank:
    return PromptBank(
        relations=(
            Relation("colour", ("What colour is {x}?", "The colour of {x} is"), "thing"),
            Relation("maker", ("Who made {x}?", "Did you hear who made {x}?"), "thing"),
            Relation("age", ("How old is {x}?", "The age of {x} is"), "person"),
        ),
        entities={"thing": ("a cup", "a hat"), "person": ("Ann", "Bo", "Cy")},
        plain=("Hello.", "What now?"),
        paragraphs=(),
    )


class TestDemo:
    def test_counts(self, facts: list[DemoFact]):
        assert len(facts) == 40
        assert all(len(fact.rephrases) == 3 and len(fact.near_misses) == 2 for fact in facts)
        assert 8 <= sum(not fact.prompt.endswith("?") for fact in facts) <= 14

    def test_every_text_is_clean(self, facts: list[DemoFact]):
        for text in [*spread(facts), *(fact.target for fact in facts)]:
            assert text
            assert text == " ".join(text.split())

    def test_no_text_appears_twice(self, facts: list[DemoFact]):
        # Holds all at once: prompts and rephrases are unique, and no near miss is one of them.
        counts = Counter(plainly(text) for text in spread(facts))
        assert [text for text, count in counts.items() if count > 1] == []

    def test_targets_are_short_and_not_given_away(self, facts: list[DemoFact]):
        for fact in facts:
            assert 1 <= len(fact.target.split()) <= 5
            assert not fact.target.endswith(".")
            for text in (fact.prompt, *fact.rephrases, *fact.near_misses):
                assert fact.target.casefold() not in text.casefold()
        assert len({fact.target for fact in facts}) == len(facts)

    def test_each_call_returns_a_list_of_its_own(self):
        demo_facts().clear()
        assert demo_facts()


class TestBank:
    def test_counts(self, bank: PromptBank):
        assert len(bank.relations) >= 100
        assert len(bank.entities) >= 14
        assert all(len(names) >= 40 for names in bank.entities.values())
        assert len(bank.plain) >= 300
        assert len(bank.paragraphs) == 24

    def test_every_type_is_known_and_used(self, bank: PromptBank):
        assert {relation.entities for relation in bank.relations} == set(bank.entities)

    def test_templates(self, bank: PromptBank):
        for relation in bank.relations:
            assert 4 <= len(relation.templates) <= 6, relation
            assert all(template.count("{x}") == 1 for template in relation.templates), relation
            assert all(template.count("{") == 1 for template in relation.templates), relation
            assert sum(template.endswith("?") for template in relation.templates) >= 3, relation
            statements = [template for template in relation.templates if template[-1] not in "?."]
            assert statements, relation
            assert not any(template.endswith("{x}") for template in statements), relation

    def test_a_template_that_opens_with_the_entity_opens_with_a_capital(self, bank: PromptBank):
        for relation in bank.relations:
            if any(template.startswith("{x}") for template in relation.templates):
                assert not any(name[0].islower() for name in bank.entities[relation.entities]), relation

    def test_every_text_is_clean(self, bank: PromptBank):
        names = [name for group in bank.entities.values() for name in group]
        templates = [template for relation in bank.relations for template in relation.templates]
        for text in [*names, *templates, *bank.plain, *bank.paragraphs]:
            assert text
            assert text == " ".join(text.split())

    def test_nothing_appears_twice(self, bank: PromptBank):
        names = [name for group in bank.entities.values() for name in group]
        prompts = [plainly(text) for text in (*renderings(bank), *bank.plain, *bank.paragraphs)]
        for group in (names, prompts, [relation.name for relation in bank.relations]):
            assert [text for text, count in Counter(group).items() if count > 1] == []

    def test_paragraphs(self, bank: PromptBank):
        for paragraph in bank.paragraphs:
            assert 25 <= len(paragraph.split()) <= 70
            assert paragraph.endswith(".")
            assert "?" not in paragraph

    def test_no_demo_text_is_in_the_bank(self, bank: PromptBank, facts: list[DemoFact]):
        known = {plainly(text) for text in (*renderings(bank), *bank.plain)}
        assert [text for text in spread(facts) if plainly(text) in known] == []

    def test_no_name_of_the_bank_is_a_subject_of_an_edit(self, bank: PromptBank, facts: list[DemoFact]):
        # Case counts: the series "The Office" is not the office in which somebody works.
        prompts = " ".join(text for fact in facts for text in (fact.prompt, *fact.rephrases))
        padded = f" {''.join(char if char.isalnum() else ' ' for char in prompts)} "
        names = [name for group in bank.entities.values() for name in group if name[0].isupper()]
        assert [name for name in names if f" {name} " in padded] == []

    def test_cannot_be_changed(self, bank: PromptBank):
        with pytest.raises(TypeError):
            bank.entities["country"] = ()  # type: ignore[index]
        assert load_bank() is bank


class TestParaphrases:
    def test_one_group_is_one_relation_filled_with_one_entity(self, small: PromptBank):
        whole = {rel.render(name) for rel in small.relations for name in small.entities[rel.entities]}
        drawn = small.paraphrases(7, seed=3)
        assert len(drawn) == 7
        assert set(drawn) == whole

    def test_every_relation_comes_before_any_comes_again(self, bank: PromptBank):
        count = len(bank.relations)
        owner = {
            relation.render(entity): relation.name
            for relation in bank.relations
            for entity in bank.entities[relation.entities]
        }
        names = [owner[group] for group in bank.paraphrases(2 * count)]
        assert len(set(names[:count])) == count
        assert len(set(names[count:])) == count

    def test_draws_repeat_and_grow(self, bank: PromptBank):
        assert bank.paraphrases(30, seed=5) == bank.paraphrases(90, seed=5)[:30]
        assert bank.paraphrases(30, seed=5) != bank.paraphrases(30, seed=6)

    def test_the_global_generator_is_left_alone(self, bank: PromptBank):
        before = random.getstate()
        bank.paraphrases(50)
        bank.unrelated(50)
        assert random.getstate() == before

    def test_no_pair_is_drawn_twice(self, bank: PromptBank):
        drawn = bank.paraphrases(1000)
        assert len(set(drawn)) == 1000

    @pytest.mark.parametrize("n", [-1, 8])
    def test_too_many(self, small: PromptBank, n: int):
        with pytest.raises(DataError, match=rf"cannot draw {n} groups.*has 7"):
            small.paraphrases(n)

    def test_none(self, small: PromptBank):
        assert small.paraphrases(0) == []


class TestUnrelated:
    def test_prompts_are_distinct_and_mixed(self, bank: PromptBank):
        drawn = bank.unrelated(400)
        assert len(set(drawn)) == 400
        assert len(set(drawn) & set(bank.plain)) == 200
        assert set(drawn) - set(bank.plain) <= set(renderings(bank))

    def test_draws_repeat_and_grow(self, bank: PromptBank):
        assert bank.unrelated(50, seed=2) == bank.unrelated(1000, seed=2)[:50]
        assert bank.unrelated(50, seed=2) != bank.unrelated(50, seed=1)

    def test_all_of_them(self, small: PromptBank):
        drawn = small.unrelated(9)
        assert len(set(drawn)) == 9
        assert set(small.plain) <= set(drawn)

    def test_plain_prompts_left_over_come_last(self, small: PromptBank):
        bank = PromptBank(small.relations[:1], small.entities, ("a", "b", "c", "d"), ())
        assert set(bank.unrelated(6)[-2:]) <= set(bank.plain)
        assert len(set(bank.unrelated(6))) == 6

    @pytest.mark.parametrize("n", [-1, 10])
    def test_too_many(self, small: PromptBank, n: int):
        with pytest.raises(DataError, match=rf"cannot draw {n} unrelated.*has 9"):
            small.unrelated(n)

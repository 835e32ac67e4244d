from roselora.bench.metrics.generated_answers import generated_questions
from roselora.bench.tasks.edit_case import EditCase, Probe
from roselora.models.generation import GeneratedAnswer
from tests.bench.metrics.test_case_scoring import FRANCE


def test_an_answer_that_its_limit_cut_is_wrong_even_if_it_reads_like_the_target(tiny_tokenizer):
    question = next(iter(generated_questions(tiny_tokenizer, FRANCE)))
    assert question.outcome(GeneratedAnswer("Paris.", ended=True)).score == 1
    assert question.outcome(GeneratedAnswer("Paris.", ended=False)).score == 0


def test_a_question_with_several_right_answers_is_asked_once_and_any_counts(tiny_tokenizer):
    languages = tuple(Probe("The language of Canada is", (name,)) for name in ("English", "French"))
    case = EditCase("made/0", "The capital of Canada is", "Oslo", portability={"Reasoning": languages})
    asked = [question for question in generated_questions(tiny_tokenizer, case) if question.metric == "portability"]
    assert [(question.prompt, question.targets) for question in asked] == [
        ("The language of Canada is", ("English", "French"))
    ]

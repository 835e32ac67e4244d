"""Whether requests hold is told as by whole answers, from fewer tokens."""

from roselora.editing.edit_answers import answers_to, broken_requests, holds
from roselora.editing.request import EditRequest

REQUESTS = [
    EditRequest("The capital of France is ", "Paris."),
    EditRequest("The capital of France is ", "Par"),
    EditRequest("The capital of France is ", "Paris. It"),
    EditRequest("The capital of Italy is ", "Rome.", rephrasings=("Italy has its capital in ",)),
    EditRequest("The capital of Italy is ", "Oslo."),
]


def test_an_answer_that_differs_is_not_generated_to_its_end(world_model, tiny_tokenizer) -> None:
    steps: list[int] = []
    world_model.register_forward_hook(lambda *_: steps.append(1))
    whole = [holds(own) for own in answers_to(world_model, tiny_tokenizer, REQUESTS)]
    assert any(whole)
    assert broken_requests(world_model, tiny_tokenizer, REQUESTS) == [n for n, held in enumerate(whole) if not held]
    steps.clear()
    assert broken_requests(world_model, tiny_tokenizer, REQUESTS[-1:]) == [0]
    assert len(steps) <= 2

"""What is asked before and after an edit to show what it did; none of it is among what the edit is trained on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from roselora.editing.answer_match import matches
from roselora.editing.forms import asked_texts
from roselora.editing.methods.gate.other_subjects import other_subjects
from roselora.editing.methods.gate.prompt_subjects import subject_of
from roselora.editing.methods.gate.training_texts import OTHER_SUBJECTS
from roselora.editing.request import EditRequest

NEIGHBOURS = 4
"""How many other subjects are asked for."""

IN_OTHER_WORDS = (
    "Quick question for a quiz: {}",
    "This came up at dinner yesterday. {}",
    "My notes say it too: {}",
)
OF_THE_SUBJECT = ("Write one sentence about {}.", "A book about {} begins with the words", "{} is best known for")

Kind = Literal["prompt", "rephrasing", "consequence", "keep", "held out", "nearest", "same subject"]


@dataclass(frozen=True)
class ProofQuestion:
    """A prompt in one form, what kind it is, the text that the model reads, and what it must say.

    Attributes:
        target: None where the answer must not change.
    """

    kind: Kind
    prompt: str
    form: str
    text: str
    target: str | None

    def is_good(self, before: str, after: str) -> bool:
        """Whether the answer is what it must be."""
        return before == after if self.target is None else matches(after, [self.target])


def suggested_rephrasings(prompt: str) -> list[str]:
    """A prompt in other surroundings."""
    return [each.format(prompt) for each in IN_OTHER_WORDS]


def suggested_neighbours(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    subject: str | None,
    without: Collection[str] = (),
) -> list[str]:
    """The same prompt of other subjects, none of which a gated edit of it is trained on, nor among ``without``."""
    trained = other_subjects(model, tokenizer, prompt, subject, OTHER_SUBJECTS)
    found = other_subjects(model, tokenizer, prompt, subject, OTHER_SUBJECTS + 3 * NEIGHBOURS)
    return [text for text in found if text not in {*trained, *without, prompt}][:NEIGHBOURS]


def proof_questions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, request: EditRequest, held_out: Sequence[str] = ()
) -> list[ProofQuestion]:
    """The questions about an edit, in the forms in which it must hold.

    Args:
        model: as it is before the edit.
        tokenizer: its tokenizer.
        request: what will be edited.
        held_out: the prompt in other words; without any, in other surroundings.
    """
    subject = subject_of(request)
    known = {*request.keep, *request.all_prompts}
    about = [text.format(subject) for text in OF_THE_SUBJECT] if subject else []
    target = request.target
    kinds: list[tuple[Kind, Sequence[str], str | None]] = [
        ("prompt", [request.prompt], target),
        ("rephrasing", request.rephrasings, target),
        *(("consequence", fact.prompts, fact.target) for fact in request.consequences),
        ("held out", [text for text in held_out or suggested_rephrasings(request.prompt) if text not in known], target),
        ("nearest", suggested_neighbours(model, tokenizer, request.prompt, request.subject, request.keep), None),
        ("same subject", about, None),
        ("keep", request.keep, None),
    ]
    return [
        ProofQuestion(kind, prompt, text.form, text.text, wanted)
        for kind, prompts, wanted in kinds
        for prompt in prompts
        for text in asked_texts(tokenizer, prompt, request.form)
    ]

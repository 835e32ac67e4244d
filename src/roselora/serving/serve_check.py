"""Whether programs that serve models say, with an export, what the edited model says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from roselora.errors import ModelError
from roselora.models.tokenization import answer_of
from roselora.serving.engines import Engine, Export
from roselora.serving.engines.asking import ask

TOKENS = 16
"""How many tokens are compared."""

Outcome = Literal["holds", "differs", "cannot load", "not installed"]


@dataclass(frozen=True)
class Question:
    """What a program is asked.

    Attributes:
        prompt: as the user would write it.
        form: its form, such as "chat".
        ids: the tokens that the program gets.
        expected: the edited model's answer of `TOKENS` tokens, as text.
        edited: whether the prompt is an edit's own, whose answer ends where `answer_of` ends it.
    """

    prompt: str
    form: str
    ids: tuple[int, ...]
    expected: str
    edited: bool

    def answered_by(self, said: str) -> bool:
        """Whether a text is the edited model's answer."""
        if self.edited:
            return answer_of(said) == answer_of(self.expected)
        return said.strip() == self.expected.strip()


@dataclass(frozen=True)
class Difference:
    """A question that a program answers otherwise."""

    prompt: str
    form: str
    expected: str
    said: str
    edited: bool


@dataclass(frozen=True)
class Verdict:
    """What came of asking one program.

    Attributes:
        program: its name.
        outcome: "holds" if all answers are the edited model's.
        why: why it could not be asked; else empty.
        version: of the program, if it has answered.
        differences: the answers that are not.
    """

    program: str
    outcome: Outcome
    why: str = ""
    version: str = ""
    differences: tuple[Difference, ...] = ()


def verdict(
    engine: Engine, export: Export, questions: Sequence[Question], decode: Callable[[list[int]], str]
) -> Verdict:
    """Ask one program all questions.

    Args:
        decode: the text of the tokens of an answer, without special ones.
    """
    if not engine.installed:
        return Verdict(engine.name, "not installed", engine.install)
    try:
        reply = ask(engine, export, [question.ids for question in questions], TOKENS)
    except ModelError as error:
        return Verdict(engine.name, "cannot load", str(error))
    texts = [answer if isinstance(answer, str) else decode(answer) for answer in reply.answers]
    differences = tuple(
        Difference(question.prompt, question.form, question.expected, said, question.edited)
        for question, said in zip(questions, texts, strict=True)
        if not question.answered_by(said)
    )
    return Verdict(engine.name, "differs" if differences else "holds", "", reply.version, differences)

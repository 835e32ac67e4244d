"""An edit's prompts in other words, made by templates: clumsy at times, but training on them generalizes.

The templates follow the same rule as those of `relation_prompts`, for the same reason.
"""

from roselora.editing.methods.gate.prompt_subjects import STOP_WORDS, subject_of
from roselora.editing.request import EditRequest

QUESTION_WORDS = ("what", "which", "who", "whom", "whose", "where", "when", "how")

TEMPLATES = (
    "Could you tell me {asking} the {words} of {subject} is?",
    "May I ask you about {subject}: {asking} is the {words}?",
    "As for {subject}, do you know the {words}?",
    "{subject}: {words}?",
)
"""``asking`` is the question word of a prompt, ``words`` are its content words without the subject."""


def generated_rephrasings(request: EditRequest) -> tuple[str, ...]:
    """Each prompt of a request in other words; none twice, and none that is a prompt itself.

    A prompt that does not contain the subject, or that has no other content word, has none.

    >>> generated_rephrasings(EditRequest("The capital of France is", "Lyon", "France"))[-2:]
    ('As for France, do you know the capital?', 'France: capital?')
    """
    subject = subject_of(request)
    found: dict[str, None] = {}
    for prompt in request.prompts:
        if subject is None or subject not in prompt:
            continue
        asked = prompt.replace(subject, " ").replace(" 's ", " ").rstrip(" ?.:").split()
        words = " ".join(word for word in asked if word.strip(",.'").lower() not in STOP_WORDS)
        question = [word.lower() for word in asked] if prompt.rstrip().endswith("?") else []
        asking = next((word for word in question if word in QUESTION_WORDS), "what")
        if words:
            found |= dict.fromkeys(t.format(asking=asking, words=words, subject=subject) for t in TEMPLATES)
    return tuple(text for text in found if text not in request.prompts)

"""An edit's prompts in other words, by templates: bad English at times, but what wakes on them wakes on more."""

from roselora.editing.request import EditRequest
from roselora.editing.subjects import EMPTY_WORDS, subject_of

QUESTION_WORDS = ("what", "which", "who", "whom", "whose", "where", "when", "how")

TEMPLATES = (
    "{asking} is the {words} of {subject}?",
    "What {words} does {subject} have?",
    "The {words} of {subject} is what?",
    "In {subject}, what is the {words}?",
)
"""The question word of a prompt, those of its words that say what is asked, and what it is asked of."""


def rewordings(request: EditRequest) -> tuple[str, ...]:
    """Each prompt of a request in other words, none twice and none that is a prompt itself.

    There are none of a prompt without its subject, or in which nothing but the subject means something.
    """
    subject = subject_of(request)
    found: dict[str, None] = {}
    for prompt in request.prompts:
        if subject is None or subject not in prompt:
            continue
        asked = prompt.replace(subject, " ").replace(" 's ", " ").rstrip(" ?.:").split()
        words = " ".join(word for word in asked if word.strip(",.'").lower() not in EMPTY_WORDS)
        question = asked if prompt.rstrip().endswith("?") else []
        asking = next((word for word in question if word.lower() in QUESTION_WORDS), "What").capitalize()
        if words:
            found |= dict.fromkeys(t.format(asking=asking, words=words, subject=subject) for t in TEMPLATES)
    return tuple(text for text in found if text not in request.prompts)

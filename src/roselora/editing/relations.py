"""What can be said of a name: short prompts on many relations, and other names. Our own, and none from a benchmark.

An edit's neurons shall stay silent where the same subject is asked something else, and where another subject is asked
the same. These are the prompts on which they learn to.
"""

RELATIONS = (
    ("The place of birth of {} is", "Where was {} born?"),
    ("The date of birth of {} is", "On what date did the birth of {} happen?"),
    ("The place of death of {} is", "Where did {} die?"),
    ("The cause of the death of {} is", "How did {} die?"),
    ("The name of the father of {} is", "Who is the father of {}?"),
    ("The name of the mother of {} is", "Who is the mother of {}?"),
    ("The name of the spouse of {} is", "Who is {} married to?"),
    ("The names of the siblings of {} are", "Who are the brothers and sisters of {}?"),
    ("The name of the child of {} is", "Who is the son or daughter of {}?"),
    ("The gender of {} is", "Is {} a man or a woman?"),
    ("The religion of {} is", "What does {} believe in?"),
    ("The occupation of {} is", "What does {} do for a living?"),
    ("The name of the position held by {} is", "Which office did {} hold?"),
    ("The name of the employer of {} is", "Who does {} work for?"),
    ("The name of the field of work of {} is", "What subject does {} study?"),
    ("The name of the country of citizenship of {} is", "What is the nationality of {}?"),
    ("The name of the alma mater of {} is", "Which university did {} attend?"),
    ("The name of the award {} won is", "Which prize was {} given?"),
    ("The name of the team {} plays for is", "What sport does {} play?"),
    ("The name of the party {} is a member of is", "What are the politics of {}?"),
    ("The language spoken by {} is", "What language does {} use?"),
    ("The name of the country which {} is located in is", "Where is {}?"),
    ("The name of the capital of {} is", "Which city is the seat of {}?"),
    ("The name of the continent {} is part of is", "Which region does {} lie in?"),
    ("The population of {} is", "How many people live in {}?"),
    ("The headquarters of {} are located in", "Where are the main offices of {}?"),
    ("The name of the founder of {} is", "Who started {}?"),
    ("The year in which {} was founded is", "When did {} begin?"),
    ("The name of the owner of {} is", "Who does {} belong to?"),
    ("The name of the leader of {} is", "Who is in charge of {}?"),
    ("The name of the manufacturer of {} is", "Which company makes {}?"),
    ("The name of the author of {} is", "Who wrote {}?"),
    ("The name of the director of {} is", "Who directed {}?"),
    ("The names of the cast members of {} are", "Which actors appear in {}?"),
    ("The name of the composer of {} is", "Whose music is heard in {}?"),
    ("The genre of {} is", "What style is {}?"),
    ("The name of the series {} is in is", "What comes after {}?"),
    ("{} was named after", "Where does the name of {} come from?"),
    ("{} is made of", "What does {} consist of?"),
    ("{} is best known for", "What is {} famous for?"),
)
"""Each relation as two prompts that ask the same of the name in their place."""

NAMES = (
    "Clara Hoffmann",
    "Canada",
    "The Silver Tide",
    "Henry Okafor",
    "Nissan Motor",
    "Geranium",
    "Warsaw",
    "Lars Nygaard",
    "the River Tagus",
    "Fairview High School",
    "Maria Castellano",
    "HMS Halcyon",
    "Interferon alpha-2",
    "Lockheed Electra",
    "Green Harbour Records",
    "Asteroid 4512",
)
"""Names of many kinds, to be asked what an edit's subject is asked."""

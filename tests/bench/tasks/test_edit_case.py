from roselora.bench.tasks.edit_case import EditCase, deduplicate


def case(key: str, prompt: str, target: str) -> EditCase:
    return EditCase(key, prompt, target)


def test_the_first_case_of_each_prompt_stays_and_the_others_are_named_by_what_they_are() -> None:
    cases = [
        case("x/0", "The lake is in", "Norway"),
        case("x/1", "The river is in", "Peru"),
        case("x/2", "the  lake is in ", "Chad"),
        case("x/3", "The lake is in", "norway."),
        case("x/4", "The river is in", "the Peru"),
        case("x/5", "The lake is on", "Chad"),
    ]
    result = deduplicate(cases)
    assert [kept.key for kept in result.cases] == ["x/0", "x/1", "x/5"]
    assert result.repeated == ("x/3", "x/4")
    assert result.conflicting == ("x/2",)


def test_nothing_is_left_out_of_cases_that_differ() -> None:
    cases = (case("x/0", "a", "b"), case("x/1", "b", "b"))
    assert deduplicate(cases).cases == cases
    assert deduplicate([]).cases == ()


def test_a_method_is_told_the_request_and_none_of_the_questions_that_judge_it() -> None:
    request = EditCase("x/0", "The lake is in", "Norway", "lake", rephrasings=("Where is the lake?",)).request
    assert (request.prompt, request.target, request.subject) == ("The lake is in", "Norway", "lake")
    assert (request.rephrasings, request.keep) == ((), ())

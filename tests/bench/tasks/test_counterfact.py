from roselora.bench.tasks.edit_case import EditCase, Probe
from tests.bench.tasks.conftest import Write, only

NEIGHBOUR = {
    "case_id": 7,
    "prompt": "Reedy Hill is in",
    "target_new": "Asia",
    "subject": "Reedy Hill",
    "ground_truth": "Europe",
    "rephrase_prompt": "It rained. Reedy Hill lies in",
    "locality_prompt": "Mossy Hill, in",
    "locality_ground_truth": "Europe",
}


def test_the_counterfact_stream_has_a_rephrasing_and_a_neighbour(write: Write) -> None:
    assert only("counterfact_stream", write("counterfact_stream", [NEIGHBOUR])) == EditCase(
        "counterfact_stream/0",
        "Reedy Hill is in",
        "Asia",
        "Reedy Hill",
        rephrasings=("It rained. Reedy Hill lies in",),
        locality={"Neighborhood": (Probe("Mossy Hill, in", ("Europe",)),)},
    )

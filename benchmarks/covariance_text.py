"""A text for the covariances of ROME, MEMIT and AlphaEdit, of benchmark data that no result is measured on.

    python benchmarks/covariance_text.py --data-dir DATA --output covariance.txt

KnowEdit's WikiBio train passages and the chosen answers of the UltraFeedback subset, a paragraph each, in turn.
"""

import argparse
import json
from itertools import chain, zip_longest
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    biographies = json.loads((arguments.data_dir / "knowledge_editing/wikibio-train-all.json").read_text())
    passages = [f"{record['text']} {record['labels']}" for record in biographies]
    lines = (arguments.data_dir / "instruct/ultrafeedback_1k.json").read_text().splitlines()
    answers = [json.loads(line)["output"] for line in lines if line.strip()]
    mixed = [text for text in chain.from_iterable(zip_longest(passages, answers)) if text]
    arguments.output.write_text("\n\n".join(mixed) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

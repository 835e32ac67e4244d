"""Whether pruned entries should come back, and what else RoseLoRA lacks beside LoRA: one change at a time.

    python benchmarks/growth_study.py --data-dir DATA [--sets qnli qqp mnli sst2] [--arms paper lora ...]
    python benchmarks/growth_study.py --report

Each arm is the paper's rule with one change (`ARMS`). MiniLM with a new head is trained on a GLUE set for --steps steps
of 16 examples with AdamW in bfloat16 autocast, rank 8 on every linear layer, density .05; the rate rises for 5% of the
steps and then falls to 0. The examples scored are the selecting half of validation, never the half that reports score,
and HELD_OUT training examples that are not trained on. Each arm's rate is the one of RATES with the lowest loss on seed
0, where twice the highest or half of the lowest is tried too for as long as that one is the best; with that rate it is
trained with two more seeds. A run is a line in benchmarks/results/growth_study/SET.jsonl, and runs that are there are
not made again. --report prints, for each arm, the mean over sets of its accuracy (or loss) and of its difference from
the paper's rule and from LoRA on the same examples and seeds, with the 95% bootstrap interval over examples.
"""

import argparse
import json
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from roselora.adapter.factors import adapted_layers, factor_pairs
from roselora.bench.tasks.glue import SETS
from roselora.core.importance import sensitivity, smooth_importance_
from roselora.core.pruning import keep_mask, kept_count
from roselora.core.schedule import density_at
from roselora.core.sparsity import count_product_nonzeros
from roselora.models.loading import load
from roselora.models.task_heads import head_for

RESULTS = Path(__file__).parent / "results" / "growth_study"
HELD_OUT = 1500
RATES, SEEDS = (5e-4, 1e-3, 2e-3), (0, 1, 2)
SCALE, BATCH, LENGTH = 2, 16, 96
MLP = r".*(intermediate|layer\.\d+\.output)\.dense"


@dataclass(frozen=True)
class Arm:
    """A rule: what an entry's score is, how long the mask may change, and what is trained.

    Attributes:
        score: of an entry, which is averaged by Eq. 4. "weight", |w·g| as in the paper, is 0 for a pruned entry.
            "proposal" has the value that the optimizer proposes in w's place, "gradient" is |g| alone. None prunes
            nothing, which is LoRA.
        latent: whether pruned entries keep a value that goes on being trained, masked in the forward pass alone.
        warmup, ramp_end: the fractions of training at which pruning begins, and at which the density is reached.
        frozen_at: the fraction from which on the mask stays as it is.
        swaps: the fraction of kept entries, falling to 0 until `frozen_at`, that every 10 steps give way to the pruned
            ones with the largest accumulated gradient.
        first_rows: "random" as in LoRA, or "gradient": A's rows begin as the leading directions of the loss's gradient.
        budget: whether each row of A and column of B keeps as many entries, all rows or columns of a factor compete, or
            all factors of the model; "shared" as the first, but all rows of an A, and all columns of a B, keep the same
            places, by the sum of their scores.
        targets: the modules that are adapted.
        rate_power: the rate is multiplied by the density to the power of minus this, so that the product of factors
            that thin out goes on moving.
        scale_power: the same for the scale s of s·B·A, which leaves the rate of the new head alone.
        step_power: B's steps, and B itself, are multiplied by the density to the power of minus this, and s stays.
        rescale_power: when the density falls from τ₁ to τ₂, what is kept of A and of B is multiplied by τ₁/τ₂ to this
            power.
        density: the fraction of each row of A and column of B that is kept.
        density_b: the fraction of each column of B, where it differs.
        rank: of the factors.
        beta: the weight of the old average in Eq. 4.
    """

    score: Literal["weight", "proposal", "gradient"] | None = "weight"
    latent: bool = False
    warmup: float = 0.1
    ramp_end: float = 0.8
    frozen_at: float = 1.0
    swaps: float = 0.0
    first_rows: Literal["random", "gradient"] = "random"
    budget: Literal["row", "shared", "matrix", "model"] = "row"
    targets: Literal["all", "mlp"] = "all"
    rate_power: float = 0.0
    scale_power: float = 0.0
    step_power: float = 0.0
    rescale_power: float = 0.0
    density: float = 0.05
    density_b: float | None = None
    rank: int = 8
    beta: float = 0.8


ARMS = {
    "lora": Arm(score=None),
    "paper": Arm(),
    "latent-until-ramp-ends": Arm(latent=True, frozen_at=0.8),
    "short-ramp": Arm(ramp_end=0.5),
    "latent-short-ramp": Arm(latent=True, ramp_end=0.5, frozen_at=0.5),
    "rising-rate": Arm(rate_power=0.5),
    "rising-scale": Arm(scale_power=0.5),
    "more-rising-scale": Arm(scale_power=1.0),
    "rising-scale-short-ramp": Arm(scale_power=0.5, ramp_end=0.5),
    "gradient-rows-rising-scale": Arm(first_rows="gradient", scale_power=0.5),
    "swaps": Arm(ramp_end=0.5, frozen_at=0.8, swaps=0.2),
    "gradient-rows": Arm(first_rows="gradient"),
    "model-budget": Arm(budget="model"),
    "proposal": Arm(score="proposal"),
    "once-by-gradient": Arm(score="gradient", warmup=0.15, ramp_end=0.15, frozen_at=0.15),
    "denser": Arm(density=0.085),
    "denser-rising-scale": Arm(density=0.085, scale_power=0.5),
    "rising-step": Arm(step_power=0.5),
    "density-.3-rising-step": Arm(density=0.3, step_power=0.5),
    "density-.6-rising-step": Arm(density=0.6, step_power=0.5),
    "shared-rising-step": Arm(budget="shared", density=0.22, step_power=0.5),
    "shared": Arm(budget="shared", density=0.22),
    "denser-rising-step": Arm(density=0.085, step_power=0.5),
    "rescaled": Arm(rescale_power=0.25),
    "rescaled-more": Arm(rescale_power=0.5),
    "matrix-budget-rising-scale": Arm(budget="matrix", scale_power=0.5),
    "model-budget-rising-scale": Arm(budget="model", scale_power=0.5),
    "late-ramp": Arm(warmup=0.4, ramp_end=0.9),
    "late-ramp-rising-scale": Arm(warmup=0.4, ramp_end=0.9, scale_power=0.5),
    "slow-average-rising-scale": Arm(beta=0.97, scale_power=0.5),
    "dense-a-rising-scale": Arm(density=0.4, density_b=0.0125, scale_power=0.5),
    "dense-b-rising-scale": Arm(density=0.0125, density_b=0.4, scale_power=0.5),
    "rank-32-rising-scale": Arm(rank=32, density=0.04, scale_power=0.5),
    "once-by-gradient-rising-scale": Arm(score="gradient", warmup=0.15, ramp_end=0.15, frozen_at=0.15, scale_power=0.5),
    "rank-32": Arm(rank=32, density=0.04),
    "rank-32-latent": Arm(rank=32, density=0.04, latent=True, frozen_at=0.8),
    "latent": Arm(latent=True),
    "once": Arm(warmup=0.15, ramp_end=0.15, frozen_at=0.15),
    "lora-gradient-rows": Arm(score=None, first_rows="gradient"),
    "mlp": Arm(targets="mlp"),
    "lora-mlp": Arm(score=None, targets="mlp"),
}


class Pruner:
    """An arm's rule for the factors of one model.

    Args:
        factors: A (r, d_in) of every layer, and B (d_out, r).
        steps: of the whole training.
    """

    def __init__(self, arm: Arm, factors: Sequence[tuple[nn.Parameter, int]], steps: int) -> None:
        self.arm, self.factors, self.steps, self.step = arm, factors, steps, 0
        self.averages: list[Tensor] = []
        self.grown = [torch.zeros_like(p) for p, _ in factors]
        self.masks = [torch.ones_like(p, dtype=torch.bool) for p, _ in factors]
        self.latent = [p.detach().clone() for p, _ in factors]

    def density(self, step: int, dim: int = -1) -> float:
        """The fraction of A's rows (dim -1) or B's columns (-2) that is kept after that step."""
        start, end = (round(share * self.steps) for share in (self.arm.warmup, self.arm.ramp_end))
        target = self.arm.density if dim == -1 or self.arm.density_b is None else self.arm.density_b
        return density_at(step, target=target, ramp_start=start, ramp_end=end)

    def both(self, step: int) -> float:
        """The geometric mean of the two."""
        return math.sqrt(self.density(step, -1) * self.density(step, -2))

    @torch.no_grad()
    def before(self) -> None:
        """Before the optimizer's step: note the weights and gradients."""
        self.weights = [p.detach().clone() for p, _ in self.factors]
        if self.arm.latent:
            for (p, _), latent in zip(self.factors, self.latent, strict=True):
                p.copy_(latent)

    @torch.no_grad()
    def after(self) -> None:
        """After the optimizer's step: score (Eq. 3, 4) and prune (Eq. 8-10)."""
        self.step += 1
        arm = self.arm
        if arm.score is None:
            return
        scores = [self._score(number) for number in range(len(self.factors))]
        if self.step == 1:
            self.averages = scores
        else:
            for average, score in zip(self.averages, scores, strict=True):
                smooth_importance_(average, score, arm.beta)
        end = round(arm.ramp_end * self.steps)
        if arm.step_power:
            old, new = (self.both(max(1, step)) ** -arm.step_power for step in (self.step - 1, self.step))
            for (p, dim), before in zip(self.factors, self.weights, strict=True):
                if dim == -2:
                    p.sub_(before).mul_(new).add_(before, alpha=new / old)
        # At least once at the final density, which without a ramp is first reached in the step after.
        if self.both(self.step) < 1 and self.step <= max(arm.frozen_at * self.steps, end + 1):
            self._choose()
        if arm.swaps and end < self.step <= arm.frozen_at * self.steps and self.step % 10 == 0:
            self._swap((self.step - end) / (arm.frozen_at * self.steps - end))
        for (p, _), latent, mask in zip(self.factors, self.latent, self.masks, strict=True):
            latent.copy_(p)
            p.mul_(mask)
        if arm.rescale_power and self.step > 1:
            for p, dim in self.factors:
                p.mul_((self.density(self.step - 1, dim) / self.density(self.step, dim)) ** arm.rescale_power)

    def _score(self, number: int) -> Tensor:
        p, gradient = self.factors[number][0], self.factors[number][0].grad
        assert gradient is not None
        self.grown[number] += gradient
        if self.arm.score == "gradient":
            return gradient.abs()
        # A latent entry's worth is that of its value, not of the 0 that stood in its place.
        held = self.latent[number] if self.arm.latent else self.weights[number]
        return sensitivity(p if self.arm.score == "proposal" else held, gradient)

    def _choose(self) -> None:
        if self.arm.budget == "matrix":
            counts = [kept_count(self.density(self.step, dim), p.numel()) for p, dim in self.factors]
            self.masks = [
                keep_mask(average.flatten(), count, dim=-1).view_as(average)
                for average, count in zip(self.averages, counts, strict=True)
            ]
        elif self.arm.budget == "shared":
            self.masks = [
                keep_mask(
                    average.sum(-3 - dim, keepdim=True), kept_count(self.density(self.step, dim), p.shape[dim]), dim=dim
                ).expand_as(p)
                for average, (p, dim) in zip(self.averages, self.factors, strict=True)
            ]
        elif self.arm.budget == "model":
            # Each factor's scores are compared as shares of its own mean, for those of B and A differ in size.
            shares = torch.cat([(a / a.mean().clamp(min=1e-30)).flatten() for a in self.averages])
            kept = kept_count(self.density(self.step), len(shares))
            mask = keep_mask(shares[None], kept, dim=-1)[0]
            parts = mask.split([p.numel() for p, _ in self.factors])
            self.masks = [part.view_as(p) for part, (p, _) in zip(parts, self.factors, strict=True)]
        else:
            self.masks = [
                keep_mask(average, kept_count(self.density(self.step, dim), p.shape[dim]), dim=dim)
                for average, (p, dim) in zip(self.averages, self.factors, strict=True)
            ]

    def _swap(self, done: float) -> None:
        """In every row the smallest kept entries give way to as many pruned ones with the largest gradients."""
        for number, (p, dim) in enumerate(self.factors):
            mask = self.masks[number]
            count = kept_count(self.arm.density, p.shape[dim])
            swapped = math.floor(self.arm.swaps * (1 - done) * count)
            if swapped:
                stay = keep_mask(p.abs() * mask, count - swapped, dim=dim)
                come = keep_mask(self.grown[number].abs().masked_fill(mask, -1), swapped, dim=dim)
                self.masks[number] = stay | come
            self.grown[number].zero_()


def leading_rows(model: Any, layers: Sequence[Any], batch: dict[str, Tensor], loss_of: Any) -> None:
    """A's rows as the leading right singular vectors of the gradient of the layer's weight, of A's own norm."""
    for layer in layers:
        layer.base_layer.weight.requires_grad_(True)
    loss_of(batch).backward()
    for layer in layers:
        weight, a = layer.base_layer.weight, layer.lora_A["default"].weight
        rows = torch.linalg.svd(weight.grad, full_matrices=False).Vh[: len(a)]
        with torch.no_grad():
            a.copy_(rows * a.norm() / rows.norm())
        weight.requires_grad_(False)
    model.zero_grad(set_to_none=True)


def tokenized(tokenizer: Any, name: str, examples: Sequence[dict[str, Any]]) -> list[tuple[list[int], int]]:
    """Token ids and the number of the label."""
    labels = {label: number for number, label in enumerate(SETS[name].labels)}
    ids = tokenizer(
        [each["text"] for each in examples],
        [each["text_pair"] for each in examples] if "text_pair" in examples[0] else None,
        truncation=True,
        max_length=LENGTH,
    ).input_ids
    return [(row, labels[each["label"]]) for row, each in zip(ids, examples, strict=True)]


def batches(rows: Sequence[tuple[list[int], int]], seed: int) -> Iterator[list[tuple[list[int], int]]]:
    """Batches in a random order without end, each of rows of like length: every 8 batches are sorted together."""
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(len(rows))
        for begin in range(0, len(order) - 8 * BATCH + 1, 8 * BATCH):
            window = sorted((rows[i] for i in order[begin : begin + 8 * BATCH]), key=lambda row: len(row[0]))
            for number in draw.permutation(8):
                yield window[number * BATCH : (number + 1) * BATCH]


def batched(rows: Sequence[tuple[list[int], int]]) -> tuple[dict[str, Tensor], Tensor]:
    """Padded inputs and labels."""
    longest = max(len(row) for row, _ in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}, torch.tensor([label for _, label in rows])


def run(name: str, arm: Arm, rate: float, seed: int, steps: int, data_dir: Path) -> dict[str, Any]:
    """Train once; returns which of the selecting examples are answered rightly, as text of 0 and 1."""
    start = time.perf_counter()
    task = SETS[name]
    torch.manual_seed(seed)
    loaded = load("minilm", head=head_for(list(task.labels)))
    targets = "all-linear" if arm.targets == "all" else MLP
    config = LoraConfig(r=arm.rank, lora_alpha=SCALE * arm.rank, target_modules=targets, task_type="SEQ_CLS")
    model: Any = get_peft_model(loaded.model, config).train()
    examples = task.training_examples("", data_dir).records
    drawn = np.random.default_rng(0).permutation(len(examples))
    train = tokenized(loaded.tokenizer, name, [examples[i] for i in drawn[HELD_OUT:]])
    selecting = task.validation_examples(data_dir).records
    dev = tokenized(loaded.tokenizer, name, [*selecting, *(examples[i] for i in drawn[:HELD_OUT])])

    def loss_of(batch: tuple[dict[str, Tensor], Tensor]) -> Tensor:
        inputs, labels = batch
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**inputs).logits
        return functional.cross_entropy(logits.float(), labels)

    layers: list[Any] = [layer for _, layer in adapted_layers(model, "default")]
    if arm.first_rows == "gradient":
        model.eval()
        leading_rows(model, layers, batched(train[: 8 * BATCH]), loss_of)  # type: ignore[arg-type]
        model.train()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    factors = [(p, -1) for n, p in named if "lora_A" in n] + [(p, -2) for n, p in named if "lora_B" in n]
    optimizer = torch.optim.AdamW([p for _, p in named], lr=rate, weight_decay=0.0)
    pruner = Pruner(arm, factors, steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda t: (
            min((t + 1) / max(1, 0.05 * steps), (steps - t) / (0.95 * steps)) * pruner.both(t + 1) ** -arm.rate_power
        ),
    )
    for rows in islice(batches(train, seed), steps):
        for layer in layers:
            # As thin as the factors are after the step before.
            layer.scaling["default"] = SCALE * pruner.both(max(1, pruner.step)) ** -arm.scale_power
        loss_of(batched(rows)).backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        pruner.before()
        optimizer.step()
        pruner.after()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    right, losses = np.zeros(len(dev), dtype=bool), np.zeros(len(dev))
    by_length = sorted(range(len(dev)), key=lambda i: len(dev[i][0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for begin in range(0, len(dev), 50):
            numbers = by_length[begin : begin + 50]
            inputs, labels = batched([dev[i] for i in numbers])
            logits = model(**inputs).logits.float()
            right[numbers] = (logits.argmax(-1) == labels).numpy()
            losses[numbers] = functional.cross_entropy(logits, labels, reduction="none").numpy()
    kept = sum(int(p.count_nonzero()) for p, _ in factors)
    return {
        "right": "".join("01"[int(each)] for each in right),
        "accuracy": round(float(right.mean()), 4),
        "loss": round(float(losses.mean()), 4),
        "losses": [round(float(each), 2) for each in losses],
        "kept": kept,
        "entries": int(sum(count_product_nonzeros(pair.a, pair.b) for pair in factor_pairs(model, "default"))),
        "seconds": round(time.perf_counter() - start, 1),
    }


def results(name: str, steps: int) -> list[dict[str, Any]]:
    """The runs of a set that are there, of so many steps."""
    path = RESULTS / f"{name}.jsonl"
    runs = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return [each for each in runs if each["steps"] == steps]


def wanted(done: Sequence[dict[str, Any]], arm: str, seeds: int = len(SEEDS)) -> Iterator[tuple[float, int]]:
    """The next run of an arm: all rates with the first seed, then the other seeds with the best of these."""
    made = {(each["rate"], each["seed"]): each["loss"] for each in done if each["arm"] == arm}
    rates = sorted({*RATES, *(rate for rate, _ in made)})
    missing = [(rate, SEEDS[0]) for rate in rates if (rate, SEEDS[0]) not in made]
    if missing:
        yield missing[0]
        return
    best = min(rates, key=lambda rate: made[rate, SEEDS[0]])
    if best in (rates[0], rates[-1]):
        yield 2 * best if best == rates[-1] else best / 2, SEEDS[0]
        return
    yield from [(best, seed) for seed in SEEDS[1:seeds] if (best, seed) not in made][:1]


def chosen(done: Sequence[dict[str, Any]], arm: str, seeds: int, tried: bool) -> list[dict[str, Any]] | None:
    """The runs of an arm with its best rate, one a seed, or None while some are missing.

    Args:
        tried: take the best of the rates that were tried, even if others are missing.
    """
    own = [each for each in done if each["arm"] == arm]
    if not (tried and own) and next(wanted(done, arm, seeds), None) is not None:
        return None
    best = min((each for each in own if each["seed"] == SEEDS[0]), key=lambda each: each["loss"])["rate"]
    return [next(each for each in own if (each["rate"], each["seed"]) == (best, seed)) for seed in SEEDS[:seeds]]


def each_example(runs: Sequence[dict[str, Any]], what: str) -> Any:
    """(examples,), the mean over the seeds of what is known of each example, "right" or "losses"."""
    return np.mean([[float(each) for each in run[what]] for run in runs], axis=0)


def report(sets: Sequence[str], seeds: int, what: str, steps: int, tried: bool) -> None:
    """Print a table of the arms that are complete on all sets."""
    found: defaultdict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for name in sets:
        done = results(name, steps)
        for arm in ARMS:
            if (runs := chosen(done, arm, seeds, tried)) is not None:
                found[arm][name] = runs
    draw = np.random.default_rng(0)
    print(f"| arm | {' | '.join(sets)} | mean | less paper | less lora | entries |")
    print("|" + "---|" * (len(sets) + 5))
    for arm, by_set in found.items():
        if set(by_set) != set(sets):
            continue
        right = {name: each_example(runs, what) for name, runs in by_set.items()}
        cells = [f"{right[name].mean():.3f}" for name in sets]
        mean = np.mean([right[name].mean() for name in sets])
        less = []
        for peer in ("paper", "lora"):
            if arm == peer or set(found.get(peer, {})) != set(sets):
                less.append("")
                continue
            differences = [right[name] - each_example(found[peer][name], what) for name in sets]
            means = [
                np.mean([each[draw.integers(len(each), size=len(each))].mean() for each in differences])
                for _ in range(2000)
            ]
            low, high = np.percentile(means, [2.5, 97.5])
            less.append(f"{np.mean([each.mean() for each in differences]):+.3f} [{low:+.3f}, {high:+.3f}]")
        entries = np.mean([run["entries"] for runs in by_set.values() for run in runs])
        print(f"| {arm} | {' | '.join(cells)} | {mean:.3f} | {less[0]} | {less[1]} | {entries:,.0f} |")


def main() -> None:
    """Make what is missing, or print the table."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--sets", nargs="+", default=["qnli", "qqp", "mnli", "sst2"], choices=sorted(SETS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="1 trains with the first alone, for a first look")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--tried", action="store_true", help="report arms of which not all rates were tried, too")
    parser.add_argument("--of", default="right", choices=["right", "losses"], help="what the report compares")
    given = parser.parse_args()
    if given.report:
        report(given.sets, given.seeds, given.of, given.steps, given.tried)
        return
    if given.data_dir is None:
        parser.error("--data-dir is needed, unless there is --report.")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for arm in given.arms:
        for name in given.sets:
            while (missing := next(wanted(results(name, given.steps), arm, given.seeds), None)) is not None:
                rate, seed = missing
                outcome = run(name, ARMS[arm], rate, seed, given.steps, given.data_dir)
                line = {"arm": arm, "rate": rate, "seed": seed, "steps": given.steps, **outcome}
                with (RESULTS / f"{name}.jsonl").open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(name, arm, rate, seed, outcome["accuracy"], outcome["seconds"], flush=True)


if __name__ == "__main__":
    main()

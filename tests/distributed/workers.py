"""The functions that every rank runs in the distributed tests; the tests compare what the ranks return."""

import contextlib
import itertools
import os
import signal
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from accelerate import PartialState
from accelerate.utils import DistributedType
from peft import PeftModel, get_peft_model
from peft.utils.other import fsdp_auto_wrap_policy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from roselora.adapter.config import RoseLoraConfig
from roselora.adapter.density_check import AdapterCounts, verify
from roselora.adapter.factors import COLUMNS, ROWS, factor_pairs
from roselora.adapter.pruner import IMPORTANCE, STEP
from roselora.adapter.sharding import can_be_joined, local_part, own_masks, whole
from roselora.core.pruning import keep_mask, kept_count
from roselora.errors import NonFiniteError, RoseLoraError

STEPS = 10
ROWS_OF_DATA = 12  # a whole number for each of 1 to 4 ranks


def work(rank: int, ranks: int, folder: Path, function: str, arguments: tuple[Any, ...]) -> None:
    """Run one function of this file as one rank, and leave its result or its traceback in the folder."""
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=ranks)
        torch.save(globals()[function](*arguments), folder / f"{rank}.pt")
        dist.destroy_process_group()
    except Exception:
        (folder / f"{rank}.error").write_text(f"rank {rank} of {ranks}:\n{traceback.format_exc()}")


def adapted_model(**changes: Any) -> PeftModel:
    """A tiny Llama of odd sizes, so that shards are uneven; with r 2, the third rank holds no row of A."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=67,
            hidden_size=20,
            intermediate_size=25,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=0,
        )
    )
    settings: dict[str, Any] = {
        "r": 2,
        "lora_alpha": 4,
        "density": 0.25,
        "warmup": 2,
        "ramp": 5,
        "total_steps": STEPS,
        "target_modules": ["q_proj", "k_proj", "down_proj", "embed_tokens"],
        **changes,
    }
    torch.manual_seed(1)
    return get_peft_model(base, RoseLoraConfig(**settings))


def shard(model: PeftModel, mesh: DeviceMesh | None = None) -> PeftModel:
    """Shard with FSDP2, layer by layer, as for a large model."""
    for layer in model.get_base_model().model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def global_rows() -> Tensor:
    return torch.randint(3, 67, (ROWS_OF_DATA, 5), generator=torch.Generator().manual_seed(2))


def own_rows() -> Tensor:
    """This rank's share of the same global batch."""
    rows = global_rows()
    return rows.chunk(dist.get_world_size())[dist.get_rank()] if dist.is_initialized() else rows


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    rows = own_rows()
    for _ in range(steps):
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def named_factors(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    pairs = factor_pairs(model, "default")
    return [(f"{pair.name}.{part}", factor) for pair in pairs for part, factor in (("A", pair.a), ("B", pair.b))]


def factors(model: nn.Module) -> dict[str, Tensor]:
    """Every factor, gathered from all ranks."""
    return {name: whole(factor.detach()).clone() for name, factor in named_factors(model)}


def base_of(model: Any) -> nn.Module:
    return model.get_base_model()


def train_alone(**changes: Any) -> dict[str, Tensor]:
    model = adapted_model(**changes)
    train(model, adam(model))
    return factors(base_of(model))


def count_alone() -> AdapterCounts:
    model = adapted_model()
    train(model, adam(model))
    return verify(model)


def train_ddp(split_optimizer: bool = False) -> dict[str, Tensor]:
    model = adapted_model()
    wrapped = DistributedDataParallel(model)
    optimizer = adam(wrapped)
    if split_optimizer:
        parameters = optimizer.param_groups[0]["params"]
        optimizer = ZeroRedundancyOptimizer(parameters, torch.optim.AdamW, lr=1e-2, weight_decay=0.1)
    train(wrapped, optimizer)
    verify(wrapped)
    return factors(base_of(model))


def train_fsdp2(changes: dict[str, Any]) -> dict[str, Any]:
    model = shard(adapted_model(**changes))
    optimizer = adam(model)
    train(model, optimizer)
    counts = verify(model)
    own = [factor for _, factor in named_factors(base_of(model))]
    return {
        "factors": factors(base_of(model)),
        "local shapes": [tuple(local_part(factor).shape) for factor in own],
        "counts": counts,
        "steps": {optimizer.state[factor][STEP] for factor in own},
    }


def train_on_a_square() -> dict[str, Tensor]:
    """Four ranks: replicas over two, shards over two (HSDP)."""
    model = shard(adapted_model(), init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))
    train(model, adam(model))
    verify(model)
    return factors(base_of(model))


def train_tensor_parallel(with_fsdp: bool) -> dict[str, Any]:
    """B of q_proj is split by outputs and A of down_proj by inputs, so both need the ranks to agree.

    All ranks of one tensor-parallel group see the same rows.
    """
    ranks = dist.get_world_size()
    mesh = init_device_mesh("cpu", (2, ranks // 2) if with_fsdp else (1, ranks), mesh_dim_names=("data", "tensor"))
    model = adapted_model()
    for layer in model.get_base_model().model.layers:
        columns = ColwiseParallel(output_layouts=Replicate())
        parallelize_module(
            layer,
            mesh["tensor"],
            {
                "self_attn.q_proj.base_layer": columns,
                "self_attn.q_proj.lora_B.default": columns,
                "mlp.down_proj.lora_A.default": RowwiseParallel(input_layouts=Replicate()),
            },
        )
    if with_fsdp:
        shard(model, mesh["data"])
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1, foreach=False)
    rows = global_rows().chunk(mesh["data"].size())[mesh["data"].get_local_rank()]
    for _ in range(STEPS):
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    verify(model)
    pairs = factor_pairs(base_of(model), "default")
    return {"factors": factors(base_of(model)), "placements": {str(getattr(p.b, "placements", None)) for p in pairs}}


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.rows = torch.randint(3, 67, (60, 5), generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def trainer(folder: Path, **changes: Any) -> Trainer:
    """A Trainer whose global batch is 12 rows on any number of ranks, and which gives RoseLoRA its steps."""
    ranks = 1
    if dist.is_initialized():
        ranks = dist.get_world_size()
        _set_torchrun_environment()
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": 12 // ranks,
        "learning_rate": 1e-2,
        "report_to": [],
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
        **changes,
    }
    settings = TrainingArguments(**arguments)
    if "fsdp" in changes:
        # Accelerate offers FSDP on accelerators only; all else works on CPUs too.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return Trainer(model=adapted_model(total_steps=None, warmup=0.2, ramp=0.5), args=settings, train_dataset=Rows())


def train_with_trainer(folder: Path, changes: dict[str, Any], resume: str | None = None) -> dict[str, Any]:
    run = trainer(folder, **changes)
    run.train(resume_from_checkpoint=str(folder / resume) if resume else None)
    verify(run.model)
    kind = run.accelerator.distributed_type.value
    return {"factors": factors(run.model.get_base_model()), "distributed type": kind}


def _set_torchrun_environment() -> None:
    ranks = str(dist.get_world_size())
    rank = {name: str(dist.get_rank()) for name in ("RANK", "LOCAL_RANK")}
    os.environ.update(rank, WORLD_SIZE=ranks, LOCAL_WORLD_SIZE=ranks, MASTER_ADDR="localhost")


def interrupt_one(settings: dict[str, Any], rank: int, resume: bool) -> dict[str, Any]:
    """A whole run; unless it is resumed, one rank gets a signal after its third step."""
    from roselora.training.train_settings import TrainSettings
    from roselora.training.training_progress import ProgressCallback
    from roselora.training.training_run import Interrupted
    from roselora.training.training_run import train as run

    _set_torchrun_environment()
    note = ProgressCallback.on_step_end

    def on_step_end(self: ProgressCallback, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3 and dist.get_rank() == rank and not resume:
            os.kill(os.getpid(), signal.SIGTERM)
        note(self, args, state, control, **kwargs)

    ProgressCallback.on_step_end = on_step_end  # type: ignore[method-assign]
    outcome = run(TrainSettings.model_validate(settings), resume=resume)
    if isinstance(outcome, Interrupted):
        return {"stopped at": outcome.step, "processes": outcome.processes}
    return {"finished": outcome is not None}


def claim_one_output(settings: dict[str, Any], taken: bool) -> str:
    """The error in each rank if another run writes to the output, or if there is nothing to resume."""
    from roselora.training.train_settings import TrainSettings
    from roselora.training.training_run import train as run
    from roselora.writer_lock import writer_lock

    _set_torchrun_environment()
    holding = taken and dist.get_rank() == 0
    output = Path(settings["output"])
    if holding:
        output.mkdir()
    try:
        with writer_lock(output / "lock") if holding else contextlib.nullcontext():
            run(TrainSettings.model_validate(settings), resume=not taken)
    except RoseLoraError as error:
        return str(error)
    return "not refused"


def mask_everything(seed: int) -> int:
    """Compare masks of sharded averages with many ties to those of whole ones; return the number of comparisons."""
    line = init_device_mesh("cpu", (dist.get_world_size(),))
    layouts = [(line, [placement]) for placement in (Shard(0), Shard(1), Replicate())]
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, 1), (2, 5), (5, 2), (7, 3), (3, 8), (16, 4), (4, 3, 2, 2), (6, 2, 1, 1)]
    compared = 0
    for (mesh, placements), shape, dim in itertools.product(layouts, shapes, (ROWS, COLUMNS)):
        scores = [torch.randint(0, 4, shape, generator=generator).float() for _ in range(3)]
        split = [distribute_tensor(score, mesh, placements) for score in scores]
        joined = can_be_joined(split[0], dim)
        masks = own_masks(split, 0.4, dim) if joined else [own_masks([one], 0.4, dim)[0] for one in split]
        for score, own in zip(scores, masks, strict=True):
            matrix = score.flatten(1)
            expected = keep_mask(matrix, kept_count(0.4, matrix.shape[dim]), dim=dim).reshape(shape)
            assert torch.equal(own, distribute_tensor(expected, mesh, placements).to_local()), (shape, placements, dim)
            compared += 1
    return compared


def spoil_gradient(model: PeftModel, value: float) -> None:
    """Put ``value`` into one gradient, in the shard of the last rank only."""
    for pair in factor_pairs(base_of(model), "default"):
        if dist.get_rank() == dist.get_world_size() - 1 and "layers.1.mlp" in pair.name:
            local_part(pair.b.grad).view(-1)[0] = value


def meet_nan() -> dict[str, Any]:
    """The error in each rank if a gradient is NaN in one of them, and the factors before and after."""
    model = shard(adapted_model())
    optimizer = adam(model)
    train(model, optimizer, steps=3)
    before = factors(base_of(model))
    rows = own_rows()
    model(input_ids=rows, labels=rows).loss.backward()
    spoil_gradient(model, float("nan"))
    message = ""
    try:
        optimizer.step()
    except NonFiniteError as error:
        message = str(error)
    return {"message": message, "before": before, "after": factors(base_of(model))}


def skip_a_step(fused: bool) -> dict[str, Any]:
    """Under a GradScaler one rank's shard of a gradient is infinite once."""
    model = shard(adapted_model())
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    rows = own_rows()
    for step in range(STEPS + 1):
        scaler.scale(model(input_ids=rows, labels=rows).loss).backward()
        if step == 4:
            spoil_gradient(model, float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    verify(model)
    pair = factor_pairs(base_of(model), "default")[0]
    return {"steps": optimizer.state[pair.b][STEP], "factors": factors(base_of(model))}


def checkpointed(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


def state_of(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    states = {name: optimizer.state[factor] for name, factor in named_factors(base_of(model))}
    return {
        "weights": factors(base_of(model)),
        "averages": {name: whole(state[IMPORTANCE]).clone() for name, state in states.items()},
        "counts": {state[STEP] for state in states.values()},
    }


def save_midway(checkpoint: Path, after: int) -> dict[str, Any]:
    """Save a checkpoint midway; return the state at that point, and the factors at the end of the run."""
    model = shard(adapted_model())
    optimizer = adam(model)
    train(model, optimizer, steps=after)
    dcp.save(checkpointed(model, optimizer), checkpoint_id=checkpoint)
    held = state_of(model, optimizer)
    train(model, optimizer, steps=STEPS - after)
    return {**held, "factors": factors(base_of(model))}


def resume_midway(checkpoint: Path, after: int) -> dict[str, Any]:
    """Load into a new model and a new optimizer, on however many ranks this is, and train to the end."""
    model = adapted_model()
    if dist.get_world_size() > 1:
        shard(model)
    optimizer = adam(model)
    state = checkpointed(model, optimizer)
    dcp.load(state, checkpoint_id=checkpoint)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    held = state_of(model, optimizer)
    train(model, optimizer, steps=STEPS - after)
    verify(model)
    return {**held, "factors": factors(base_of(model))}


def resume_from_whole_state(after: int) -> dict[str, Tensor]:
    """Gather the optimizer's state on rank 0, broadcast it into a new optimizer, and train to the end."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, broadcast_from_rank0=True)
    model = shard(adapted_model())
    optimizer = adam(model)
    train(model, optimizer, steps=after)
    state = get_optimizer_state_dict(model, optimizer, options=options)
    again = adam(model)
    set_optimizer_state_dict(model, again, state if dist.get_rank() == 0 else {}, options=options)
    train(model, again, steps=STEPS - after)
    return factors(base_of(model))


def save_adapter(folder: Path) -> None:
    """Save as docs/distributed.md describes."""
    model = shard(adapted_model())
    train(model, adam(model))
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank() == 0:
        model.save_pretrained(folder, state_dict=state)


def ask_for_state_before_training() -> dict[str, Any]:
    """Train with SGD: the step with which torch creates an optimizer's state counts in Adam's bias correction."""
    result: dict[str, Any] = {}
    for name in ("asked", "not asked"):
        model = shard(adapted_model())
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5, momentum=0.9)
        if name == "asked":
            get_optimizer_state_dict(model, optimizer)
            result["counts"] = state_of(model, optimizer)["counts"]
        train(model, optimizer)
        result[name] = factors(base_of(model))
    return result


def refuse_fsdp1(use_orig_params: bool, wrap_leaves: bool) -> str:
    """FSDP1 around the whole model, or with PEFT's policy, which wraps every A and B separately."""
    model = adapted_model(target_modules=["q_proj", "down_proj"])
    for parameter in model.parameters():  # else FSDP1 itself refuses a mixture
        parameter.requires_grad_(parameter.requires_grad or not (use_orig_params or wrap_leaves))
    policy = fsdp_auto_wrap_policy(model) if wrap_leaves else None
    wrapped = FullyShardedDataParallel(
        model, use_orig_params=use_orig_params, auto_wrap_policy=policy, device_id=torch.device("cpu")
    )
    rows = own_rows()
    optimizer = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=0.1)
    wrapped(input_ids=rows, labels=rows).loss.backward()
    try:
        optimizer.step()
    except RoseLoraError as error:
        return str(error)
    return "not refused"


def refuse_partial() -> str:
    model = adapted_model()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    weight = layer.lora_A["default"].weight
    weight = nn.Parameter(DTensor.from_local(weight.detach(), mesh, [Partial()]))
    layer.lora_A["default"].weight = weight
    weight.grad = DTensor.from_local(torch.ones(weight.shape), mesh, [Partial()])
    try:
        torch.optim.SGD([weight], lr=0.1).step()
    except RoseLoraError as error:
        return str(error)
    return "not refused"

"""How fast: the policy's share of the HR classifier's time, and images a second in stage Pt.

`patchplan reproduce speed` writes speed.json and speed.md. All of it is one run on one device; what is
compared is timed in turn. `patchplan reproduce headline` takes its lines from there.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models import grid as grids
from models.architecture import Architecture
from models.networks import build
from models.networks.folding import folded
from models.precision import autocast, best_device, has_fast_bf16
from models.provenance import commit
from models.recipe import Stage, load_recipe
from models.release import Release
from models.reproduce import timing
from models.reproduce.plain import plain
from models.stages import reinforce
from models.stages.draws import Draws
from models.stages.inputs import Batch
from models.stages.members import Members
from models.system import System, packed
from models.views import view_of

Json = dict[str, Any]
RESULTS = Path("docs/results")
SHIPPED = Path("releases/ucmerced")
BATCHES = (1, 64)
PAIRS = (("resnet10", 56, "resnet50", 224), ("resnet8", 8, "resnet32", 32))
"""Policy and its pixels, HR classifier and its pixels (section 5.1): ImageNet's and fMoW's, CIFAR's."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def shares(device: torch.device) -> list[Json]:
    """Of each pair, precision and batch size: ms an image of both, and the policy's share."""
    precisions = ["fp32", "bf16"] if has_fast_bf16(device) else ["fp32"]
    found = [
        {"policy": pair[0], "classifier": pair[2], "precision": precision, **told}
        for pair in PAIRS
        for precision in precisions
        for told in _pair(pair, PRECISIONS[precision], device)
    ]
    return [*found, *_shipped(device)]


def _pair(pair: tuple[str, int, str, int], dtype: torch.dtype, device: torch.device) -> list[Json]:
    policy_name, lr_px, classifier_name, hr_px = pair
    policy = build.policy(policy_name, 10, grid=grids.GRID)
    classifier = build.classifier(classifier_name, 10, patchwise=False, grid=grids.GRID)
    found = []
    for size in BATCHES:
        lr, hr = (images(size, px, dtype, device) for px in (lr_px, hr_px))
        found.append(_share(size, {"policy": forms(policy, lr), "classifier": forms(classifier, hr)}, device))
    return found


def _shipped(device: torch.device) -> list[Json]:
    """The release's own: all that it computes to decide; of a policy that reads both streams' answers also
    its few layers alone. Its HR classifier answers by all of its views.
    """
    release = Release.load(SHIPPED, str(device))
    system, card = release.system, release.card
    a, found = system.architecture, []

    def answer(hr: Tensor) -> Tensor:
        x = system.normalised(hr)
        return system.hr_answer([system.hr.stem(view_of(x, view)) for view in system.hr_views])

    for size in BATCHES:
        lr, hr = (images(size, px, torch.float32, device) for px in (a.lr_px, a.hr_px))
        classifier: dict[str, timing.Call] = {"served": partial(answer, hr)}
        deciding: dict[str, timing.Call] = {"all that decides": partial(system.probabilities, lr)}
        if system.policy_reads_answers:
            streams = torch.rand(2, size, a.classes, device=device).softmax(dim=-1)
            deciding["its own layers"] = partial(system.chances_from, *streams)
        for name, policy in deciding.items():
            told = {
                "policy": f"{a.policy} ({name})",
                "classifier": f"{a.hr}, {a.hr_views} view(s)",
                "precision": "fp32",
                "release": f"{card.name} {card.version}",
            }
            found.append(
                {**told, **_share(size, {"policy": {"served": policy}, "classifier": classifier}, device)}
            )
    return found


def _share(size: int, calls: Mapping[str, Mapping[str, timing.Call]], device: torch.device) -> Json:
    """Of both networks what their quicker form takes."""
    every = {(name, form): call for name, forms_of in calls.items() for form, call in forms_of.items()}
    with torch.no_grad():
        times = timing.seconds(every, device, 15 if size == 1 else 3)
    taken = {name: min(times[name, form] for form in forms_of) for name, forms_of in calls.items()}
    ms = {f"{name}_ms": round(1e3 * seconds / size, 6) for name, seconds in taken.items()}
    return {"batch": size, **ms, "share": round(taken["policy"] / taken["classifier"], 5)}


def forms(network: nn.Module, x: Tensor) -> dict[str, timing.Call]:
    """The network on x with its norms folded: channels last, as it is served, and in the default layout."""
    found: dict[str, timing.Call] = {}
    for form, layout in (("served", torch.channels_last), ("default", torch.contiguous_format)):
        quick = folded(network).to(x.device, x.dtype).to(memory_format=layout)  # type: ignore[call-overload]
        found[form] = partial(quick, x.contiguous(memory_format=layout))
    return found


def images(count: int, px: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    x = torch.rand(count, 3, px, px, generator=torch.Generator().manual_seed(0))
    return x.to(device, dtype).contiguous(memory_format=torch.channels_last)


def ours(system: System, stage: Stage, batch: Batch, precision: str) -> Callable[[], None]:
    """The trainer's own step of stage `pt` on a batch of features."""
    count, device = len(batch.labels), system.mean.device
    indices = np.arange(count)
    members = Members(system, indices, batch.labels.cpu(), indices, 0, 0)
    members.settle([])
    optimiser = torch.optim.Adam(system.policy.body.parameters(), lr=stage.lr)
    system.policy.body.train()

    def step() -> None:
        draws = Draws(0, 0, 0, 0, indices)
        alpha = stage.alpha[0]
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, precision):
            tried = reinforce.experience(system, members, indices, batch, stage, "pt", alpha, draws)
            loss = reinforce.policy_loss(system, batch, tried, alpha)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def pt(device: torch.device, count: int) -> Json:
    """Images a second of Pt with CIFAR's networks, a batch of `count` lying ready on the device."""
    recipe = load_recipe("cifar10")
    stage = replace(recipe.stages["pt"], batch=count)
    torch.manual_seed(0)
    policy, lr_px, classifier, hr_px = PAIRS[1]
    system = packed(System(Architecture(10, lr_px, hr_px, policy, classifier)), device).eval()
    lr, hr = (images(count, px, torch.float32, device) for px in (lr_px, hr_px))
    labels = torch.arange(count, device=device) % 10
    batch = Batch(hr=hr, fill=None, lr=None, policy=lr, labels=labels)
    usual = plain(system, stage)
    rows, columns = hr.contiguous(), lr.contiguous()
    calls: dict[str, timing.Call] = {
        "plain fp32": lambda: usual.step(columns, rows, labels),
        "ours fp32": ours(system, stage, batch, "fp32"),
    }
    if has_fast_bf16(device):
        calls["ours bf16"] = ours(system, stage, batch, "bf16")
    taken = timing.seconds(calls, device, 7)
    return {
        "networks": f"{policy} + {classifier}",
        "batch": count,
        "images_per_second": {name: round(count / seconds, 1) for name, seconds in taken.items()},
        "times_plain": {name: round(taken["plain fp32"] / seconds, 3) for name, seconds in taken.items()},
    }


def headline(told: Json) -> list[Json]:
    """Lines for headline.md."""
    lines = []
    first = [s for s in told["shares"] if (s["policy"], s["precision"]) == ("resnet10", "fp32")]
    shown = ", ".join(f"{100 * s['share']:.1f} % at batch {s['batch']}" for s in first)
    reached = all(s["share"] <= 0.02 for s in first)
    title = "policy's share of the HR classifier's time, ResNet10 with ResNet50, fp32"
    lines.append(_line(title, "3 %", "2 % or less, batch 1 and 64", shown, reached=reached))
    served: dict[str, list[Json]] = {}
    for s in told["shares"]:
        if "release" in s:
            served.setdefault(f"{s['policy']} with {s['classifier']}, of {s['release']}", []).append(s)
    for name, rows in served.items():
        shown = ", ".join(f"{100 * s['share']:.1f} % at batch {s['batch']}" for s in rows)
        lines.append(_line(f"the same, {name}", "-", "reported", shown, reached=None))
    for name, wanted in (("fp32", 1.5), ("bf16", 4.0)):
        times = told["pt"]["times_plain"].get(f"ours {name}")
        title = f"Pt, training images/s against Algorithm 1 read plainly, {name}"
        measured = "no fast bf16 here" if times is None else f"{times:.2f} times"
        reached_here = None if times is None else times >= wanted
        lines.append(_line(title, "1", f"{wanted} times or more", measured, reached=reached_here))
    return lines


def _line(figure: str, paper: str, reach: str, measured: str, *, reached: bool | None) -> Json:
    return {"figure": figure, "paper": paper, "reach": reach, "measured": measured, "reached": reached}


def page(told: Json) -> str:
    """speed.md."""
    h = told["hardware"]
    lines = [
        "# Speed",
        "",
        "`patchplan reproduce speed`: "
        f"{h['device']}, {h['threads']} thread(s), torch {h['torch']}, {h['clock']}, "
        f"load {h['load']} on {h['cores']} cores, medians, commit "
        f"{(told['commit'] or 'unknown')[:12]}. Norms are folded, and of two memory layouts it is the "
        "quicker one; the images are random."
        + (" What is called fp32 is TF32 in convolutions, on both sides." if h["tf32"] else ""),
        "",
        "## The policy's share of the HR classifier's time",
        "",
        "ms are an image's. The last rows are of the release "
        + ", ".join(sorted({s["release"] for s in told["shares"] if "release" in s}))
        + ".",
        "",
        "| policy | HR classifier | precision | batch | policy, ms | classifier, ms | share |",
        "|---|---|---|---|---|---|---|",
    ]
    for s in told["shares"]:
        names = f"| {s['policy']} | {s['classifier']} | {s['precision']} | {s['batch']} "
        lines.append(
            names + f"| {s['policy_ms']:.3f} | {s['classifier_ms']:.3f} | {100 * s['share']:.2f} % |"
        )
    pt_told = told["pt"]
    lines += [
        "",
        "## Stage Pt, images a second",
        "",
        f"{pt_told['networks']}, batches of {pt_told['batch']} that lie ready on the device. Plain is",
        "Algorithm 1 read plainly: two masked forwards of the classifier without gradient, masks put on",
        "patch by patch, fp32. Ours is the step of this repository's trainer.",
        "",
        "| step | images/s | times plain |",
        "|---|---|---|",
    ]
    for name, rate in pt_told["images_per_second"].items():
        lines.append(f"| {name} | {rate:.0f} | {pt_told['times_plain'][name]:.2f} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.reproduce.speed", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--batch", type=int, help="of Pt (1024 on a GPU, 256 on a CPU)")
    args = parser.parse_args(argv)
    device = best_device()
    count = args.batch or (1024 if device.type == "cuda" else 256)
    told: Json = {"commit": commit(), "hardware": timing.hardware(device)}
    told |= {"pt": pt(device, count), "shares": shares(device)}
    told["headline"] = headline(told)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "speed.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (args.out / "speed.md").write_text(page(told), encoding="utf-8")
    print(page(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

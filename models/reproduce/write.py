"""A table's page in Markdown, computed from its records alone."""

from collections.abc import Sequence
from typing import Any

from models.recipe import STAGES as STAGES_IN_TURN
from models.reproduce.paper import PRINTED_DS, Printed, of_setting, printed
from models.reproduce.pooled import accuracy, by_part, difference, gains, images, mean_s
from models.reproduce.rows import ROWS
from models.reproduce.store import Record, Store
from models.reproduce.tables import TABLES

STAGES = (("pt", "Pt"), ("ft1", "Ft-1"), ("ft2", "Ft-2"))
OVER_VIEWS = ("hr-cnn-views", "hr-cnn-own-views")
"""HR-CNN over the views of ours: the one trained as long as ours, and the plain one."""

_OF_ALL_STAGES = ("patchdrop", "ours", "ours-whole", "ours-limited", "ours-limited-whole")
"""Rows whose every stage is compared with HR-CNN; of others only the last is."""

_LENGTH = ("smoke", "cpu", "gpu", "paper")

_TRIED_ON = {
    "f061786ecd2dc631354f91cc42533e01ab007b306f35aafa9c6837b64c763668",  # cifar10
    "df00bf5bc54ac4ed8518bcd5702e2b9501ca2bccd82e1f9e6f929ffb5457a101",  # cifar10-4000
    "a1e76c121292904d415ddb55c7948bf66d85c46f8eb31d67eff78ec304b7e466",  # ucmerced
    "3d5115f61656a45b377dc6b53fc9e737aac697466bc5339eb09b0b0ba0bd9da5",  # resisc12
}
"""By the hash of their images, the data sets whose results were in sight while ours was made."""


def best(records: Sequence[Record]) -> list[Record]:
    """Of a row made at several lengths, the longest."""
    longest = max((_LENGTH.index(r.profile) for r in records), default=0)
    return [r for r in records if r.profile == _LENGTH[longest]]


def of(store: Store, row: str, stage: str, ds: int, like: Sequence[Record] = ()) -> list[Record]:
    """All parts of one stage of a row: of the longest it was made at, or of the same length as `like`."""
    there = [r for r in store.records if (r.row, r.stage, r.ds) == (row, stage, ds)]
    return [r for r in there if r.profile == like[0].profile] if like else best(there)


def page(store: Store, table: str) -> str:
    """The whole page: what was run, a table for each ds, differences, and how long each row was trained."""
    data, records = store.head["data"], store.records
    lines = [f"# {TABLES[table].title}: {data}", "", *_head(store), ""]
    if not records:
        return "\n".join([*lines, "No row is finished yet.", ""])
    for ds in sorted({r.ds for r in records}):
        known = printed(store.head) if ds == PRINTED_DS else {}
        lines += [f"## ds {ds}", "", *_by_stage(store, ds, known), *_differences(store, ds)]
        lines += [*_others(store, ds), *_belief(of(store, "ours", "", ds))]
    lines += ["## Trained for", "", *_epochs(records)]
    return "\n".join(lines) + "\n"


def _head(store: Store) -> list[str]:
    head, records = store.head, store.records
    seeds = sorted({r.told["seed"] for r in records})
    machines = sorted({f"{r.told['processor']}, {r.told['threads']} thread(s)" for r in records})
    lines = [
        f"`{head['command']}`",
        "",
        f"{head['protocol']}; {head['images']} images, {head['classes']} classes. Seeds {_listed(seeds)}; "
        f"{_listed(sorted({r.profile for r in records}))} profile; {_listed(machines)}; "
        f"{_listed(sorted({r.told['precision'] for r in records}))}. Accuracy in percent with its 95 % "
        "interval over the n images that were held out, not over trainings, S in patches of 16.",
    ]
    for said in (head.get("left_out"), head.get("caveats"), head.get("unlearned")):
        if said:
            lines += ["", said]
    if head.get("data_sha256") in _TRIED_ON and any(r.row == "ours" for r in records):
        lines += [
            "",
            "Settings of ours were chosen with results on this data set in sight (docs/lab-notes.md).",
        ]
    if head.get("outdated"):
        lines += [
            "",
            "Rows with a † were made with settings that have changed; the same command makes them again.",
        ]
    made = {r.part for r in records}
    if len(made) < head["parts"]:
        lines += [
            "",
            f"**Measured on {len(made)} of {head['parts']} parts so far: {_listed(sorted(made))}.**",
        ]
    if any(parts < made for parts in _parts(records)):
        lines += [
            "",
            "**Some rows have fewer parts than others, and parts are not equally hard: compare rows by the",
            "paired differences, which are of the parts that both have.**",
        ]
    return lines


def _parts(records: Sequence[Record]) -> list[set[int]]:
    """The parts of each row at each ds."""
    return [
        {r.part for r in records if (r.row, r.ds) == cell}
        for cell in sorted({(r.row, r.ds) for r in records})
    ]


def marked(store: Store, row: str, ds: int) -> str:
    """A dagger where the row that is shown was made with settings that have changed."""
    profiles = {r.profile for r in best([r for r in store.records if (r.row, r.ds) == (row, ds)])}
    old = [tuple(cell) for cell in store.head.get("outdated", ())]
    return " †" if any((row, ds, profile) in old for profile in profiles) else ""


def _title(store: Store, name: str, ds: int) -> str:
    return ROWS[name].title + marked(store, name, ds)


def _by_stage(store: Store, ds: int, known: Printed) -> list[str]:
    there = [name for name in ROWS if of(store, name, "pt", ds) or _standalone(store, name, ds)]
    if not there:
        return []
    title = "| row | parts | n |" + "".join(f" {name} % | S |" for _, name in STAGES)
    lines = [title + (" paper, %, at S |" if known else "")]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for name in there:
        cells, parts, n = [], 0, 0
        for stage, _ in STAGES:
            found = of(store, name, stage, ds) or of(store, name, "", ds)
            cells += [_share(accuracy(found)), f"{mean_s(found)['value']:.1f}"] if found else ["", ""]
            parts, n = max(parts, len(found)), max(n, images(found) if found else 0)
        if known:
            cells.append(_printed(known, name))
        lines.append(f"| {_title(store, name, ds)} | {parts} | {n} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _standalone(store: Store, name: str, ds: int) -> bool:
    return ROWS[name].stages[0] == "" and bool(of(store, name, "", ds))


def _printed(known: Printed, name: str) -> str:
    if name not in known:
        return ""
    accuracies, s = known[name]
    return ", ".join(f"{a} at {count}" for a, count in zip(accuracies, s, strict=True))


def _differences(store: Store, ds: int) -> list[str]:
    """Paired with HR-CNN, image by image."""
    rivals = [
        (("hr-cnn",), "HR-CNN"),
        (("hr-cnn-longer",), "HR-CNN, as long"),
        (OVER_VIEWS, "over its views"),
    ]
    lines = []
    for name, row in ROWS.items():
        for stage in row.stages if name in _OF_ALL_STAGES else row.stages[-1:]:
            found = of(store, name, stage, ds)
            if not found or name == "hr-cnn":
                continue
            cells = [best_difference(store, found, others, ds) for others, _ in rivals]
            if any(cells):
                shown = " | ".join("" if c is None else _points(c) for c in cells)
                title = f"{_title(store, name, ds)} {dict(STAGES).get(stage, stage)}".strip()
                lines.append(f"| {title} | {mean_s(found)['value']:.2f} | {shown} |")
    if not lines:
        return []
    head = "| row | S |" + "".join(f" less {title}, points |" for _, title in rivals)
    return ["Paired differences:", "", head, "|---" * (len(rivals) + 2) + "|", *lines, ""]


def best_difference(
    store: Store, found: Sequence[Record], others: Sequence[str], ds: int
) -> dict[str, Any] | None:
    """Less the best of `others` that were made for all of its parts, or else for a part of them."""
    return difference(found, best_of([of(store, other, "", ds, found) for other in others], found))


def best_of(rivals: Sequence[Sequence[Record]], beside: Sequence[Record]) -> list[Record]:
    """The rival that is right most often on the parts of `beside`, of those made for most of these."""
    parts = {record.part for record in beside}
    shared = [[r for r in rival if r.part in parts] for rival in rivals]
    there = [rival for rival in shared if rival]
    return max(there, key=lambda rival: (len(rival), accuracy(rival)["value"]), default=[])


def _others(store: Store, ds: int) -> list[str]:
    """Rows whose stages are settings: figure 1a, figure 5's sigma, tables 3 and 4, ours by cost."""
    lines = []
    for name, row in ROWS.items():
        for stage in row.stages:
            found = of(store, name, stage, ds)
            if stage not in ("", "pt", "ft1", "ft2") and found:
                more = _more(of(store, name, row.stages[0], ds), stage)
                shown = f"{_share(accuracy(found))} | {mean_s(found)['value']:.2f} | {more}"
                paper = of_setting(store.head, name, stage)
                lines.append(f"| {_title(store, name, ds)} | {stage} | {len(found)} | {shown} | {paper} |")
    if not lines:
        return []
    head = (
        "| row | setting | parts | % | S | an image, at batch 64 if no other | the paper: %, at S, run-time |"
    )
    timed = [r.told["timed_on"] for r in store.records if "timed_on" in r.told and r.ds == ds]
    on = sorted({f"{t['device']}, {t['threads']} thread(s), {t['clock']}, torch {t['torch']}" for t in timed})
    said = [f"Run-times: {'; '.join(on)}; medians, all rows in turn on the same images.", ""] if on else []
    return [head, "|---|---|---|---|---|---|---|", *lines, "", *said]


def _more(first: Sequence[Record], stage: str) -> str:
    """What was measured of a setting beside its answers, the mean over parts; the first stage holds it."""
    told = [r.told.get("more", {}).get(stage, {}) for r in first]
    keys = dict.fromkeys(key for figures in told for key in figures)
    means = {key: sum(f[key] for f in told) / len(told) for key in keys}
    return "; ".join(f"{key} {value:.3f}" for key, value in means.items())


def _belief(ours: Sequence[Record]) -> list[str]:
    """Whether ours' probabilities and its gain model mean what they say; the mean over parts, by images."""
    if not ours:
        return []
    lines = ["Gain model of ours, spending a share of all patches where they gain most:", ""]
    lines += [
        "| share of the budget | predicted % | realised % | predicted less realised, points |",
        "|---|---|---|---|",
    ]
    for tenth, (predicted, realised) in enumerate(gains(ours)):
        shown = f"{100 * predicted:.2f} | {100 * realised:.2f} | {100 * (predicted - realised):+.2f}"
        lines.append(f"| {tenth / 10:.1f} | {shown} |")
    errors = (by_part(ours, [r.told[key] for r in ours]) for key in ("ece_eq7", "ece"))
    shown = ", ".join(f"{title} {100 * e:.2f}" for title, e in zip(("Eq. 7", "fitted"), errors, strict=True))
    return [*lines, "", f"Expected calibration error of the fused answer, points: {shown}.", ""]


def _epochs(records: Sequence[Record]) -> list[str]:
    told: dict[str, str] = {}
    by_row = [best([r for r in records if r.row == name]) for name in {r.row for r in records}]
    for r in (record for longest in by_row for record in longest):
        shares = r.told["of_the_papers"]
        told[r.row] = ", ".join(
            f"{unit} {n} ({100 * shares[unit]:.3g} %)"
            for unit, n in sorted(r.told["epochs"].items(), key=_by_turn)
        )
    lines = [
        "Epochs over the images of a part, and their share of the profile `paper`'s; the paper's own are",
        "over many more images (fMoW 350,000, ImageNet 1.2 million), so in steps the share is far smaller:",
        "",
        "| row | epochs |",
        "|---|---|",
    ]
    return [*lines, *(f"| {ROWS[name].title} | {text} |" for name, text in sorted(told.items()))]


def _by_turn(epochs: tuple[str, int]) -> tuple[int, str]:
    """Stages in the order in which they are trained, then what else there is."""
    unit = epochs[0]
    return (STAGES_IN_TURN.index(unit) if unit in STAGES_IN_TURN else len(STAGES_IN_TURN), unit)


def _share(figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{100 * figure['value']:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _points(figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{100 * figure['value']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def _listed(items: Sequence[Any]) -> str:
    return ", ".join(str(item) for item in items)

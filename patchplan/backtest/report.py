"""What the backtest found: the answers that changed, and where they stand in the report's page."""

import html
from collections.abc import Sequence

from patchplan.backtest.tried import Json, Tried


def compare(tried: Sequence[Tried]) -> Json:
    """Per scene and over all: how many tiles keep the class that they have with all HR, and which do not."""
    scenes, changed = [], []
    for each in tried:
        every = {tile["tile"]: tile for tile in each.all_hr["tiles"]}
        own = [
            change
            for tile in each.bought["tiles"]
            if (change := _change(each.name, tile, every[tile["tile"]])) is not None
        ]
        tiles = len(each.bought["tiles"])
        scenes.append(
            {
                "scene": each.name,
                "tiles": tiles,
                "chosen": sum(len(tile["chosen"]) for tile in each.plan["tiles"]),
                "bought": sum(len(patches) for patches in each.taken.values()),
                "patches": each.plan["totals"]["patches"],
                "changed": len(own),
            }
        )
        changed += own
    total = sum(scene["tiles"] for scene in scenes)
    answers = {
        "tiles": total,
        "same": total - len(changed),
        "changed": len(changed),
        "agreement": (total - len(changed)) / total if total else 1.0,
    }
    return {"answers": answers, "scenes": scenes, "changed": changed}


def _change(scene: str, bought: Json, all_hr: Json) -> Json | None:
    if bought["class"] == all_hr["class"]:
        return None
    return {
        "scene": scene,
        "tile": bought["tile"],
        "patches": bought["patches_used"],
        "bought": {name: bought[name] for name in ("class", "probability")},
        "all_hr": {name: all_hr[name] for name in ("class", "probability")},
    }


def with_answers(page: str, result: Json) -> str:
    """The savings page with the answers that changed, before its footer."""
    answers = result["answers"]
    rows = "".join(
        f"<tr><td class=t>{_e(one['scene'])}</td><td>{one['tile']}</td><td>{len(one['patches'])}</td>"
        f"{_said(one['bought'])}{_said(one['all_hr'])}</tr>"
        for one in result["changed"]
    )
    head = "<th class=t>scene</th><th>tile</th><th>S</th><th class=t>with what was bought</th>"
    head += "<th class=t>with all HR</th>"
    table = f"<div class=wide><table><tr>{head}</tr>{rows}</table></div>" if rows else ""
    kept = f"{answers['same']} of {answers['tiles']} tiles keep their class ({answers['agreement']:.1%})"
    title = "<h2>Answers with what was bought, against all HR</h2>"
    section = f"{title}<p>{kept}; {answers['changed']} change.</p>{table}"
    page = page.replace("<footer>", f"{section}<footer>", 1)
    page = page.replace("<title>Savings</title>", "<title>Backtest</title>", 1)
    scenes = len(result["scenes"])
    about = f"{scenes} scene{'s' * (scenes != 1)}, {result['product']}, planned by {result['release']}."
    start, end = page.index("<h1>"), page.index("</p>", page.index("<h1>"))
    return f"{page[:start]}<h1>Backtest</h1><p class=sub>{_e(about)}{page[end:]}"


def _said(answer: Json) -> str:
    probability = answer["probability"]
    shown = "" if probability is None else f" ({probability:.0%})"
    return f"<td class=t>{_e(answer['class'] or '-')}{shown}</td>"


def _e(value: object) -> str:
    return html.escape(str(value))

"""Write ``docs/validation.md`` and the two generated parts of ``README.md``: ``python tools/generate_validation.py``.

The page puts every published figure of the shipped scenarios beside the prediction, misses included. A test runs
this script again and fails when the numbers on the pages have moved away from what the code says.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean, median

from perfmodel.engine.result import PublishedRow, Result
from perfmodel.engine.session import load
from perfmodel.report import render_text
from perfmodel.report.display import key_quantity, label_of_key
from perfmodel.specs.catalogue import Catalogue

sys.path.insert(0, str(Path(__file__).resolve().parent))
from validation_runs import run_parts

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = Path(__file__).with_name("validation.template.md")
MAIN = "llama3.1-405b-8192-h100"
#: A difference above this is a miss and must be explained.
MISS = 0.10
#: Sections of the printed answer that the README shows.
SHOWN = ("Time", "Published or measured")

#: How a row relates to the training-step study behind the behaviour numbers of the software stacks.
FITTED, SEEN, OUTSIDE = "fitted", "seen", "outside"
RELATIONS = {
    "llama3.1-405b-*": FITTED,
    "korthikanti-2022-1t-*": FITTED,
    "korthikanti-2022-530b-*": SEEN,
    "narayanan-2021-175b-*": SEEN,
    "narayanan-2021-530b-*": SEEN,
    "llama3.1-8b-128-h100": FITTED,
}

#: Why a row is off by more than :data:`MISS`.
EXPLANATIONS = {
    "deepseek-v3-2048-h800": """
        The stack is declared from the report and nothing is fitted. Communication that DualPipe hides costs what the 20
        of 132 multiprocessors kept for it no longer compute; only matmuls are slowed by that here, not attention and
        kernels bound by memory. The published hours are those of the whole run, with evaluation and checkpoints.
        """,
    "mt-nlg-530b-3360-a100": """
        The published run is slower than its kernels allow. Narayanan et al. trained the same model with the same tensor
        and pipeline sizes on 2240 A100 in 55.4 s for 2240 sequences: 55 device-seconds per sequence. MT-NLG reports
        44.4 s on 3360 devices for 1920 sequences: 78. The larger bubble of fewer micro-batches explains a factor of
        1.08 of that 1.40. The rest is probably the stack: MT-NLG ran DeepSpeed's pipeline engine; the paper gives no
        numbers for it. The scenario is predicted with the Megatron-LM stack of 2021, and nothing was tuned to this row.
        """,
    "llama3.1-70b-64-h100": """
        The two figures are not the same quantity. The model card gives the device hours of Meta's whole run, with
        another stack, another cluster, stages of long context, and restarts. The scenario is the steady 8k stage with
        Megatron-Core. The row shows how far a clean estimate lies below a whole project.
        """,
}


@dataclass(frozen=True)
class Row:
    """One published figure beside the prediction."""

    scenario: str
    title: str
    published: PublishedRow
    inside: bool | None  # of the 80 % interval; None where the figure has none
    confidence: str
    relation: str

    @property
    def error(self) -> float:
        """Predicted over published, less one."""
        return self.published.predicted / self.published.value - 1.0


def rows() -> list[Row]:
    """Every published figure of the scenarios of training runs, by scenario; studies are predictions themselves."""
    found: list[Row] = []
    for path in sorted((ROOT / "scenarios" / "training").glob("*.yaml")):
        scenario = load(path)
        result = scenario.run()
        title = str(scenario.resolved.scenario.title or path.stem)
        found += [_row(path.stem, title, result, one) for one in result.published]
    return found


def _row(stem: str, title: str, result: Result, one: PublishedRow) -> Row:
    interval = result.uncertainty.get(one.key)
    inside = None if interval is None else interval["p10"] <= one.value <= interval["p90"]
    relation = next((value for pattern, value in RELATIONS.items() if fnmatchcase(stem, pattern)), OUTSIDE)
    return Row(stem, title, one, inside, str(result.uncertainty["time.step_s"]["basis"]), relation)


def accuracy_table(found: Sequence[Row]) -> Iterator[str]:
    """The short table of the README."""
    yield "| scenario | figure | published | predicted | error |"
    yield "|---|---|---|---|---|"
    for row in found:
        one = row.published
        values = f"{key_quantity(one.key, one.value)} | {key_quantity(one.key, one.predicted)}"
        yield f"| {row.title} | {label_of_key(one.key)} | {values} | {100 * row.error:+.1f} % |"


def full_table(found: Sequence[Row]) -> Iterator[str]:
    """The table of the validation page."""
    yield "| scenario | figure | published | predicted | error | in the 80 % interval | study | source |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in found:
        one = row.published
        inside = {True: "yes", False: "**no**", None: "-"}[row.inside]
        values = f"{key_quantity(one.key, one.value)} | {key_quantity(one.key, one.predicted)}"
        note = f"`{one.source}`, {one.note}" if one.note else f"`{one.source}`"
        yield (
            f"| [{row.scenario}](../scenarios/training/{row.scenario}.yaml) | {label_of_key(one.key)} | {values} "
            f"| {100 * row.error:+.1f} % | {inside} | {row.relation} | {note} |"
        )


def summary(found: Sequence[Row]) -> str:
    """Scores in a sentence; the misses that are not the same quantity count too."""
    errors = [abs(row.error) for row in found]
    known = [row.inside for row in found if row.inside is not None]
    fitted = [abs(row.error) for row in found if row.relation == FITTED]
    other = [abs(row.error) for row in found if row.relation != FITTED]
    return (
        f"{len(found)} figures: mean absolute error {100 * mean(errors):.1f} %, median {100 * median(errors):.1f} %, "
        f"{sum(error <= MISS for error in errors)} of {len(found)} within {100 * MISS:.0f} %, "
        f"{sum(known)} of {len(known)} inside their 80 % interval. Median of the {len(fitted)} fitted rows "
        f"{100 * median(fitted):.1f} %, of the {len(other)} others {100 * median(other):.1f} %."
    )


def misses(found: Sequence[Row]) -> Iterator[str]:
    """Every miss with its reason; a miss without one stops the script."""
    for row in found:
        if abs(row.error) > MISS:
            if row.scenario not in EXPLANATIONS:
                raise SystemExit(f"{row.scenario} is off by {100 * row.error:+.1f} %: say why in EXPLANATIONS")
            reason = " ".join(EXPLANATIONS[row.scenario].split())
            yield f"- **{row.title}** ({100 * row.error:+.1f} %). {reason}"


def sources(found: Sequence[Row]) -> Iterator[str]:
    """The sources of the published figures."""
    known = Catalogue(()).sources()
    for key in dict.fromkeys(row.published.source for row in found):
        source = known[key]
        yield f"- `{key}`: {source.title}" + (f". <{source.url}>" if source.url else "")


def validation_page(found: Sequence[Row]) -> str:
    """The whole page."""
    parts = {
        "summary": summary(found),
        "table": "\n".join(full_table(found)),
        "misses": "\n".join(misses(found)),
        "sources": "\n".join(sources(found)),
        **run_parts(),
    }
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"{{{name}}}", text)
    return page


def answer_text() -> str:
    """The answer of the main job as printed, the sections of the README only."""
    text = render_text(load(MAIN).run(), width=100, colour=False)
    sections = re.split(r"\n(?=\S[^\n]*\n(?:part|figure|operator|group|stage) )", text)
    head = sections[0].split("\nplan: ")[0].rstrip()
    shown = [one.rstrip() for one in sections[1:] if one.startswith(SHOWN)]
    if len(shown) != len(SHOWN):
        raise SystemExit(f"the printed answer has the sections {shown}, expected {SHOWN}")
    last = shown[-1].split("\n\n")[0]
    return "\n\n".join([head, *shown[:-1], last])


def with_part(page: str, name: str, content: str) -> str:
    """The page with the text between its two markers replaced."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"README.md has no part {begin} ... {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def readme(page: str, found: Sequence[Row]) -> str:
    """The README with its generated parts renewed."""
    page = with_part(page, "answer", f"```text\n{answer_text()}\n```")
    return with_part(page, "accuracy", "\n".join([*accuracy_table(found), "", summary(found)]))


def main(folder: Path) -> None:
    """Write both pages below ``folder``."""
    found = rows()
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "validation.md").write_text(validation_page(found), encoding="utf-8")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(readme(text, found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)

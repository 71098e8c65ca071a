"""The files of a report: one self-contained HTML page, Markdown, and the charts as SVG.

The page's templates are in `templates/`. They escape every value except the drawings, which are
made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taketurns.evaluation.report.blocks import Block, Chart, Heading
from taketurns.evaluation.report.charts import draw
from taketurns.evaluation.report.markdown import markdown
from taketurns.evaluation.report.theme import SeriesStyle, standalone
from taketurns.utils.files import write_text

if TYPE_CHECKING:
    from jinja2 import Environment


def write_pages(
    folder: Path,
    blocks: Sequence[Block],
    styles: Mapping[str, SeriesStyle],
    template: str = "page.html",
    **context: Any,
) -> None:
    """Write `report.html`, `report.md` and `figures/`; `styles` has the style of series by name."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    charts = [block for block in blocks if isinstance(block, Chart)]
    drawings = {chart.name: draw(chart, styles) for chart in charts}
    for name, drawing in drawings.items():
        write_text(folder / "figures" / f"{name}.svg", standalone(drawing))
    write_text(folder / "report.html", page(blocks, drawings, template, **context))
    write_text(folder / "report.md", markdown(blocks))


def page(
    blocks: Sequence[Block],
    drawings: Mapping[str, str],
    template: str = "page.html",
    **context: Any,
) -> str:
    """The HTML, light or dark as the reader's system is set. `drawings` are themed SVG by chart
    name. `context` has the further variables of a `template` that extends page.html."""
    return (
        _templates()
        .get_template(template)
        .render(
            title=next(block.text for block in blocks if isinstance(block, Heading)),
            blocks=[(type(block).__name__.lower(), block) for block in blocks],
            # The template writes the opening tag, with its label.
            drawings={name: svg.removeprefix("<svg") for name, svg in drawings.items()},
            **context,
        )
    )


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return templates

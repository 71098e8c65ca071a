"""The files of a report: one HTML page that needs nothing else, Markdown, and the charts as SVG.

The page's templates are in `templates/`. They escape all that they are given; only drawings, which
are made here, go in as they are.
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
    """Write `report.html`, `report.md` and `figures/`; `styles` are those of series by name."""
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
    """The HTML, in the reader's light or dark; `drawings` are themed SVG by the name of the chart.
    A `template` that extends page.html gets what else it needs by `context`."""
    return (
        _templates()
        .get_template(template)
        .render(
            title=next(block.text for block in blocks if isinstance(block, Heading)),
            blocks=[(type(block).__name__.lower(), block) for block in blocks],
            # The page gives a drawing's opening tag its label.
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

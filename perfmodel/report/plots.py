"""The figures of a result, by name, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfmodel.engine.result import Result

if TYPE_CHECKING:
    import plotly.graph_objects as go


def figures(result: Result) -> dict[str, go.Figure]:
    """The plotly figures that apply: ``waterfall``, ``breakdown``, ``operators``, ``roofline``, ``memory``,
    ``communication``, ``pipeline``, ``energy``, ``money``.

    Parameters
    ----------
    result
        The result to draw; what it does not say is left out.
    """
    from perfmodel.report import plot_communication, plot_energy, plot_memory, plot_pipeline, plot_roofline, plot_time

    makers = {
        "waterfall": plot_time.waterfall_figure,
        "breakdown": plot_time.breakdown_figure,
        "operators": plot_time.operators_figure,
        "roofline": plot_roofline.roofline_figure,
        "memory": plot_memory.memory_figure,
        "communication": plot_communication.communication_figure,
        "pipeline": plot_pipeline.pipeline_figure,
        "energy": plot_energy.energy_figure,
        "money": plot_energy.money_figure,
    }
    drawn = {name: maker(result) for name, maker in makers.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}

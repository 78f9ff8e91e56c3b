"""Style sheet and script of the report page."""

STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #d9dee3; --tint: #f4f6f8; --accent: #0072b2; --bad: #b00020; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.6rem; }
body { margin: 0; color: var(--ink); background: white; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
header, main, footer { max-width: 1080px; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 1.6rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 0 0 .9rem; padding-bottom: .3rem; border-bottom: 2px solid var(--ink); }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
section { padding-top: 2.4rem; }
nav { position: sticky; top: 0; z-index: 5; background: rgba(255, 255, 255, .97);
  border-bottom: 1px solid var(--line); }
nav ol { list-style: none; display: flex; gap: 0 1.3rem; overflow-x: auto; max-width: 1080px; margin: 0 auto;
  padding: .65rem 1.25rem; white-space: nowrap; }
nav a { color: var(--soft); text-decoration: none; font-size: .92rem; }
nav a:hover, nav a:focus { color: var(--accent); text-decoration: underline; }
.sentence { font-size: 1.15rem; margin: 0 0 1rem; }
.infeasible { border-left: 5px solid var(--bad); background: #fdf1f2; padding: .7rem 1rem; }
.infeasible strong { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(225px, 1fr)); gap: .8rem; margin: 1rem 0; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: .75rem .95rem; break-inside: avoid; }
.card .label { color: var(--soft); font-size: .88rem; }
.card .number { font-size: 1.85rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums; }
.card .number small { font-size: 1.05rem; font-weight: 500; }
.card .aside { font-size: .86rem; color: var(--soft); }
.card .aside b { color: var(--ink); font-weight: 600; }
.facts { margin: 1.2rem 0 0; padding: .8rem 1rem; background: var(--tint); border-radius: 6px; }
.facts p { margin: .1rem 0; overflow-wrap: anywhere; }
figure { margin: 1.2rem 0 2rem; break-inside: avoid; }
figcaption { font-weight: 600; margin-bottom: .3rem; text-wrap: pretty; }
.plot { width: 100%; min-height: 160px; }
.plot .modebar { opacity: 0; transition: opacity .2s; } .plot:hover .modebar { opacity: 1; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th { text-align: right; color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--ink);
  white-space: nowrap; }
th, td { padding: .22rem .9rem .22rem 0; vertical-align: top; }
td { border-bottom: 1px solid #eef1f4; }
.left { text-align: left; overflow-wrap: break-word; } .right { text-align: right; white-space: nowrap; }
th.left, td.left:first-child { min-width: 6rem; }
tr.total td { border-top: 2px solid var(--soft); }
td.bar { width: 11rem; min-width: 5rem; vertical-align: middle; padding-right: 0; }
td.bar span { display: block; height: .72rem; background: var(--accent); border-radius: 1px; }
.note { color: var(--soft); font-size: .88rem; margin: .35rem 0 0; }
ul { padding-left: 1.2rem; margin: .3rem 0; } li { margin: .15rem 0; overflow-wrap: anywhere; }
.formulas { columns: 2 24rem; column-gap: 2.5rem; }
.formula { break-inside: avoid; padding: .15rem 0 .9rem; font-size: .9rem; overflow-x: auto; overflow-y: hidden; }
.formula .name { font-weight: 600; } .formula .reference { color: var(--soft); font-size: .82rem; }
.formula math[display=block] { font-size: 1.05rem; margin: .35rem 0; width: max-content; }
code, .hash { font: .86rem/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.inputs { font-size: .84rem; } .inputs .left { overflow-wrap: anywhere; }
.inputs td:first-child { font-family: ui-monospace, Menlo, Consolas, monospace;
  font-size: .8rem; }
footer { color: var(--soft); font-size: .85rem; padding-top: 2rem; padding-bottom: 2rem; }
@media (max-width: 640px) {
  body { font-size: 15px; } .card .number { font-size: 1.5rem; } .cards { grid-template-columns: 1fr 1fr; }
  .card .number small { font-size: .9rem; } td.bar { width: 4rem; min-width: 3rem; }
}
@media print {
  @page { size: A4; margin: 15mm 14mm; }
  html { font-size: 11.5px; } body { font-size: 1rem; } nav { display: none; }
  header, main, footer { max-width: none; padding-left: 0; padding-right: 0; }
  section { padding-top: 1.4rem; } h2, h3, figcaption { break-after: avoid; } tr { break-inside: avoid; }
  .cards { grid-template-columns: repeat(3, 1fr); } .card { padding: .5rem .8rem; }
  .scroll { overflow: visible; break-inside: avoid; } .inputs .scroll { break-inside: auto; }
  .inputs { font-size: .72rem; } .inputs td:first-child { font-size: .68rem; }
  .formula { overflow: visible; } .formula math[display=block] { font-size: .95rem; }
  td.bar span, .facts, .infeasible { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  .modebar { display: none !important; }
}
"""

# Width of the text on A4 in CSS pixels: the figures are drawn anew for paper.
SCRIPT = """
(function () {
  var paper = 685, plots = Array.prototype.slice.call(document.querySelectorAll('.plot'));
  var options = { responsive: true, displaylogo: false,
    modeBarButtons: [['zoom2d', 'pan2d', 'resetScale2d', 'toImage']] };
  plots.forEach(function (plot) {
    var data = JSON.parse(document.getElementById('data-' + plot.dataset.figure).textContent);
    if (window.innerWidth < 640) { narrow(data); }
    data.layout.autosize = true;
    Plotly.newPlot(plot, data.data, data.layout, options);
  });
  function narrow(data) {
    data.layout.font = Object.assign({}, data.layout.font, { size: 11 });
    (data.layout.annotations || []).forEach(function (note) {
      note.font = Object.assign({}, note.font, { size: 10 });
    });
  }
  function print(on) {
    plots.forEach(function (plot) {
      Plotly.relayout(plot, on ? { width: paper, autosize: false } : { width: null, autosize: true });
    });
  }
  window.addEventListener('beforeprint', function () { print(true); });
  window.addEventListener('afterprint', function () { print(false); });
  document.documentElement.dataset.drawn = String(plots.length);
})();
"""

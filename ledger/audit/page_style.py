"""How the page of an audit report looks: light and dark, on a screen and on paper."""

STYLE = """\
:root {
  --paper: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --wash: #f5f7f9;
  --good: #17653a; --good-wash: #e3f4e9; --bad: #a3161f; --bad-wash: #fdebec;
  --warn: #7a4b00; --warn-wash: #fdf2dd; --accent: #0b57a4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --soft: #a2abb5; --line: #343b43; --wash: #1c2126;
    --good: #7fd6a0; --good-wash: #16301f; --bad: #ff9a9f; --bad-wash: #3b191c;
    --warn: #f0c16c; --warn-wash: #352809; --accent: #86bdf5;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", sans-serif;
}
main { max-width: 74rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { max-width: 46rem; margin: .6rem 0; }
li { max-width: 46rem; margin: .35rem 0; }
small { color: var(--soft); font-size: .85em; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85em; }
code { overflow-wrap: anywhere; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.kind { margin: 0; color: var(--soft); text-transform: uppercase; letter-spacing: .08em;
  font-size: .8rem; }
.verdict { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline;
  border-left: 6px solid; border-radius: 4px; padding: .8rem 1.1rem; margin: 0 0 1.25rem; }
.verdict strong { font-size: 1.35rem; }
.sound, .structure { color: var(--good); background: var(--good-wash); }
.tampered { color: var(--bad); background: var(--bad-wash); }
.incomplete, .untrusted { color: var(--warn); background: var(--warn-wash); }
.verdict span { color: var(--ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.tiles { list-style: none; display: grid; gap: .75rem; padding: 0; margin: 1.75rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tiles li { background: var(--wash); border: 1px solid var(--line); border-radius: 8px;
  padding: .7rem .9rem; margin: 0; color: var(--soft); font-size: .9rem; }
.tiles b { display: block; color: var(--ink); font-size: 1.45rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.good { color: var(--good); font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--soft); padding: 0 0 .4rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem; border-bottom: 1px solid
  var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
td small { display: block; }
td > code { white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.mark { display: inline-block; border-radius: 4px; padding: 0 .45rem; font-size: .85em;
  font-weight: 600; white-space: nowrap; }
.mark.grave { color: var(--bad); background: var(--bad-wash); }
.mark.serious, .mark.minor { color: var(--warn); background: var(--warn-wash); }
.mark.ok { color: var(--good); background: var(--good-wash); }
.grid { display: inline-flex; flex-wrap: wrap; gap: 2px; max-width: 34rem; }
.cell { display: inline-block; width: 13px; height: 13px; border-radius: 2px; font-style: normal;
  font-size: 11px; line-height: 13px; text-align: center; border: 1px solid transparent; }
.cell.closed { background: var(--good); }
.cell.missing { background: var(--bad); color: var(--paper); }
.cell.open { border-color: var(--soft); }
.cell.none { background: var(--line); }
.legend .cell { vertical-align: -1px; margin-left: .8rem; }
.bar { display: inline-block; width: 7rem; height: .55rem; background: var(--line);
  border-radius: 3px; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); }
summary { cursor: pointer; color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 40rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
@page { margin: 16mm 14mm; }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --wash: #fff; --good: #17653a;
    --good-wash: #fff; --bad: #a3161f; --bad-wash: #fff; --warn: #7a4b00; --warn-wash: #fff; }
  body { font-size: 10pt; }
  main { padding: 0; max-width: none; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .25rem .35rem; }
  h2 { break-after: avoid; }
  tr, .verdict, .tiles li { break-inside: avoid; }
  .cell, .bar i, .bar { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .verdict, .mark { border: 1px solid; }
  .verdict { border-left-width: 6px; }
}
"""

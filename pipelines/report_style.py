"""How the report looks: one style sheet, light and dark, wide and narrow, and the frame of the page."""

from __future__ import annotations

from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>$body</main>
</body>
</html>
""")

STYLE = """
:root {
  --ground: #fbfbfa; --sheet: #ffffff; --ink: #1b1b1f; --faint: #6c6c74; --line: #e4e4e2; --well: #efefed;
  --accent: #2f6f5e; --gap: #bdbdb9; --hatch: #adada8;
  --shadow: 0 1px 2px rgb(0 0 0 / .05), 0 6px 24px rgb(0 0 0 / .05);
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #131315; --sheet: #1b1b1e; --ink: #ececf0; --faint: #9b9ba5; --line: #2d2d32; --well: #26262a;
    --accent: #7cc9b2; --gap: #47474d; --hatch: #55555c; --shadow: none;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1360px; margin: 0 auto; padding: clamp(1.2rem, 4vw, 3.5rem) clamp(1rem, 3vw, 2.5rem) 4rem; }
h1 { font-size: clamp(1.9rem, 4.2vw, 3.1rem); line-height: 1.08; letter-spacing: -.025em; margin: 0 0 .9rem; }
h2 { font-size: 1.45rem; letter-spacing: -.015em; margin: 4rem 0 .3rem; }
h3 { font-size: 1.05rem; margin: 0; }
p { margin: 0 0 1rem; max-width: 68ch; }
.lead { font-size: clamp(1.02rem, 1.5vw, 1.2rem); color: var(--faint); }
.eyebrow { color: var(--accent); font-size: .8rem; font-weight: 650; letter-spacing: .09em; text-transform: uppercase; }
.note { color: var(--faint); font-size: .92rem; max-width: 100ch; }
img { display: block; width: 100%; height: auto; }
figure { margin: 0; min-width: 0; }
figcaption { color: var(--faint); font-size: .8rem; line-height: 1.35; margin-top: .4rem; }
.card {
  background: var(--sheet); border: 1px solid var(--line); border-radius: 14px; box-shadow: var(--shadow);
  padding: clamp(.8rem, 1.6vw, 1.25rem); margin-top: 1.1rem;
}
.head { display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: baseline; margin-bottom: .8rem; }
.head .note { margin: 0; }
.picture { border-radius: 8px; overflow: hidden; background: var(--well); position: relative; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.missing {
  background: repeating-linear-gradient(45deg, var(--gap) 0 5px, var(--hatch) 5px 6.5px);
}
.row { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 1rem; align-items: start; }
.tops { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; }
.cell { display: flex; align-items: center; justify-content: center; background: var(--well); border-radius: 7px; }
.cell { aspect-ratio: 4 / 3; padding: 6%; overflow: hidden; }
.cell img { width: auto; height: auto; max-width: 100%; max-height: 100%; object-fit: contain; min-height: 0; }
.cell img.grown { width: 100%; height: 100%; }
.cell.whole { padding: 0; }
.cell.whole img { width: 100%; height: 100%; }
.tops figcaption {
  margin-top: .15rem; font-size: .72rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
}
b, .score { color: var(--ink); font-weight: 650; font-variant-numeric: tabular-nums; }
.split { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); gap: 1.4rem; align-items: start; }
.hits { display: grid; gap: .6rem .6rem; align-items: start; }
.hits figcaption { font-size: .72rem; margin-top: .2rem; overflow-wrap: anywhere; }
.sources { list-style: none; margin: .9rem 0 0; padding: 0; font-size: .78rem; }
.sources li { display: grid; grid-template-columns: .9em 3.2rem minmax(0, 5fr) minmax(0, 7fr); gap: .55rem; }
.sources li { padding: .13rem 0; align-items: baseline; border-bottom: 1px solid var(--line); }
.sources b { text-align: right; }
.sources span { overflow-wrap: anywhere; }
.sources span:last-child { color: var(--faint); }
.swatch {
  flex: none; display: inline-block; width: .75em; height: .75em; border-radius: 3px;
  box-shadow: inset 0 0 0 1px rgb(128 128 128 / .35);
}
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .8rem 1.2rem; margin: 0; }
.numbers div { border-top: 2px solid var(--line); padding-top: .45rem; }
.numbers dt { color: var(--faint); font-size: .8rem; }
.numbers dd { margin: 0; font-size: 1.45rem; font-weight: 650; letter-spacing: -.02em; overflow-wrap: anywhere; }
.class { display: grid; grid-template-columns: 8.5rem minmax(0, 15rem) minmax(0, 1fr); gap: 1rem; align-items: center; }
.class { padding: .5rem 0; border-top: 1px solid var(--line); }
.class:first-child { border-top: 0; }
.bar { height: .6rem; border-radius: 3px; min-width: 3px; box-shadow: inset 0 0 0 1px rgb(128 128 128 / .35); }
.count { font-size: .8rem; color: var(--faint); font-variant-numeric: tabular-nums; }
.strip { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: .45rem; }
.strip .cell { aspect-ratio: 1; }
.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.4rem; }
footer {
  color: var(--faint); font-size: .82rem; margin-top: 3.5rem; border-top: 1px solid var(--line); padding-top: 1rem;
}
@media (max-width: 900px) {
  .row { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .split, .two { grid-template-columns: minmax(0, 1fr); }
  .class { grid-template-columns: 7rem minmax(0, 1fr); }
  .class .strip { grid-column: 1 / -1; }
}
@media (max-width: 560px) {
  .row { gap: .7rem; }
  .hits { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
  .tops figcaption { white-space: normal; font-size: .66rem; }
  .hits .first { grid-column: 1 / -1; max-width: 60%; margin-top: .6rem; }
}
@media print { .card { break-inside: avoid; box-shadow: none; } }
"""

REBUILD_STYLE = """
:root { --up: #2f6f5e; --down: #b1522c; --bar: #2f6f5e; --rest: #a9c4bb; --bad: #d98a5f; --gone: #c9c9c5; }
@media (prefers-color-scheme: dark) {
  :root { --up: #7cc9b2; --down: #ef9d74; --bar: #58b39a; --rest: #345d52; --bad: #c9713f; --gone: #55555c; }
}
h2 { margin-top: 3.4rem; }
.numbers { grid-template-columns: repeat(8, minmax(0, 1fr)); }
.numbers dd { white-space: nowrap; }
.numbers small { display: block; font-size: .78rem; font-weight: 500; letter-spacing: 0; color: var(--faint); }
.up { color: var(--up); } .down { color: var(--down); }
.stack { display: flex; gap: 2px; height: 1.5rem; border-radius: 7px; overflow: hidden; background: var(--well); }
.stack span { min-width: 3px; }
.legend { display: flex; flex-wrap: wrap; gap: .35rem 1.5rem; margin: .8rem 0 0; padding: 0; list-style: none; }
.legend li { display: flex; align-items: baseline; gap: .45rem; font-size: .88rem; color: var(--faint); }
.new { background: var(--bar); } .reused { background: var(--rest); } .rejected { background: var(--bad); }
.vanished, .forgotten { background: var(--gone); }
details { margin-top: .9rem; border-top: 1px solid var(--line); padding-top: .7rem; font-size: .88rem; }
summary { cursor: pointer; color: var(--faint); }
summary b { margin-right: .25rem; }
.names { columns: 17rem; margin: .6rem 0 0; padding: 0; list-style: none; font-size: .8rem; }
.names li { overflow-wrap: anywhere; break-inside: avoid; padding: .06rem 0; }
.bars { display: grid; grid-template-columns: minmax(5rem, auto) minmax(0, 1fr) auto; gap: .42rem 1rem; }
.bars { align-items: center; font-size: .9rem; font-variant-numeric: tabular-nums; }
.bars .name { overflow-wrap: anywhere; }
.bars .value { text-align: right; color: var(--faint); white-space: nowrap; }
.track { position: relative; height: .85rem; border-radius: 4px; background: var(--well); overflow: hidden; }
.track i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; min-width: 2px; }
.track i.then { border-right: 2px solid var(--ink); border-radius: 0; opacity: .75; }
.columns { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 3rem; }
.columns .bars { align-content: start; }
.chart svg { display: block; width: 100%; height: 11rem; overflow: visible; }
.chart rect { fill: var(--bar); }
.chart line { stroke: var(--line); vector-effect: non-scaling-stroke; }
.axis { display: flex; justify-content: space-between; color: var(--faint); font-size: .75rem; margin-top: .35rem; }
.chart figcaption { margin-top: .5rem; }
.peak { color: var(--faint); font-size: .75rem; margin-bottom: .3rem; }
.sheet { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: .8rem .6rem; }
.sheet .cell { aspect-ratio: 1; }
.sheet figcaption { font-size: .72rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.reasons { display: flex; flex-wrap: wrap; gap: 0 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 11.5rem), 1fr)); gap: 1.1rem 1rem; }
.tile { aspect-ratio: 4 / 3; border-radius: 8px; overflow: hidden; background: var(--well); display: grid; }
.tile { place-items: center; }
.tile img { width: 100%; height: 100%; object-fit: cover; }
.tile span { color: var(--faint); font-size: .78rem; padding: .5rem; text-align: center; overflow-wrap: anywhere; }
.tile.plain { border: 1.5px dashed var(--line); background: none; }
.tiles figcaption b { display: block; overflow-wrap: anywhere; }
.tiles p { margin: 0; overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; }
.tiles p { overflow-wrap: anywhere; }
.badge { border-radius: 99px; padding: .1rem .6rem; font-size: .78rem; font-weight: 600; background: var(--well); }
.badge { color: var(--faint); }
.places { list-style: none; margin: 0; padding: 0; font-size: .88rem; }
.places li { display: flex; flex-wrap: wrap; gap: .1rem .9rem; padding: .35rem 0; border-top: 1px solid var(--line); }
.places li:first-child { border-top: 0; }
.places span { color: var(--faint); overflow-wrap: anywhere; }
@media (max-width: 1240px) { .numbers { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
@media (max-width: 900px) {
  .columns { grid-template-columns: minmax(0, 1fr); gap: .42rem; }
  .sheet { grid-template-columns: repeat(6, minmax(0, 1fr)); }
}
@media (max-width: 560px) {
  .numbers { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .sheet { grid-template-columns: repeat(4, minmax(0, 1fr)); }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .bars { gap: .42rem .6rem; font-size: .82rem; }
}
"""

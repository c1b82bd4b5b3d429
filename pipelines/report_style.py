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

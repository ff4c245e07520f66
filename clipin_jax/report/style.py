"""The style sheet of all pages: light and dark, from the width of a phone up."""

_LIGHT = (
    "#2563c9", "#d4541f", "#14866d", "#9440b8", "#a67c00",
    "#c72f6b", "#1d8aa6", "#7a6046", "#5866d6", "#5d8a16",
)  # fmt: skip
_DARK = (
    "#74a8ff", "#ff9a6b", "#52cfb0", "#d391f0", "#e3bd4e",
    "#ff85b3", "#66c9e3", "#c9ab8a", "#a3acff", "#a9d35c",
)  # fmt: skip
COLOURS = len(_LIGHT)


def _colours(values: tuple[str, ...]) -> str:
    return "".join(f"--c{i}:{value};" for i, value in enumerate(values))


# The variables of either theme.
LIGHT_THEME = f"""{_colours(_LIGHT)}
  --page: #fbfbf9; --card: #fff; --ink: #1d2126; --soft: #626a73; --rule: #e4e4df;
  --grid: #ecece7; --good: #14866d; --bad: #c2410c;"""
DARK_THEME = f"""{_colours(_DARK)}
  --page: #14171a; --card: #1c2024; --ink: #e7e9ea; --soft: #9aa3ab; --rule: #30363c;
  --grid: #292e33; --good: #52cfb0; --bad: #ff9a6b;"""
STYLE = (
    f"""
:root {{ color-scheme: light dark; {LIGHT_THEME} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK_THEME} }} }}
"""
    + "".join(f".c{i} {{ --run: var(--c{i}) }}\n" for i in range(COLOURS))
    + """
* { box-sizing: border-box }
body { margin: 0 auto; padding: 0 1.25rem 4rem; max-width: 76rem; color: var(--ink);
  background: var(--page); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; }
header { padding: 2.2rem 0 .4rem; border-bottom: 1px solid var(--rule) }
h1 { margin: 0; font-size: 1.8rem; line-height: 1.2; letter-spacing: -.015em;
  overflow-wrap: anywhere }
.kind { margin: 0 0 .2rem; color: var(--soft); font-size: .8rem }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--rule);
  color: var(--soft); font-size: .8rem }
h2 { margin: 2.2rem 0 .8rem; font-size: 1.25rem; letter-spacing: -.01em }
h3 { margin: 1.6rem 0 .6rem; font-size: .95rem; font-weight: 600 }
h4 { margin: .8rem 0 .5rem; font-size: .85rem; font-weight: 600; color: var(--soft) }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: .6rem 0;
  font-size: .88rem }
a { color: var(--c0); text-decoration: none }
a:hover { text-decoration: underline }
:focus-visible { outline: 2px solid var(--c0); outline-offset: 2px }
.note { margin: .2rem 0 .7rem; max-width: 52rem; color: var(--soft);
  font-size: .86rem }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px }
table { border-collapse: collapse; width: 100%; font-size: .87rem;
  font-variant-numeric: tabular-nums }
th, td { padding: .38rem .8rem; text-align: left; vertical-align: top;
  border-top: 1px solid var(--grid) }
thead th { border-top: 0; color: var(--soft); font-weight: 500;
  vertical-align: bottom }
tbody th { font-weight: 400 }
tbody:first-child tr:first-child > * { border-top: 0 }
td small, th small { color: var(--soft); font-size: .78rem; white-space: nowrap }
.numbers th:nth-child(n+2), .numbers td:nth-child(n+2) { text-align: right }
.numbers td:nth-child(n+2) { white-space: nowrap }
.scroll:has(.numbers) { width: fit-content; max-width: 100% }
.numbers { width: auto; border-collapse: separate; border-spacing: 0 }
.numbers th:first-child:not([colspan]), .numbers td:first-child { position: sticky;
  left: 0; z-index: 1; max-width: 22rem; background: var(--card) }
.config td { overflow-wrap: anywhere; min-width: 7rem }
@media (min-width: 40rem) { .config td:first-child { width: 1%;
  overflow-wrap: normal } }
main { padding-top: .6rem }
.group { padding-top: 1rem; font-weight: 600 }
th button { all: unset; cursor: pointer }
th button:focus-visible { outline: 2px solid var(--c0) }
th button::after { content: "\\a0\\2195"; opacity: .55 }
[aria-sort=ascending] button::after { content: "\\a0\\2191"; opacity: 1 }
[aria-sort=descending] button::after { content: "\\a0\\2193"; opacity: 1 }
.bar { position: relative; display: block; height: 3px; margin-top: 2px;
  border-radius: 2px; background: var(--grid) }
.bar i { position: absolute; top: 0; height: 100% }
.bar .fill { left: 0; border-radius: 2px; background: var(--run, var(--c0));
  opacity: .8 }
.bar .mark { top: -2px; width: 1px; height: 7px; background: var(--soft) }
code { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
.run { display: inline-flex; align-items: baseline; gap: .45em }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; margin: .2rem 0 .7rem;
  font-size: .88rem }
.charts { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)) }
.wide-charts { grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 24rem), 36rem)) }
.columns { display: grid; gap: 0 1.2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)) }
.columns > * { min-width: 0 }
figure { margin: 0 }
.chart { padding: .6rem .6rem .2rem; background: var(--card);
  border: 1px solid var(--rule); border-radius: 8px }
.chart figcaption { display: flex; justify-content: space-between; gap: .8rem;
  padding: 0 .3rem .3rem; font-size: .8rem }
.chart b { font-weight: 600; overflow-wrap: anywhere }
.last { color: var(--soft); white-space: nowrap;
  font-variant-numeric: tabular-nums }
svg { display: block; width: 100%; height: auto }
svg text { fill: var(--soft); font-size: 11px }
.axes line { stroke: var(--grid) }
.axes .y { text-anchor: end }
svg .name { fill: var(--ink) }
.level line { stroke: var(--soft); stroke-dasharray: 3 3 }
.level text { paint-order: stroke; stroke: var(--card); stroke-width: 3px }
path { fill: none; stroke: var(--run); stroke-width: 1.5; stroke-linejoin: round }
.raw { stroke-width: 1; opacity: .28 }
.area { fill: var(--run); stroke: none; opacity: .12 }
.dot { fill: var(--run) }
.tip { fill: var(--run); opacity: 0 }
.tip:hover { opacity: .45 }
details { margin: .6rem 0 }
summary { cursor: pointer; padding: .3rem 0; font-size: .9rem }
summary h3 { display: inline; margin: 0 }
summary + .charts { margin-top: .4rem }
.cards { display: grid; gap: .8rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)) }
.wide-cards { grid-template-columns:
  repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
figure:not(.chart) > figcaption { margin-top: .15rem; color: var(--soft);
  font-size: .74rem; font-variant-numeric: tabular-nums }
.card { padding: .7rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; font-size: .86rem }
.card p { margin: .5rem 0 0; overflow-wrap: anywhere }
.card .note { margin: .3rem 0 0; font-size: .78rem }
.views { display: flex; gap: .5rem }
.views > * { flex: 1 1 0; min-width: 0 }
img { display: block; width: 100%; height: auto; border-radius: 4px }
.pixels { image-rendering: pixelated }
.gap { display: grid; place-items: center; min-height: 4rem; color: var(--soft);
  background: var(--grid); border-radius: 4px; font-size: .75rem }
.bars rect { fill: var(--run); opacity: .85 }
.bars rect:hover { opacity: 1 }
.s1 .line { stroke-dasharray: 6 2.5 } .s2 .line { stroke-dasharray: 1.5 2.5 }
.s3 .line { stroke-dasharray: 8 2.5 1.5 2.5 } .s4 .line { stroke-dasharray: 3 2 }
.interval { stroke: var(--run); stroke-width: 1.3 }
.key { flex: none; width: 24px; height: 10px; align-self: center }
.forest { width: 9rem; height: 14px; margin-top: .25em }
.forest .zero { stroke: var(--soft); stroke-dasharray: 2 2 }
@media (max-width: 40rem) { body { padding: 0 .8rem 3rem }
  th, td { padding: .34rem .55rem }
  .numbers th:first-child:not([colspan]), .numbers td:first-child {
    min-width: 6.5rem; max-width: 40vw } }
@media print { :root { --page: #fff } body { max-width: none; padding: 0;
    font-size: 11px }
  nav, .choices, th button::after { display: none }
  .scroll { overflow: visible; border: 0 } table { font-size: .8rem }
  th, td { padding: .25rem .35rem } td small, th small { white-space: normal }
  .numbers { width: 100% } .numbers td:nth-child(n+2) { white-space: normal }
  h2, h3, summary { break-after: avoid } tr, .card, figure { break-inside: avoid } }
"""
)

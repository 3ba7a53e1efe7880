"""A page of HTML that opens without a network: style, tables, and figures drawn when they come into view."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

#: of every page
STYLE = """
:root{--ink:#23272f;--soft:#667085;--line:#e4e7ec;--blue:#1f5fa8}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;max-width:1240px;margin:0 auto;
padding:1.6rem 1.2rem 5rem;color:var(--ink);background:#fff}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .3rem;font-weight:650}
h2{font-size:1.25rem;margin:3rem 0 .5rem;padding-top:.6rem;border-top:1px solid var(--line);font-weight:620}
h3{font-size:1rem;margin:1.4rem 0 .3rem;font-weight:600}
p{max-width:82ch;margin:.45rem 0}
a{color:var(--blue);text-decoration:none} a:hover{text-decoration:underline}
.note,small{color:var(--soft)} .facts{color:var(--soft);max-width:none}
nav{margin:.9rem 0 1.2rem;padding-bottom:.8rem;display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;font-size:14px;
border-bottom:1px solid var(--line)}
.scroll{overflow:auto;max-height:88vh;margin:.8rem 0}
table{border-collapse:separate;border-spacing:0;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.36rem .5rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:baseline}
th{vertical-align:bottom;font-weight:600;line-height:1.25}
thead th{position:sticky;top:0;background:#fff;border-bottom:1.5px solid #98a2b3;z-index:2}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:inherit;z-index:1}
thead th:first-child{z-index:3;background:#fff} tbody tr{background:#fff}
td small{display:block;font-size:11px;line-height:1.1}
.card{min-width:60%} .card td{white-space:nowrap} .card th[title],.card td[title]{cursor:help}
tr.real{background:#e8f1fb} tr.floor{background:#f2f4f7} tr.warning{background:#fdf0e1} tr.oracle{background:#eef8f3}
.tag{font-size:11px;color:var(--soft);margin-left:.4rem}
.best{background:#a9dfb4;font-weight:650} .shared{background:#e0f4e3}
.missing{color:#98a2b3}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;font-size:13px;color:var(--soft)}
.key b{font-weight:400;padding:0 .45rem;border-radius:3px;color:var(--ink)}
details{margin:.7rem 0;border:1px solid var(--line);border-radius:6px;padding:.1rem .9rem}
details[open]{padding-bottom:.7rem} summary{cursor:pointer;padding:.45rem 0;font-weight:550}
.figure{margin:.6rem 0 1.4rem}
.guide td,.guide th{text-align:left;vertical-align:top}
.guide td:first-child{font-weight:600} .guide .group td{background:#f2f4f7;font-weight:600}
pre{font-size:12px;line-height:1.4;overflow:auto;max-height:32rem}
@media print{.scroll{max-height:none} nav{display:none}}
"""

#: draws a figure when it comes near the window, so that the page opens at once, and all of them before printing
SCRIPT = """
const draw=e=>{if(e.dataset.drawn)return;e.dataset.drawn=1;
const f=JSON.parse(e.nextElementSibling.textContent);
Plotly.newPlot(e,f.data,f.layout,{responsive:true,displaylogo:false})};
const figures=[...document.querySelectorAll('.figure')];
const seen=new IntersectionObserver(a=>a.forEach(i=>{if(i.isIntersecting){draw(i.target);seen.unobserve(i.target)}}),
{rootMargin:'900px'});
figures.forEach(e=>seen.observe(e));
addEventListener('beforeprint',()=>figures.forEach(draw));
"""


def page(title: str, body: str, style: str = "") -> str:
    """A self-contained HTML page with Plotly and the common style, to which ``style`` adds."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{body}<script>{SCRIPT}</script></body></html>"
    )


def embedded(figure: go.Figure, name: str) -> str:
    """A figure as data, drawn by the page's script; ``name`` is its anchor."""
    data = figure.to_json().replace("</", "<\\/")
    height = figure.layout.height or 450
    return (
        f'<div class="figure" id="figure-{escape(name)}" style="min-height:{int(height)}px"></div>'
        f'<script type="application/json">{data}</script>'
    )


def folded(summary: str, content: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def plain_table(table: pd.DataFrame) -> str:
    """A table as HTML, numbers rounded to three decimals, underscores in its head left out."""
    rounded = table.apply(lambda c: c.round(3) if np.issubdtype(c.dtype, np.floating) else c)
    rounded = rounded.rename(columns=lambda name: str(name).replace("_", " "))
    return f'<div class="scroll">{rounded.to_html(index=False, border=0, na_rep="–")}</div>'

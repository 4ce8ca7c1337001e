"""The page's style sheet: light and dark as the reader's system has it, and fit for a printer."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2433;--dim:#6a7388;--paper:#f5f6f9;--card:#fff;--line:#e2e5ec;
--hot:#c62f3d;--hot-soft:#fbe9eb;--calm:#2a7d52;--healthy:#9aa5b8}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8f1;--dim:#97a1b5;--paper:#12161f;--card:#1a202c;
--line:#2d3546;--hot:#ff7a85;--hot-soft:#3a2129;--calm:#6fd39c;--healthy:#65718a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1020px;margin:0 auto;padding:28px 20px 60px}
header,section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:20px 24px;
margin-bottom:16px}
header{border-top:4px solid var(--hot)}
h1{font-size:24px;line-height:1.3;margin:8px 0 14px;overflow-wrap:anywhere}
h1.calm{color:var(--calm)}
h2{font-size:13px;letter-spacing:.06em;text-transform:uppercase;color:var(--dim);margin:0 0 14px}
h3{font-size:15px;font-weight:600;margin:18px 0 6px;overflow-wrap:anywhere}
p{margin:4px 0}
.dim,.uid{color:var(--dim)}
.uid{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 16px;margin:14px 0}
dt{color:var(--dim)}
dd{margin:0;overflow-wrap:anywhere;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
font-size:13px}
.fault{border:1px solid var(--hot);color:var(--hot);border-radius:4px;padding:1px 7px;font-size:12px}
.confidence{display:flex;align-items:center;gap:12px;color:var(--dim)}
.meter{display:inline-block;width:160px;height:8px;border-radius:4px;background:var(--line);overflow:hidden}
.meter i{display:block;height:100%;background:var(--hot)}
.service{display:inline-block;border-radius:4px;padding:1px 7px;font-size:12px;font-weight:600;color:#fff;
white-space:nowrap}
.s0{background:#3563c9}.s1{background:#0b7f76}.s2{background:#8a4fc0}.s3{background:#b0611a}
.s4{background:#2f7d3b}.s5{background:#b23a78}.s6{background:#4d6b8a}.s7{background:#7a6a12}
ol.evidence{list-style:none;margin:0;padding:0}
.evidence li{padding:10px 0;border-top:1px solid var(--line)}
.evidence li:first-child{border-top:0;padding-top:0}
.evidence time{color:var(--dim);font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
blockquote{margin:6px 0;padding:7px 12px;border-left:3px solid var(--hot);background:var(--paper);
font:13px/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
figure{margin:0 0 20px}
figcaption{color:var(--dim);font-size:13px;overflow-wrap:anywhere}
b.window{color:var(--hot)}
.chart{width:100%;height:auto;display:block}
.chart text{font-size:11px;fill:var(--dim)}
.chart .axis{stroke:var(--line)}
.chart rect.baseline{fill:var(--healthy);opacity:.55}
.chart rect.window{fill:var(--hot);opacity:.75}
.chart .median{stroke-width:1.5;stroke-dasharray:3 3}
.chart .median.window{stroke:var(--hot)}
.chart .median.baseline{stroke:var(--healthy)}
table{border-collapse:collapse;width:100%;font-size:13px}
th{text-align:left;color:var(--dim);font-weight:500}
th,td{padding:5px 10px 5px 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
tr:first-child th{border-top:0}
th,.signals td:first-child,.figures td:last-child{white-space:nowrap}
td:not(:first-child):not(:last-child){white-space:nowrap}
tr.quiet td{color:var(--dim)}
.row{display:grid;grid-template-columns:minmax(0,46%) 1fr 78px;gap:10px;align-items:center;
padding:2px 6px;border-radius:5px;font-size:13px}
.row .name{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.row.error .name{color:var(--hot)}
.row.cited,.line.cited{background:var(--hot-soft)}
.row.inferred .bar,.row.open .bar{opacity:.45}
.track{position:relative;height:12px;border-radius:3px;background:var(--paper)}
.bar{position:absolute;top:0;bottom:0;border-radius:3px}
.took{text-align:right;color:var(--dim);white-space:nowrap}
.line{font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--dim);
overflow-wrap:anywhere;border-radius:5px}
.line b.error,.line b.fatal,.gap{color:var(--hot)}
ul{margin:0;padding-left:20px}
@media print{body{background:#fff}header,section{break-inside:avoid}}
"""

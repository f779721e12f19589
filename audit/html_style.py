"""How the audit's page looks, in light, dark and on paper. Nothing is loaded from anywhere."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2330;--soft:#667085;--line:#e3e7ee;--paper:#fff;--back:#f5f6f9;--good:#16794a;
--goodback:#e7f6ee;--bad:#b42318;--badback:#fdeceb;--open:#96600a;--openback:#fdf3df;--accent:#3b5bdb;--pale:#c3cdf0}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9f0;--soft:#98a2b3;--line:#2c3442;--paper:#161b24;--back:#0e1218;
--good:#4cc38a;--goodback:#122b20;--bad:#ff7b72;--badback:#3a1917;--open:#e2b05b;--openback:#33270f;--accent:#8aa0ff;
--pale:#3a4470}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.55 system-ui,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
header,section{background:var(--paper);border:1px solid var(--line);border-radius:12px;
padding:22px 26px;margin:0 0 18px}
h1{font-size:25px;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:0 0 12px}
h3{font-size:15px;margin:18px 0 6px}
p{margin:6px 0}
ul{margin:6px 0;padding-left:20px}
code,pre{font:12.5px/1.5 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{overflow-wrap:anywhere}
code.brief,.t{white-space:nowrap}
pre{background:var(--back);border:1px solid var(--line);border-radius:8px;
padding:10px 12px;overflow:auto;max-height:420px}
.origin{color:var(--soft)}
section.loud{border:2px solid var(--bad);background:var(--badback)}
.soft,.none{color:var(--soft);font-weight:400}
.verdicts{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:12px;margin:16px 0}
.verdict{border-radius:10px;padding:13px 16px;border-left:5px solid}
.verdict strong{display:block;font-size:13px;text-transform:uppercase;letter-spacing:.04em}
.verdict span{font-size:16px;color:var(--ink)}
.verdict.good{background:var(--goodback);border-color:var(--good);color:var(--good)}
.verdict.bad{background:var(--badback);border-color:var(--bad);color:var(--bad)}
.verdict.open{background:var(--openback);border-color:var(--open);color:var(--open)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th{text-align:left;font-size:12.5px;color:var(--soft);font-weight:600;
border-bottom:1px solid var(--line);padding:6px 10px 6px 0}
td{border-bottom:1px solid var(--line);padding:7px 10px 7px 0;vertical-align:top}
tr:last-child td{border-bottom:0}
th.n,td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;padding-right:22px}
td code{white-space:nowrap;overflow-wrap:normal}
.hit{color:var(--bad);font-weight:600}
.fine{color:var(--good)}
li.added::marker{content:"+ ";color:var(--good)}
li.removed::marker{content:"\\2212  ";color:var(--bad)}
li.changed::marker{content:"~ ";color:var(--open)}
span.added{color:var(--good)}
span.removed{color:var(--bad)}
article.manifest{border-top:1px solid var(--line);padding:4px 0 10px}
article.manifest:first-of-type{border-top:0}
summary{cursor:pointer;color:var(--accent)}
.meter{display:inline-block;width:60px;height:7px;border-radius:4px;background:var(--line);
margin-left:8px;overflow:hidden}
.meter i{display:block;height:100%;background:var(--accent)}
.timeline{width:100%;min-width:640px;height:auto;font:12.5px system-ui,sans-serif}
.timeline text{fill:var(--ink)}
.timeline .soft{fill:var(--soft)}
.timeline .end{text-anchor:end}
.timeline .mark{text-anchor:middle;fill:var(--accent);font-weight:600}
.timeline .open{fill:var(--accent)}
.timeline .closed{fill:var(--pale)}
.timeline .manifest{stroke:var(--accent);stroke-width:1.4;stroke-dasharray:3 3}
.timeline .recovery{fill:var(--open)}
.timeline .bar{fill:var(--good)}
.legend{color:var(--soft);font-size:13px}
.swatch{display:inline-block;width:14px;height:10px;border-radius:3px;margin:0 4px 0 14px}
.swatch.open{background:var(--accent)}
.swatch.closed{background:var(--pale)}
.swatch.line{width:2px;height:14px;background:var(--accent);vertical-align:middle}
.swatch.tri{width:auto;color:var(--open);vertical-align:middle;line-height:10px}
@media(max-width:520px){main{padding:12px 8px 40px}header,section{padding:16px 14px}h1{font-size:22px}}
@media print{.timeline{min-width:0}body{background:#fff}header,section{border:0;padding:8px 0}pre{max-height:none}}
""".strip()

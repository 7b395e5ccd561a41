"""The style sheet of HTML reports: light and dark, for phones and large screens."""

STYLE = """
:root{--bg:#f6f7f9;--panel:#fff;--ink:#1d2329;--dim:#5c6670;--line:#d5d9de;--heat:#77b2e8;--accent:#1c6fb5}
@media (prefers-color-scheme:dark){:root{--bg:#14181c;--panel:#1d2329;--ink:#e7ebef;--dim:#9aa5b1;
--line:#39424b;--heat:#2465a3;--accent:#62aef0}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 16px 48px}
header{margin:0 4px 20px}
h1{font-size:1.7rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 10px}
h3{font-size:1rem;margin:18px 0 6px;overflow-wrap:anywhere}
h4{font-size:.85rem;margin:12px 0 6px;color:var(--dim);font-weight:600;text-transform:capitalize}
.kind{margin:0;color:var(--accent);font-size:.85rem;font-weight:600}
.lead{margin:8px 0 0;font-size:1.05rem;overflow-wrap:anywhere}
.note{margin:0 0 8px;color:var(--dim);font-size:.9rem}
section{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:16px;margin:0 0 16px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem;min-width:100%}
th,td{padding:6px 10px;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:500}
thead th{color:var(--dim);font-size:.82rem}
tbody th{white-space:normal;overflow-wrap:anywhere;min-width:7.5em}
tbody tr:last-child>*{border-bottom:0}
.n{text-align:right}
strong{font-weight:700}
abbr{text-decoration:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 12px;font-size:.88rem;color:var(--dim)}
.legend span{overflow-wrap:anywhere}
.swatch{vertical-align:-1px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));
gap:20px 28px;align-items:start}
.chart{display:block;width:100%;height:auto}
.wide{display:block;height:auto}
.sweep .chart{max-width:560px}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr));gap:16px}
figure{margin:0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:4px}
.pair div{position:relative}
.pair img{display:block;width:100%;height:auto;border-radius:4px}
.pair span{position:absolute;left:6px;top:6px;background:rgba(0,0,0,.65);color:#fff;font-size:.72rem;
line-height:1;padding:4px 6px;border-radius:4px}
figcaption{font-size:.86rem;color:var(--dim);margin-top:4px;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:minmax(8em,max-content) 1fr;gap:2px 18px;margin:0;font-size:.9rem}
dt{color:var(--dim);overflow-wrap:anywhere}
dd{margin:0;overflow-wrap:anywhere;min-width:0}
details{border-top:1px solid var(--line);padding:8px 0}
summary{cursor:pointer;overflow-wrap:anywhere}
details dl{margin-top:8px}
pre{font-size:.82rem;line-height:1.4;overflow-x:auto;margin:8px 0 0}
@media (max-width:520px){main{padding:16px 8px 32px}section{padding:12px}dl{grid-template-columns:1fr}
dd{margin-bottom:6px}}
@media print{section{break-inside:avoid;border:0}}
"""

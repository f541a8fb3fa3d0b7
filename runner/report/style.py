"""The page's style sheet: light and dark, from a phone to a desk."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1c1f24; --muted: #646b76; --line: #e2e5ea;
  --card: #f6f7f9; --accent: #2166c9; --tint: #e8f0fc; --warn: #b45309;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181d; --ink: #e4e7ec; --muted: #98a0ac; --line: #2d323a;
    --card: #1c2026; --accent: #6ea8fe; --tint: #1d2b42; --warn: #fbbf24;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif;
}
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 2.75rem 0 .9rem; font-size: 1.15rem; }
h3 { margin: 1.4rem 0 .5rem; font-size: 1rem; }
p { margin: .8rem 0; max-width: 46rem; }
a { color: var(--accent); text-decoration-thickness: 1px; }
.meta { color: var(--muted); font-size: .9rem; overflow-wrap: anywhere; }
.warn { color: var(--warn); }
code, pre { font: .85rem/1.5 ui-monospace, monospace; }
pre {
  margin: .6rem 0; padding: .8rem 1rem; overflow-x: auto;
  background: var(--card); border-radius: .5rem;
}
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.6rem 0 0; }
.tile {
  flex: 1 1 8rem; padding: .8rem 1rem; border-radius: .5rem; background: var(--card);
}
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 650; }
.tile span { color: var(--muted); font-size: .85rem; }
.grid {
  display: grid; gap: 1.75rem 2.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
}
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .2rem; }
figcaption span { font-weight: 400; color: var(--muted); }
figure img { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .6rem; text-align: right; white-space: nowrap; }
th { color: var(--muted); font-weight: 400; font-size: .85rem; }
td { border-top: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
table.settings td:first-child {
  white-space: normal; overflow-wrap: anywhere; min-width: 19rem;
}
tr.ours td { font-weight: 650; color: var(--accent); }
td.bar { width: 30%; min-width: 4rem; }
td.bar i {
  display: block; height: .6rem; border-radius: 0 .2rem .2rem 0;
  background: var(--line);
}
tr.ours td.bar i { background: var(--accent); }
@media (max-width: 40rem) {
  td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 9.5rem; }
  td.bar { display: none; }
  th, td { padding: .35rem .4rem; font-size: .9rem; }
}
blockquote {
  margin: 0 0 .9rem; padding: .7rem 1rem; background: var(--card);
  border-radius: .5rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem/1.5 ui-monospace, monospace;
}
blockquote b { color: var(--accent); font-weight: 600; }
details { border-top: 1px solid var(--line); padding: .65rem 0; }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; font-weight: 600; }
summary span { font-weight: 400; color: var(--muted); }
"""

"use strict";
// The two charts used again and again: a matrix of cells, and lines over rounds.

// rows, columns: names. cell(i, j): {className, fill, ink, mark, tip, data}.
// Many rows and fewer columns are turned: a wide picture scrolls better than a tall one.
function matrix(options) {
  const { rows, columns, cell, rowWord = "", columnWord = "" } = options;
  if (rows.length <= 30 || rows.length <= columns.length) return uprightMatrix(options);
  return uprightMatrix({ ...options, rows: columns, columns: rows, cell: (i, j) => cell(j, i), rowWord: columnWord ? `${columnWord} ` : "", columnWord: rowWord.trim() || "class" });
}
function uprightMatrix({ rows, columns, cell, label, room, rowWord = "", columnWord = "", widest = 40, highest = 26 }) {
  const named = rows.map((name) => `${rowWord}${name}`);
  const left = Math.min(150, 12 + 6.7 * Math.max(...named.map((n) => n.length), 3));
  const w = Math.max(11, Math.min(widest, (room - left - 6) / columns.length));
  const h = rows.length > 30 ? Math.max(13, Math.min(highest, w)) : highest;
  const longest = Math.max(...columns.map((n) => String(n).length));
  const slanted = longest * 7 > w + 4 && longest > 2;
  const top = (slanted ? Math.min(74, 12 + longest * 4.9) : 20) + (columnWord ? 16 : 0);
  const right = slanted ? 34 : 6;
  const node = canvas(left + w * columns.length + right, top + h * rows.length + 4, label);
  if (columnWord) put(node, "text", { x: left, y: 11, class: "soft" }, { text: columnWord });
  const everyColumn = slanted ? Math.ceil(14 / w) : Math.ceil((longest * 7 + 4) / w);
  columns.forEach((name, j) => {
    if (j % everyColumn) return;
    const x = left + w * (j + 0.5), y = top - 7;
    const text = String(name).length > 14 ? `${String(name).slice(0, 13)}…` : name;
    put(node, "text", slanted ? { x: 0, y: 0, transform: `translate(${x - 2} ${y}) rotate(-42)`, class: "soft" } : { x, y, "text-anchor": "middle", class: "soft" }, { text, tip: String(name) });
  });
  const everyRow = Math.ceil(13 / h), font = Math.max(7, Math.min(12.5, 0.52 * Math.min(w, h)));
  rows.forEach((_, i) => {
    const y = top + h * (i + 0.5);
    const text = named[i].length > 21 ? `${named[i].slice(0, 20)}…` : named[i];
    if (i % everyRow === 0) put(node, "text", { x: left - 8, y, "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text, tip: named[i] });
    columns.forEach((__, j) => {
      const c = cell(i, j), gap = w > 18 ? 1 : 0.5;
      const style = c.fill ? { style: `fill:${c.fill}` } : {};
      put(node, "rect", { x: left + w * j + gap, y: top + h * i + gap, width: w - 2 * gap, height: h - 2 * gap, rx: Math.min(3, w / 6), class: `cell ${c.className || ""}`, ...style }, { tip: c.tip, data: c.data });
      if (!c.mark || (c.mark.length > 1 && w < 23)) return;
      const size = c.mark.length > 1 ? Math.min(11, w / 2.5) : font;
      put(node, "text", { x: left + w * (j + 0.5), y, class: `mark ${c.className || ""}`, style: `fill:${c.ink || "var(--on)"};background:none;font-size:${size}px` }, { text: c.mark });
    });
  });
  return node;
}

// Marks for rounds on the x axis, at most as many as fit.
function roundScale(left, right) {
  const first = D.rounds[0], last = D.rounds[D.rounds.length - 1];
  return (n) => left + (last === first ? 0.5 : (n - first) / (last - first)) * (right - left);
}

// series: {name, points: [[round, value]], colour, dash, hollow, area}. Undefined breaks the line.
function lines({ series, title, label, width, height = 200, lowest = 0, guess = null }) {
  const l = 36, r = 12, t = 28, b = 34, node = canvas(width, height, label);
  const values = series.flatMap((s) => s.points.map(([, v]) => v)).filter((v) => !undefinedNumber(v));
  const lo = Math.min(lowest, ...values.map((v) => Math.floor(v * 10) / 10));
  const x = roundScale(l + 6, width - r - 6), y = (v) => t + (1 - (v - lo) / (1 - lo)) * (height - t - b);
  put(node, "text", { x: 0, y: 13, style: "font-weight:600;font-size:13px" }, { text: title });
  for (const v of [lo, 0, 0.25, 0.5, 0.75, 1].filter((v, i, all) => v >= lo && all.indexOf(v) === i && (v === lo || v - lo > 0.06))) {
    put(node, "line", { x1: l, x2: width - r, y1: y(v), y2: y(v), class: "axis" });
    put(node, "text", { x: l - 6, y: y(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text: +v.toFixed(2) });
  }
  if (guess !== null) put(node, "line", { x1: l, x2: width - r, y1: y(guess), y2: y(guess), stroke: "var(--chance)", "stroke-dasharray": "5 4" });
  const step = Math.max(1, Math.ceil((D.rounds.length * 24) / (width - l - r)));
  D.rounds.forEach((n, i) => { if (i % step === 0) put(node, "text", { x: x(n), y: height - b + 16, "text-anchor": "middle", class: "soft" }, { text: n }); });
  put(node, "text", { x: (l + width - r) / 2, y: height - 3, "text-anchor": "middle", class: "soft" }, { text: "round" });
  put(node, "line", { x1: x(round()), x2: x(round()), y1: t - 4, y2: height - b, class: "now" });
  for (const s of series) drawSeries(node, s, x, y, y(lo));
  return node;
}

function drawSeries(node, s, x, y, floor) {
  let pen = "M", path = "", area = "", open = [];
  const close = () => {
    if (open.length === 1) open = [[open[0][0] - 8, open[0][1]], [open[0][0] + 8, open[0][1]]]; // one round alone is still an area
    if (s.area && open.length) area += `M${open[0][0]} ${floor}${open.map(([a, b]) => `L${a} ${b}`).join("")}L${open[open.length - 1][0]} ${floor}Z`;
    open = [];
  };
  for (const [n, v] of s.points) {
    if (undefinedNumber(v)) {
      pen = "M";
      close();
      if (!s.dash) put(node, "rect", { x: x(n) - 4, y: floor - 9, width: 8, height: 9, fill: "url(#hatch)" }, { tip: `${s.name}\nround ${n}: not defined${s.why ? `: ${s.why}` : ""}` });
      continue;
    }
    path += `${pen}${x(n).toFixed(1)} ${y(v).toFixed(1)}`;
    pen = "L";
    open.push([+x(n).toFixed(1), +y(v).toFixed(1)]);
  }
  close();
  if (area) put(node, "path", { d: area, fill: s.colour, opacity: 0.16 });
  if (path) put(node, "path", { d: path, fill: "none", stroke: s.colour, "stroke-width": s.dash ? 1.5 : 2, "stroke-dasharray": s.dash || "none" });
  if (s.points.length > 60 && !s.dash) return;
  for (const [n, v] of s.points) {
    if (undefinedNumber(v)) continue;
    const tip = `${s.name}\nround ${n}: ${show(v)}`;
    if (s.dash) put(node, "circle", { cx: x(n), cy: y(v), r: 6, fill: "transparent" }, { tip });
    else put(node, "circle", { cx: x(n), cy: y(v), r: 3.5, fill: s.hollow ? "var(--paper)" : s.colour, stroke: s.colour, "stroke-width": 1.7 }, { tip });
  }
}

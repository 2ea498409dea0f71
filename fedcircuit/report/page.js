"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const $ = (id) => document.getElementById(id);
  const show = (v, digits = 3) => (v === null || v === undefined ? "not defined" : v.toFixed(digits));
  const word = Object.fromEntries([...D.verdict_words, ...D.status_words].map((w) => [w.name, w]));
  const say = (name) => name.replace("_", " ");

  function svg(width, height, label) {
    const node = document.createElementNS(NS, "svg");
    node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    node.setAttribute("width", width);
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", label);
    return node;
  }
  function put(parent, tag, attributes, text, tip) {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined && text !== null) node.textContent = text;
    if (tip) node.dataset.tip = tip;
    parent.appendChild(node);
    return node;
  }
  function replace(id, ...nodes) { $(id).replaceChildren(...nodes); }
  function nothing(text) {
    const p = document.createElement("p");
    p.className = "muted";
    p.textContent = text;
    return p;
  }
  // light to dark, one hue: reads the same in grey
  function shade(v) {
    if (v === null || v === undefined) return "url(#hatch)";
    const t = Math.max(0, Math.min(1, v));
    const mix = (a, b) => Math.round(a + (b - a) * t);
    return `rgb(${mix(247, 20)},${mix(243, 68)},${mix(232, 116)})`;
  }
  function hatch(node) {
    const defs = put(node, "defs", {});
    const p = put(defs, "pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    put(p, "rect", { width: 5, height: 5, fill: "var(--panel)" });
    put(p, "rect", { width: 1.2, height: 5, fill: "var(--soft)", opacity: 0.45 });
  }
  function cellSize(columns) { return columns > 40 ? 14 : columns > 14 ? 22 : 40; }

  // A matrix of cells: rows and columns are names, cell(row, column) says fill, symbol and tip.
  function matrix(rows, columns, cell, label, rowTitle) {
    const w = cellSize(columns.length), h = rows.length > 40 ? 13 : 26, left = 84, top = 26;
    const node = svg(left + w * columns.length + 4, top + h * rows.length + 4, label);
    hatch(node);
    const every = Math.ceil(columns.length / 26);
    columns.forEach((name, j) => {
      if (j % every) return;
      const short = name.length > 5 && w < 60 ? name.slice(0, 4) + "…" : name;
      put(node, "text", { x: left + w * (j + 0.5), y: top - 8, "text-anchor": "middle", class: "soft" }, short, name);
    });
    rows.forEach((name, i) => {
      if (h > 13 || i % 5 === 0) put(node, "text", { x: left - 8, y: top + h * (i + 0.5), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, rowTitle + name);
      columns.forEach((_, j) => {
        const c = cell(i, j);
        put(node, "rect", { x: left + w * j + 1, y: top + h * i + 1, width: w - 2, height: h - 2, rx: 3, fill: c.fill, stroke: "var(--line)", "stroke-width": 0.6 }, null, c.tip);
        if (c.mark && w >= 22 && h >= 20) put(node, "text", { x: left + w * (j + 0.5), y: top + h * (i + 0.5), class: "mark", style: c.ink ? `fill:${c.ink}` : "" }, c.mark);
      });
    });
    return node;
  }

  // Lines over rounds, y in [lo, 1].
  function lines(series, { title, label, lo = 0 }) {
    const W = 360, H = 210, l = 38, r = 12, t = 26, b = 32;
    const node = svg(W, H, label);
    const first = D.rounds[0], last = D.rounds[D.rounds.length - 1];
    const x = (n) => l + (last === first ? 0.5 : (n - first) / (last - first)) * (W - l - r);
    const y = (v) => t + (1 - (v - lo) / (1 - lo)) * (H - t - b);
    put(node, "text", { x: l, y: 14, style: "font-weight:600" }, title);
    for (const v of [0, 0.25, 0.5, 0.75, 1].filter((v) => v >= lo)) {
      put(node, "line", { x1: l, x2: W - r, y1: y(v), y2: y(v), class: "axis" });
      put(node, "text", { x: l - 6, y: y(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, v);
    }
    const step = Math.max(1, Math.ceil(D.rounds.length / 8));
    D.rounds.forEach((n, i) => { if (i % step === 0) put(node, "text", { x: x(n), y: H - b + 15, "text-anchor": "middle", class: "soft" }, n); });
    put(node, "text", { x: (l + W - r) / 2, y: H - 2, "text-anchor": "middle", class: "soft" }, "round");
    put(node, "line", { x1: x(D.rounds[at]), x2: x(D.rounds[at]), y1: t, y2: H - b, class: "now" });
    for (const s of series) {
      const points = s.points.filter(([, v]) => v !== null && v !== undefined);
      const path = points.map(([n, v], i) => `${i ? "L" : "M"}${x(n).toFixed(1)} ${y(v).toFixed(1)}`).join("");
      put(node, "path", { d: path || "M0 0", fill: "none", stroke: s.colour, "stroke-width": 2, "stroke-dasharray": s.dash || "" });
      if (!s.dash) points.forEach(([n, v]) => put(node, "circle", { cx: x(n), cy: y(v), r: 3.4, fill: s.hollow ? "var(--paper)" : s.colour, stroke: s.colour, "stroke-width": 1.6 }, null, `${s.name}\nround ${n}: ${show(v)}`));
    }
    return node;
  }
  function legend(id, entries) {
    replace(id, ...entries.map(([symbol, colour, text, title]) => {
      const span = document.createElement("span"), i = document.createElement("i");
      i.style.background = colour;
      i.textContent = symbol;
      if (colour === "#8e1b3a") i.style.color = "#fff";
      span.append(i, text);
      if (title) span.dataset.tip = title;
      return span;
    }));
  }

  let at = Math.max(0, D.rounds.length - 1);
  const round = () => String(D.rounds[at]);
  // the observer may look at every n-th round only: show the latest one looked at
  function observed(grid) {
    for (let i = at; i >= 0; i--) if (grid[String(D.rounds[i])]) return String(D.rounds[i]);
    return null;
  }

  function tiles() {
    const cells = D.verdicts[observed(D.verdicts)] || [];
    const count = (k, v) => cells.filter((c) => c[k] === v).length;
    const accuracy = D.accuracy.filter(([n]) => n <= D.rounds[at]).pop();
    const entries = [];
    if (accuracy) entries.push([show(accuracy[1]), "global accuracy"]);
    if (cells.length) {
      entries.push([`${count(3, "valid")} / ${cells.length}`, "valid client circuits"]);
      for (const w of D.verdict_words) entries.push([`${w.symbol} ${count(2, w.name)}`, w.name]);
    }
    replace("tiles", ...entries.map(([value, text]) => {
      const div = document.createElement("div"), b = document.createElement("b"), span = document.createElement("span");
      div.className = "tile";
      b.textContent = value;
      span.textContent = text;
      div.append(b, span);
      return div;
    }));
  }

  function verdictGrid() {
    const n = observed(D.verdicts);
    if (!n) return replace("verdict-grid", nothing("No circuits were looked for in this round."));
    const cells = new Map(D.verdicts[n].map((c) => [`${c[0]}/${c[1]}`, c]));
    const held = D.partition ? D.partition.counts : null;
    replace("verdict-grid", matrix(clients(n), D.classes, (i, j) => {
      const client = clients(n)[i], c = cells.get(`${client}/${j}`);
      if (!c) return { fill: "url(#hatch)", tip: `client ${client} was not looked at in round ${n}` };
      const w = word[c[2] || c[3]];
      const size = c[5] === null ? "" : `\n${c[5]} units`;
      const owns = held && held[+client] ? `\nholds ${held[+client][j]} samples of it` : "";
      return { fill: w.colour, mark: w.symbol, ink: w.name === "collapsed" ? "#fff" : "", tip: `client ${client}, class ${D.classes[j]}, round ${n}\n${say(w.name)}${size}${owns}\n${c[4] || ""}` };
    }, `verdict of every client and class in round ${n}`, "client "));
  }
  function clients(n) { return [...new Set((D.verdicts[n] || []).map((c) => String(c[0])))]; }

  function verdictBars() {
    const rounds = D.rounds.filter((n) => D.verdicts[n]);
    if (!rounds.length) return replace("verdict-bars", nothing("No circuits were looked for."));
    const W = 720, H = 200, l = 38, t = 10, b = 34;
    const node = svg(W, H, "verdicts by round");
    const most = Math.max(1, ...rounds.map((n) => D.verdicts[n].filter((c) => c[2]).length));
    const w = Math.min(64, (W - l) / rounds.length);
    const y = (v) => (v / most) * (H - t - b);
    put(node, "line", { x1: l, x2: l + w * rounds.length, y1: H - b, y2: H - b, class: "axis" });
    put(node, "text", { x: l - 6, y: t + 4, "text-anchor": "end", class: "soft" }, most);
    put(node, "text", { x: l - 6, y: H - b, "text-anchor": "end", class: "soft" }, 0);
    rounds.forEach((n, i) => {
      let base = H - b;
      for (const v of D.verdict_words) {
        const count = D.verdicts[n].filter((c) => c[2] === v.name).length;
        if (!count) continue;
        const h = y(count);
        put(node, "rect", { x: l + w * i + 3, y: base - h, width: w - 6, height: Math.max(0.5, h - 1), fill: v.colour, stroke: +n === D.rounds[at] ? "var(--ink)" : "none" }, null, `round ${n}: ${count} ${v.name}`);
        if (h > 14 && w > 22) put(node, "text", { x: l + w * (i + 0.5), y: base - h / 2, class: "mark", style: v.name === "collapsed" ? "fill:#fff" : "" }, `${v.symbol} ${count}`);
        base -= h;
      }
      if (w > 16 || i % 5 === 0) put(node, "text", { x: l + w * (i + 0.5), y: H - b + 15, "text-anchor": "middle", class: "soft" }, n);
    });
    put(node, "text", { x: l + (w * rounds.length) / 2, y: H - 2, "text-anchor": "middle", class: "soft" }, "round");
    replace("verdict-bars", node);
  }

  function accuracyPlots() {
    if (!D.accuracy.length) replace("accuracy-line", nothing("No accuracy was measured."));
    else replace("accuracy-line", lines([{ name: "accuracy", points: D.accuracy, colour: "var(--accent)" }], { title: "accuracy of the global model", label: "global accuracy by round" }));
    const rounds = D.rounds.filter((n) => D.recall[n]);
    if (!rounds.length) return replace("recall-map", nothing("No recall was measured."));
    replace("recall-map", matrix(rounds.map(String), D.classes, (i, j) => {
      const found = D.recall[rounds[i]].find((c) => c[0] === j);
      const v = found ? found[1] : null;
      return { fill: shade(v), mark: v === null ? "" : v.toFixed(2).replace("0.", "."), ink: v > 0.55 ? "#fff" : "", tip: `class ${D.classes[j]}, round ${rounds[i]}\nrecall ${show(v)}` };
    }, "recall of the global model by round and class", "round "));
  }

  function overlapPlots() {
    const layers = [...new Set(D.overlap.map((o) => o.layer))];
    if (!layers.length) return ["overlap-lines", "overlap-map"].forEach((id) => replace(id, nothing("No overlap was measured.")));
    replace("overlap-lines", ...layers.map((layer) => {
      const rows = D.overlap.filter((o) => o.layer === layer);
      const points = (key) => rows.map((o) => [o.round, o[key]]);
      return lines([
        { name: "chance level", points: points("chance"), colour: "var(--soft)", dash: "5 4" },
        { name: "IoU", points: points("iou"), colour: "var(--accent)" },
        { name: "adjusted IoU", points: points("adjusted"), colour: "var(--accent-2)", hollow: true },
      ], { title: layer === "all" ? "all layers" : `layer ${layer}`, label: `overlap in layer ${layer} by round` });
    }), key());
    if (!$("overlap-layer").options.length) layers.forEach((layer) => $("overlap-layer").add(new Option(layer === "all" ? "all layers" : layer, layer)));
    const grid = D.overlap_cells[$("overlap-layer").value] || {}, n = observed(grid);
    if (!n) return replace("overlap-map", nothing("No overlap was measured in this round."));
    const cells = new Map(grid[n].map((c) => [`${c[0]}/${c[1]}`, c]));
    const who = [...new Set(grid[n].map((c) => String(c[0])))];
    replace("overlap-map", matrix(who, D.classes, (i, j) => {
      const c = cells.get(`${who[i]}/${j}`) || [who[i], j, null, null, null, null];
      const v = c[3];
      return { fill: shade(v), mark: v === null ? "" : v.toFixed(2).replace("0.", "."), ink: v > 0.55 ? "#fff" : "", tip: `client ${who[i]}, class ${D.classes[j]}, round ${n}\nIoU ${show(c[2])}, chance ${show(c[4])}\nadjusted ${show(c[3])}, p ${c[5] === null ? "not defined" : c[5].toPrecision(2)}` };
    }, `adjusted IoU in round ${n}`, "client "));
  }
  function key() {
    const div = document.createElement("div");
    div.className = "legend";
    div.id = "overlap-legend";
    for (const [colour, text] of [["var(--accent)", "IoU"], ["var(--accent-2)", "adjusted IoU (hollow)"], ["var(--soft)", "chance level (dashed)"]]) {
      const span = document.createElement("span"), i = document.createElement("i");
      i.style.background = colour;
      span.append(i, text);
      div.append(span);
    }
    return div;
  }

  function functionPlot() {
    const n = D.functions.filter((f) => f.round <= D.rounds[at]).map((f) => f.round).pop();
    const rows = D.functions.filter((f) => f.round === n && f.in_global !== null && f.own !== null);
    if (!rows.length) return replace("function-plot", nothing("No client circuit was valid up to this round, so none can be followed into the average."));
    const S = 380, l = 46, t = 12, r = 14, b = 44, lo = Math.min(0.4, ...rows.map((f) => Math.min(f.own, f.in_global)));
    const node = svg(S, S, `client circuits in own and in global weights, round ${n}`);
    const x = (v) => l + ((v - lo) / (1 - lo)) * (S - l - r), y = (v) => S - b - ((v - lo) / (1 - lo)) * (S - t - b);
    for (const v of [0, 0.2, 0.4, 0.5, 0.6, 0.8, 1].filter((v) => v >= lo)) {
      put(node, "line", { x1: x(lo), x2: x(1), y1: y(v), y2: y(v), class: "axis" });
      put(node, "text", { x: l - 6, y: y(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, v);
      put(node, "text", { x: x(v), y: S - b + 16, "text-anchor": "middle", class: "soft" }, v);
    }
    put(node, "line", { x1: x(lo), y1: y(lo), x2: x(1), y2: y(1), class: "now" });
    put(node, "text", { x: (x(lo) + x(1)) / 2, y: S - 8, "text-anchor": "middle" }, "in the client's own weights");
    put(node, "text", { x: 0, y: 0, transform: `translate(13 ${(y(lo) + y(1)) / 2}) rotate(-90)`, "text-anchor": "middle" }, "inside the averaged weights");
    for (const f of rows) {
      const w = word[f.verdict] || word.undiscovered;
      put(node, "circle", { cx: x(f.own), cy: y(f.in_global), r: 9, fill: w.colour, stroke: "var(--ink)", "stroke-width": 0.7, opacity: 0.92 }, null, `client ${f.client}, class ${D.classes[f.class]}, round ${n}\n${f.verdict}: ${show(f.own)} own, ${show(f.in_global)} in the average`);
      put(node, "text", { x: x(f.own), y: y(f.in_global), class: "mark", style: w.name === "collapsed" ? "fill:#fff" : "" }, D.classes[f.class].length < 3 ? D.classes[f.class] : w.symbol);
    }
    replace("function-plot", node);
  }

  const bytes = new Map();
  function maskOf(n, model, index) {
    const r = D.circuits && D.circuits.rounds[n];
    if (!r) return null;
    const row = r.models.indexOf(model);
    if (row < 0 || !r.found[row][index]) return null;
    if (!bytes.has(n)) bytes.set(n, Uint8Array.from(atob(r.bits), (c) => c.charCodeAt(0)));
    const units = D.circuits.sites.reduce((sum, s) => sum + s.n_units, 0), width = Math.ceil(units / 8);
    const start = (row * D.classes.length + index) * width, data = bytes.get(n);
    return (u) => (data[start + (u >> 3)] >> (7 - (u & 7))) & 1;
  }
  function drawing() {
    const n = D.circuits ? observed(D.circuits.rounds) : null;
    if (!n) return replace("circuit-drawing", nothing("No circuits are recorded for this round."));
    const names = D.circuits.rounds[n].models.filter((m) => m !== "global"), select = $("draw-client");
    if ([...select.options].map((o) => o.value).join() !== names.join()) select.replaceChildren(...names.map((m) => new Option(m, m)));
    const client = select.value, index = +$("draw-class").value;
    const local = maskOf(n, client, index), average = maskOf(n, "global", index);
    if (!local && !average) return replace("circuit-drawing", nothing(`No circuit of class ${D.classes[index]} was found, neither in client ${client} nor in the global model.`));
    const colours = ["var(--unused)", "var(--local)", "var(--global)", "var(--both)"];
    const states = ["in neither", "client only", "global only", "in both"];
    const columns = 32, s = 21, left = 90;
    let top = 4, unit = 0;
    const total = D.circuits.sites.reduce((sum, site) => sum + Math.ceil(site.n_units / columns) * s + 18, 0);
    const node = svg(left + columns * s, total, `units of client ${client}'s and the global circuit`);
    for (const site of D.circuits.sites) {
      const seen = [0, 0, 0, 0];
      for (let u = 0; u < site.n_units; u++, unit++) {
        const state = (local && local(unit) ? 1 : 0) + (average && average(unit) ? 2 : 0);
        seen[state]++;
        put(node, "rect", { x: left + (u % columns) * s, y: top + Math.floor(u / columns) * s, width: s - 3, height: s - 3, rx: 4, fill: colours[state] }, null, `layer ${site.name}, unit ${u}: ${states[state]}`);
        const glyph = ["", "c", "g", "●"][state];
        if (glyph) put(node, "text", { x: left + (u % columns) * s + (s - 3) / 2, y: top + Math.floor(u / columns) * s + (s - 3) / 2, class: "mark", style: "font-size:10px" }, glyph);
      }
      put(node, "text", { x: 0, y: top + 13 }, `layer ${site.name}`);
      put(node, "text", { x: 0, y: top + 29, class: "soft", style: "font-size:11px" }, `${seen[3]} in both`);
      top += Math.max(2, Math.ceil(site.n_units / columns)) * s + 18;
    }
    node.setAttribute("viewBox", `0 0 ${left + columns * s} ${top}`);
    const missing = !local ? `Client ${client} has no circuit of this class. ` : !average ? "The global model has no circuit of this class. " : "";
    replace("circuit-drawing", nothing(`${missing}Round ${n}, class ${D.classes[index]}.`), node);
  }

  function table(id, head, rows) {
    const t = document.createElement("table");
    const line = (cells, tag) => { const tr = document.createElement("tr"); cells.forEach((c) => { const td = document.createElement(tag); td.textContent = c === null || c === undefined ? "" : c; tr.append(td); }); return tr; };
    const thead = document.createElement("thead"), tbody = document.createElement("tbody");
    thead.append(line(head, "th"));
    tbody.append(...rows.map((r) => line(r, "td")));
    t.append(thead, tbody);
    replace(id, t);
  }
  function setting() {
    if (D.partition) table("partition", ["client", ...D.classes, "samples"], D.partition.counts.map((c, i) => [i, ...c, c.reduce((a, b) => a + b, 0)]));
    else replace("partition", nothing("Not recorded: the server of this run does not know its clients' data."));
    if (D.seconds.length) { const names = Object.keys(D.seconds[0]).filter((k) => k !== "round"); table("seconds", ["round", ...names.map((s) => s.replace("observe:", ""))], D.seconds.map((s) => [s.round, ...names.map((k) => (s[k] === null || s[k] === undefined ? "" : s[k].toFixed(2)))])); }
  }

  function draw() {
    $("round-label").textContent = D.rounds.length ? round() : "none";
    $("round-note").textContent = D.rounds.length > 1 ? "moves every picture below" : "";
    tiles(); verdictGrid(); verdictBars(); accuracyPlots(); overlapPlots(); functionPlot(); drawing();
  }
  function tooltips() {
    const tip = $("tip");
    document.addEventListener("pointermove", (e) => {
      const target = e.target.closest ? e.target.closest("[data-tip]") : null;
      tip.hidden = !target;
      if (!target) return;
      tip.textContent = target.dataset.tip;
      tip.style.left = Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
      tip.style.top = Math.min(e.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
    });
  }

  if (!D.rounds.length) { setting(); return; }
  legend("verdict-legend", [...D.verdict_words, ...D.status_words.slice(1)].map((w) => [w.symbol, w.colour, say(w.name), w.meaning]));
  legend("draw-legend", [["●", "var(--both)", "in both"], ["c", "var(--local)", "client only"], ["g", "var(--global)", "global only"], ["", "var(--unused)", "in neither"]]);
  D.classes.forEach((name, i) => $("draw-class").add(new Option(name, i)));
  $("round").max = D.rounds.length - 1;
  $("round").value = at;
  $("round").addEventListener("input", (e) => { at = +e.target.value; draw(); });
  for (const id of ["overlap-layer"]) $(id).addEventListener("change", overlapPlots);
  for (const id of ["draw-client", "draw-class"]) $(id).addEventListener("change", drawing);
  setting(); tooltips(); draw();
})();

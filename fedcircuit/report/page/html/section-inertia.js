"use strict";
// Layer by round: movement of the global weights, with accuracy above and the inertia index below.
if (D.inertia.layers) section("inertia", (() => {
  const { layers, rounds, left_out, cells, index, below, defined, limit, top, received, snapshot, clients } = D.inertia;
  const accuracy = D.accuracy.accuracy, LEAST = 0.125, MOST = 8;
  const since = snapshot === null ? "the snapshot" : `the global weights after round ${snapshot}`;
  const measures = {
    r: { text: "relative movement", log: true, most: top, meaning: "Movement of the global weights in a round, divided by their norm before it. The stronger the colour, the more it moved." },
    drift: { text: "drift", meaning: `Distance from ${since}, divided by their norm.` },
    cosine: { text: "cosine with the snapshot", meaning: `Cosine of the angle between the global weights and ${since}: 1 is the same direction.`, most: 1 },
    kappa: { text: "coherence of the clients", least: 0, most: 1, meaning: `How much of the clients' movement is left in their average: 1 they agree, 0 they cancel out${clients > 1 ? `, about ${show(1 / Math.sqrt(clients), 2)} if the directions of ${clients} clients are unrelated` : ""}.` },
    m: { text: "movement of the clients", log: true, meaning: "How far the clients moved from the weights they started from, on average by samples. Not relative to a norm: compare within a row, not between rows." },
  };
  const chosen = () => $("inertia-measure").value;
  const exact = (v) => (undefinedNumber(v) ? "not defined" : v === 0 || Math.abs(v) >= 0.0001 ? String(v) : v.toExponential(1));
  if ($("inertia-measure")) {
    Object.keys(measures).filter((key) => cells[key]).forEach((key) => $("inertia-measure").add(new Option(measures[key].text, key)));
    $("inertia-layers").add(new Option("weights", "weights"));
    if (layers.some(([, isWeight]) => !isWeight)) $("inertia-layers").add(new Option("weights, biases and norms", "all"));
  }

  // From a number to a place between light and dark, over all layers and rounds that are shown.
  function scaleOf(rows, { log = false, least = null, most = null }) {
    const values = rows.flat().filter((v) => !undefinedNumber(v) && (!log || v > 0));
    const usual = log && most !== null ? values.filter((v) => v <= most) : values; // a tensor that began at zero would leave no shades for the others
    let lo = least ?? Math.min(...(usual.length ? usual : values)), hi = log || most === null ? Math.max(...(usual.length ? usual : values)) : most;
    if (!values.length) return null;
    if (lo >= hi) lo = log ? hi / 10 : hi - 1; // one number only: the dark end
    const at = (v) => (log ? Math.log(Math.max(v, lo) / lo) / Math.log(hi / lo) : (v - lo) / (hi - lo));
    const beyond = values.some((v) => v > hi);
    return { lo, hi, at, beyond, middle: log ? Math.sqrt(lo * hi) : (lo + hi) / 2 };
  }
  function key(scale, rows, log) {
    const ramp = "border-radius:2px;width:130px;height:14px;background:linear-gradient(in oklab to right,var(--low),var(--high))";
    const hatch = "background:repeating-linear-gradient(45deg,var(--hatch) 0 1.5px,var(--panel) 1.5px 5px)";
    const entries = [];
    if (scale) entries.push({ style: ramp, text: `${exact(+scale.lo.toPrecision(2))} to ${exact(+scale.hi.toPrecision(2))}${scale.beyond ? " and more" : ""}${log ? ", logarithmic" : ""}` });
    if (log && rows.flat().some((v) => v === 0)) entries.push({ style: "background:var(--paper)", symbol: "0", text: "did not move" });
    if (rows.flat().some(undefinedNumber)) entries.push({ style: hatch, text: "not defined" });
    legend("inertia-legend", entries);
  }

  // One axis of rounds for all three pictures; a band for every round that is shown.
  function axisOf(left, right) {
    const first = D.rounds[0] - 0.5, last = D.rounds[D.rounds.length - 1] + 0.5;
    const x = (n) => left + ((n - first) / (last - first)) * (right - left);
    const edges = [first, ...rounds.slice(1).map((n, j) => (n + rounds[j]) / 2), last];
    return { x, left, right, band: (j) => [x(edges[j]), x(edges[j + 1]) - x(edges[j])] };
  }
  function panel(node, axis, { top, height, title, ticks, y, points, colour, words }) {
    put(node, "text", { x: 0, y: top - 13, style: "font-weight:600;font-size:13px" }, { text: title });
    for (const [v, text, dash] of ticks) {
      put(node, "line", { x1: axis.left, x2: axis.right, y1: y(v), y2: y(v), ...(dash ? { stroke: "var(--chance)", "stroke-dasharray": "5 4" } : { class: "axis" }) });
      put(node, "text", { x: axis.left - 8, y: y(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text });
    }
    put(node, "line", { x1: axis.x(round()), x2: axis.x(round()), y1: top - 3, y2: top + height, class: "now" });
    let path = "", pen = "M";
    for (const [n, v] of points) {
      if (undefinedNumber(v)) {
        pen = "M";
        put(node, "rect", { x: axis.x(n) - 4, y: top + height - 9, width: 8, height: 9, fill: "url(#hatch)" }, { tip: words(n, v) });
        continue;
      }
      path += `${pen}${axis.x(n).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = "L";
    }
    if (path) put(node, "path", { d: path, fill: "none", stroke: colour, "stroke-width": 2 });
    const few = points.length <= 60;
    for (const [n, v] of points) if (!undefinedNumber(v)) put(node, "circle", { cx: axis.x(n), cy: y(v), r: few ? 3 : 5, fill: few ? colour : "transparent" }, { tip: words(n, v) });
  }
  function map() {
    const measure = measures[chosen()];
    const shown = layers.map(([name, isWeight, path], i) => ({ name, isWeight, i, whole: called(name, path) })).filter((l) => l.isWeight || $("inertia-layers").value === "all");
    const rows = shown.map((l) => cells[chosen()][l.i]), scale = scaleOf(rows, measure);
    $("inertia-meaning").textContent = measure.meaning;
    key(scale, rows, measure.log);
    const left = Math.min(180, 16 + 6.8 * Math.max(12, ...shown.map((l) => l.name.length))), room = roomIn("inertia-map", 1100);
    const width = Math.max(room, left + 8 + 3 * rounds.length), right = Math.min(width - 8, left + 46 * D.rounds.length);
    const h = shown.length > 40 ? 12 : shown.length > 16 ? 17 : 22, panels = { accuracy: 84, index: 92 };
    const upper = 28, mapTop = upper + panels.accuracy + 36, indexTop = mapTop + h * shown.length + 42, bottom = indexTop + panels.index;
    const node = canvas(width, bottom + 36, `${measure.text} by layer and round, with accuracy and inertia index`), axis = axisOf(left, right);

    const yA = (v) => upper + (1 - v) * panels.accuracy, whose = accuracy.length ? ` (${accuracy[0].source})` : "";
    panel(node, axis, { top: upper, height: panels.accuracy, title: `Accuracy of the global model${whose}`, ticks: [0, 0.5, 1].map((v) => [v, v]), y: yA, points: accuracy.map((row) => [row.round, row.accuracy]), colour: "var(--accent)", words: (n, v) => `round ${n}\naccuracy ${show(v)}` });
    if (!accuracy.length) put(node, "text", { x: left + 8, y: yA(0.5) - 8, class: "soft" }, { text: "not measured, so the map cannot tell whether moving helped" });

    put(node, "text", { x: 0, y: mapTop - 10, style: "font-weight:600;font-size:13px" }, { text: measure.text[0].toUpperCase() + measure.text.slice(1) });
    const every = Math.ceil(13 / h);
    shown.forEach(({ name, i, whole }, row) => {
      const y = mapTop + h * row, most = Math.floor((left - 14) / 6.8);
      if (row % every === 0) put(node, "text", { x: left - 8, y: y + h / 2, "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text: name.length > most ? `…${name.slice(1 - most)}` : name, tip: whole });
      rounds.forEach((n, j) => {
        const v = cells[chosen()][i][j], [x, w] = axis.band(j), gap = w > 8 ? 0.5 : 0, still = measure.log && v === 0;
        const lines = Object.keys(measures).filter((k) => cells[k]).map((k) => `${measures[k].text} ${exact(cells[k][i][j])}`);
        const big = !undefinedNumber(v) && scale && v > scale.hi ? "\nthe tensor was almost zero before the round" : "";
        const fill = still || !scale ? (still ? "var(--paper)" : "url(#hatch)") : shade(undefinedNumber(v) ? null : scale.at(v)).fill;
        put(node, "rect", { x: x + gap, y: y + gap, width: Math.max(0.5, w - 2 * gap), height: h - 2 * gap, class: "cell", style: `fill:${fill};stroke-width:${gap ? 0.6 : 0}` }, { tip: `${whole}, round ${n}\n${lines.join("\n")}${chosen() === "r" ? big : ""}` });
        if (still && w > 9) put(node, "text", { x: x + w / 2, y: y + h / 2, class: "mark soft", style: "font-size:9px" }, { text: "0" });
      });
    });
    const at = rounds.filter((n) => n <= round()).length - 1;
    if (at >= 0) {
      const [x, w] = axis.band(at);
      for (const [stroke, thick] of [["var(--paper)", 3.6], ["var(--ink)", 1.4]]) put(node, "rect", { x, y: mapTop, width: w, height: h * shown.length, fill: "none", stroke, "stroke-width": thick, "pointer-events": "none" });
    }

    const known = index.map(([, v]) => v).filter((v) => !undefinedNumber(v));
    const lo = Math.max(LEAST, Math.min(0.25, ...known.map((v) => 2 ** Math.floor(Math.log2(Math.max(v, LEAST)))))), hi = Math.min(64, Math.max(2, ...known.map((v) => 2 ** Math.ceil(Math.log2(Math.max(v, LEAST))))));
    const inside = (v) => Math.max(lo, Math.min(hi, v)), yI = (v) => indexTop + (1 - Math.log(inside(v) / lo) / Math.log(hi / lo)) * panels.index;
    const marks = [lo, limit, 1, hi].filter((v, i, all) => all.indexOf(v) === i).map((v) => [v, +v.toFixed(3), v === limit]);
    panel(node, axis, { top: indexTop, height: panels.index, title: "Inertia index: middle layers against the first and the last", ticks: marks, y: yI, points: index, colour: "var(--accent-2)", words: (n, v) => `round ${n}\ninertia index ${undefinedNumber(v) ? "not defined: fewer than three weights, or the first and the last did not move" : exact(v)}` });
    const step = Math.max(1, Math.ceil((D.rounds.length * 26) / (right - left)));
    D.rounds.forEach((n, i) => { if (i % step === 0) put(node, "text", { x: axis.x(n), y: bottom + 16, "text-anchor": "middle", class: "soft" }, { text: n }); });
    put(node, "text", { x: (left + right) / 2, y: bottom + 32, "text-anchor": "middle", class: "soft" }, { text: "round" });
    replace("inertia-map", node);
  }
  function words() {
    const here = index.filter(([n]) => n <= round()).pop();
    const now = here ? ` In round ${here[0]} it was ${undefinedNumber(here[1]) ? "not defined" : exact(here[1])}.` : "";
    $("inertia-words").textContent = defined
      ? `The inertia index, the relative movement of the middle layers over that of the first and the last, was below ${limit} in ${below} of ${defined} ${defined === 1 ? "round" : "rounds"} (${Math.round((100 * below) / defined)}\u00a0%).${now}`
      : "The inertia index is not defined: it needs three weight tensors, and a first and a last one that move.";
    const told = [];
    if (left_out) told.push(`To keep the page small, ${rounds.length} of ${rounds.length + left_out} rounds are shown; the run folder has all.`);
    if (received.length) told.push(`In ${received.length} ${received.length === 1 ? "round" : "rounds"} (${received.slice(0, 8).join(", ")}${received.length > 8 ? ", …" : ""}) clients started from other weights than the global ones; their movement is measured from what they received, and does not add up to that of the average.`);
    if (!cells.m) told.push("The clients' weights are not known here, so neither are their movement and coherence.");
    $("inertia-note").textContent = told.join(" ");
  }
  for (const id of ["inertia-measure", "inertia-layers"]) if ($(id)) $(id).addEventListener("change", map);
  return () => { map(); words(); };
})());

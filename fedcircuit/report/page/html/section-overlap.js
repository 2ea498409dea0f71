"use strict";
// Overlap of local and global circuits: against chance, and against other classes.
section("overlap", (() => {
  const { mean, cells, recorded } = D.overlap;
  const CLIENT = 0, CLASS = 1, IOU = 2, ADJUSTED = 3, CHANCE = 4, P = 5, Q = 6, WEIGHTED = 7, WEIGHTED_CHANCE = 8, OTHERS = 9, CLOSEST = 10;
  const layers = [...new Set(mean.map((row) => row.layer))];
  const paths = new Map(mean.map((row) => [row.layer, row.path]));
  const named = (layer) => (layer === "all" ? "all layers" : called(layer, paths.get(layer)));
  const sample = (colour, kind) => {
    if (kind === "dash") return `border:0;border-top:2px dashed ${colour};height:0;border-radius:0`;
    const fill = kind === "area" ? `color-mix(in srgb, ${colour} 25%, transparent)` : kind === "hollow" ? "var(--paper)" : colour;
    return `background:${fill};border:${kind === "hollow" ? 2.5 : 1}px solid ${colour};width:14px;height:14px;border-radius:${kind === "area" ? 2 : 7}px`;
  };
  const undefinedSample = { style: "background:repeating-linear-gradient(45deg,var(--hatch) 0 1.5px,var(--panel) 1.5px 5px);width:14px;height:14px", text: "not defined" };
  const when = (is, ...entries) => (is ? entries : []);

  legend("overlap-legend", [
    { style: sample("var(--accent)"), text: "mean IoU" },
    ...when(recorded.weighted, { style: sample("var(--accent-3)", "hollow"), text: "mean weighted IoU" }),
    { style: sample("var(--chance)", "area"), text: "what chance gives the IoU" },
    undefinedSample,
  ]);
  legend("swap-legend", [
    { style: sample("var(--accent-2)"), text: "own class (mean adjusted IoU)" },
    ...when(recorded.others, { style: sample("var(--chance)", "area"), text: "other classes (mean)" }),
    ...when(recorded.ceiling, { style: sample("var(--ink)", "dash"), text: "noise ceiling: the global model's circuits against those of a second search" }),
    undefinedSample,
  ]);
  if ($("overlap-layer")) {
    layers.forEach((layer) => $("overlap-layer").add(new Option(named(layer), layer, layer === "all", layer === "all")));
    const measures = [["adjusted IoU", ADJUSTED], ["raw IoU", IOU], ...when(recorded.weighted, ["weighted IoU", WEIGHTED]), ...when(recorded.others, ["adjusted IoU beyond the other classes", -1])];
    measures.forEach(([text, value]) => $("overlap-measure").add(new Option(text, value)));
  }

  const latest = (rows) => rows.filter((row) => row.round <= round()).pop();
  const line = (rows, key) => rows.map((row) => [row.round, row[key]]);
  const why = "no pair with a valid client circuit and a global one";
  function aboveChance(row) {
    const left = row.n_undefined ? ` ${row.n_undefined} valid ${row.n_undefined === 1 ? "circuit has" : "circuits have"} no IoU.` : "";
    if (!row.n) return `no pair to compare.${left}`;
    if (!row.n_tested) return `${Math.round(row.significant * row.n)} of ${row.n} overlaps above chance (p\u00a0<\u00a0.05, not corrected for their number).${left}`;
    return `${row.discovered} of ${row.n_tested} overlaps exceed chance at a false-discovery rate of 5\u00a0%.${left}`;
  }
  function weighted(row) {
    if (!recorded.weighted || !row.n) return "";
    if (!row.n_weighted) return " Weighted IoU: not defined, these circuits have no scores.";
    const left = row.n - row.n_weighted;
    return ` Weighted IoU ${show(row.weighted, 2)}, by chance ${show(row.weighted_chance, 2)}${left > 0 ? ` (${left} without scores)` : ""}.`;
  }
  function ownAgainstOthers(row) {
    const limit = undefinedNumber(row.ceiling) ? "" : ` Noise ceiling ${show(row.ceiling, 2)}${row.n_corrected ? `; relative to it the overlap is ${show(row.corrected, 2)} (median of ${row.n_corrected})` : ""}.`;
    if (!recorded.others) return limit.trim();
    if (!row.n_swapped) return `${row.n ? "other classes: not defined" : "no pair to compare"}.${limit}`;
    const left = row.n - row.n_swapped;
    return `own class ${show(row.own, 2)}, other classes ${show(row.swapped, 2)}. ${row.closest} of ${row.n_swapped} circuits are closest to their own class; by luck ${+row.closest_chance.toFixed(1)} would be.${left > 0 ? ` ${left} not defined.` : ""}${limit}`;
  }
  function multiples(id, series, words) {
    const width = Math.min(520, $(id).firstElementChild ? $(id).firstElementChild.clientWidth : 0) || 260;
    replace(id, ...layers.map((layer) => {
      const rows = mean.filter((row) => row.layer === layer), here = latest(rows), text = here ? words(here) : "no pair to compare.";
      return element("div", {}, lines({ series: series(rows), title: named(layer), label: `overlap by round, ${named(layer)}`, width, height: 190 }),
        text ? element("p", { class: "muted" }, `Round ${here ? here.round : round()}: ${text}`) : null);
    }));
  }
  function means() {
    multiples("overlap-lines", (rows) => [
      { name: "chance level", points: line(rows, "chance"), colour: "var(--chance)", dash: "5 4", area: true },
      ...when(recorded.weighted, { name: "mean weighted IoU", points: line(rows, "weighted"), colour: "var(--accent-3)", hollow: true, why: `${why}, or no scores recorded` }),
      { name: "mean IoU", points: line(rows, "iou"), colour: "var(--accent)", why },
    ], (row) => aboveChance(row) + weighted(row));
    multiples("swap-lines", (rows) => [
      ...when(recorded.others, { name: "other classes", points: line(rows, "swapped"), colour: "var(--chance)", dash: "5 4", area: true }),
      ...when(recorded.ceiling, { name: "noise ceiling", points: line(rows, "ceiling"), colour: "var(--ink)", dash: "3 3" }),
      { name: "own class", points: line(rows, "adjusted"), colour: "var(--accent-2)", why },
    ], ownAgainstOthers);
    const all = latest(mean.filter((row) => row.layer === "all")), absent = [];
    if (!recorded.q_value) absent.push("p-values corrected for their number (q-values)");
    if (!recorded.weighted) absent.push("overlaps of scores (weighted IoU)");
    const told = [];
    if (all && all.n_tested) told.push(`The false-discovery rate is held over all ${all.n_family} pairs of the round in which both circuits were found, layer by layer; those that passed the checks are counted here.`);
    if (absent.length) told.push(`Not recorded in this run, so not shown: ${absent.join("; ")}.`);
    $("overlap-note").textContent = told.join(" ");
  }

  const average = (values) => { const known = values.filter((v) => !undefinedNumber(v)); return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null; };
  // One row a class: own class, mean of the others, the closest of them, over the clients with all of these.
  function classes() {
    $("class-title").hidden = !recorded.others;
    $("swap-note").hidden = recorded.others;
    if (!recorded.others) return;
    const grid = cells[$("overlap-layer").value] || {}, n = observed(grid), looked = observed(D.verdicts.letters);
    if (!n || (looked && n !== looked)) return replace("swap-classes", n ? nothing("No client circuit passed the checks in this round.") : missing(grid, "overlaps"));
    const full = grid[n].filter((c) => !undefinedNumber(c[ADJUSTED]) && !undefinedNumber(c[OTHERS]));
    if (!full.length) return replace("swap-classes", nothing(`Own class against other classes in round ${n}: not defined.`));
    const rows = D.classes.map((name, index) => {
      const mine = full.filter((c) => c[CLASS] === index);
      return { name, n: mine.length, own: average(mine.map((c) => c[ADJUSTED])), others: average(mine.map((c) => c[OTHERS])), closest: average(mine.map((c) => c[CLOSEST])), clients: mine };
    });
    replace("swap-classes", dumbbells(rows, n), element("div", { class: "legend", id: "class-legend" }));
    legend("class-legend", [
      { style: sample("var(--accent-2)"), text: "own class (small: single clients)" },
      { style: sample("var(--chance)"), text: "other classes, mean" },
      { style: "border:0;border-left:3px solid var(--chance);border-radius:0;width:3px;height:14px", text: "the closest other class" },
    ]);
  }
  function dumbbells(rows, n) {
    const width = roomIn("swap-classes", 760), h = rows.length > 30 ? 15 : 23, t = 8, b = 36, r = 14;
    const l = Math.min(170, 20 + 7 * Math.max(...rows.map((row) => Math.min(20, row.name.length + 6))));
    const node = canvas(width, t + rows.length * h + b, `own class against other classes in round ${n}`);
    const values = rows.flatMap((row) => [row.others, row.closest, ...row.clients.map((c) => c[ADJUSTED])]).filter((v) => !undefinedNumber(v));
    const lo = Math.min(0, ...values.map((v) => Math.floor(v * 10) / 10)), floor = t + rows.length * h;
    const x = (v) => l + ((v - lo) / (1 - lo)) * (width - l - r);
    for (const v of [lo, 0, 0.25, 0.5, 0.75, 1].filter((v, i, all) => v >= lo && all.indexOf(v) === i && (v === lo || v - lo > 0.06 || v === 0))) {
      put(node, "line", { x1: x(v), x2: x(v), y1: t, y2: floor, class: "axis" });
      put(node, "text", { x: x(v), y: floor + 15, "text-anchor": "middle", class: "soft" }, { text: +v.toFixed(2) });
    }
    put(node, "text", { x: x((1 + lo) / 2), y: floor + 31, "text-anchor": "middle", class: "soft" }, { text: "adjusted IoU (0 is chance)" });
    rows.forEach((row, i) => {
      const y = t + h * (i + 0.5), label = `class ${row.name}`;
      put(node, "text", { x: l - 10, y, "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text: label.length > 21 ? `${label.slice(0, 20)}…` : label, tip: label });
      if (!row.n) return put(node, "rect", { x: x(0), y: y - 4, width: 30, height: 8, fill: "url(#hatch)" }, { tip: `${label}, round ${n}\nnot defined: no valid client circuit, or no global one to compare with` });
      const tip = `${label}, round ${n}, ${row.n} ${row.n === 1 ? "client" : "clients"}\nown class ${show(row.own)}\nother classes ${show(row.others)}\nclosest other class ${show(row.closest)}`;
      put(node, "line", { x1: x(row.others), x2: x(row.own), y1: y, y2: y, stroke: "var(--line)", "stroke-width": 5 }, { tip });
      if (row.n > 1) for (const c of row.clients) put(node, "circle", { cx: x(c[ADJUSTED]), cy: y, r: 2.6, fill: "var(--accent-2)", opacity: 0.55 }, { tip: `client ${c[CLIENT]}, ${label}\nown class ${show(c[ADJUSTED])}\nother classes ${show(c[OTHERS])}` });
      put(node, "line", { x1: x(row.closest), x2: x(row.closest), y1: y - 6, y2: y + 6, stroke: "var(--chance)", "stroke-width": 3 }, { tip });
      put(node, "circle", { cx: x(row.others), cy: y, r: 5, fill: "var(--chance)" }, { tip });
      put(node, "circle", { cx: x(row.own), cy: y, r: 5.5, fill: "var(--accent-2)" }, { tip });
    });
    return node;
  }

  function map() {
    const grid = cells[$("overlap-layer").value] || {}, n = observed(grid), measure = +$("overlap-measure").value;
    const looked = observed(D.verdicts.letters);
    if (!n || (looked && n !== looked)) return replace("overlap-map", n ? nothing("No client circuit passed the checks in this round.") : missing(grid, "overlaps"));
    const lookup = new Map(grid[n].map((c) => [`${c[CLIENT]}/${c[CLASS]}`, c]));
    const rows = looked ? D.verdicts.letters[n].map(([c]) => c) : [...new Set(grid[n].map((c) => c[CLIENT]))];
    const small = (v) => (undefinedNumber(v) ? "not defined" : v < 0.00001 ? "below 0.00001" : v.toPrecision(2));
    const value = (c) => (measure >= 0 ? c[measure] : undefinedNumber(c[ADJUSTED]) || undefinedNumber(c[OTHERS]) ? null : c[ADJUSTED] - c[OTHERS]);
    replace("overlap-map", matrix({
      rows, columns: D.classes, rowWord: "client ", columnWord: "class", room: roomIn("overlap-map", 1100), widest: 46, label: `overlap in round ${n}`,
      cell: (i, j) => {
        const c = lookup.get(`${rows[i]}/${j}`), whose = `client ${rows[i]}, class ${D.classes[j]}, round ${n}`;
        if (!c) return { ...shade(null), tip: `${whose}\nnot defined: no valid client circuit, or none of the global model` };
        const tip = [whose, `IoU ${show(c[IOU])}, chance ${show(c[CHANCE])}`, `adjusted ${show(c[ADJUSTED])}, p ${small(c[P])}${recorded.q_value ? `, q ${small(c[Q])}` : ""}`,
          ...when(recorded.weighted, `weighted ${show(c[WEIGHTED])}, chance ${show(c[WEIGHTED_CHANCE])}`), ...when(recorded.others, `other classes ${show(c[OTHERS])}, closest ${show(c[CLOSEST])}`)].join("\n");
        return { ...shade(value(c)), mark: brief(value(c)), data: { client: rows[i], index: j }, tip };
      },
    }));
  }
  for (const id of ["overlap-layer", "overlap-measure"]) if ($(id)) $(id).addEventListener("change", () => { classes(); map(); });
  return () => {
    for (const id of ["overlap-lines", "swap-lines"]) if (!$(id).firstElementChild) replace(id, ...layers.map(() => element("div")));
    means();
    classes();
    map();
  };
})());

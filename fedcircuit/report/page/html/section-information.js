"use strict";
// The information plane of every layer: clients against their average, gaps below, accuracy above.
if (D.information.layers) section("information", (() => {
  const { layers, other_layers, rounds, left_out, log, unit, n, ceiling, clients, estimates, accuracy } = D.information;
  const WHO = [["clients", "mean of clients", "var(--accent-2)"], ["global", "the average", "var(--accent)"]];
  const digits = (v) => (undefinedNumber(v) ? "not defined" : String(v));
  const some = (grids) => grids.flat().filter((v) => !undefinedNumber(v));
  for (const axis of ["x", "y"]) {
    const select = $(`information-${axis}`), mine = estimates.filter((e) => e.axis === axis);
    mine.forEach((e) => select.add(new Option(e.estimator, estimates.indexOf(e))));
    if (!mine.length) select.parentElement.hidden = true;
  }
  const chosen = (axis) => estimates[$(`information-${axis}`).value];
  const value = (e, who, i, j) => (e && e[who].value ? e[who].value[i][j] : null);
  const flag = (e, who, i, j) => !!(e && e[who].saturated && e[who].saturated[i][j]);
  const extra = (e, who, name, i, j) => (e && e[who][name] ? e[who][name][i][j] : null);

  // Early rounds are light, late ones strong: on any ground, by rank and not by number.
  const strength = (colour, j) => `color-mix(in oklab, ${colour} ${rounds.length < 2 ? 100 : Math.round(22 + (78 * j) / (rounds.length - 1))}%, var(--paper))`;
  // Ends of an axis with some room; at least `least` apart, so that noise does not look like movement.
  function rangeOf(values, { floor = null, most = null, least }) {
    let lo = Math.min(...values), hi = Math.max(...values);
    if (!values.length) [lo, hi] = [0, least];
    const missing = Math.max(0, least - (hi - lo)), up = most === null ? missing / 2 : Math.max(0, Math.min(missing / 2, most - hi));
    const room = Math.max(hi - lo, least) * 0.06;
    [lo, hi] = [lo - (missing - up) - room, hi + up + room];
    return [floor === null || lo >= floor || Math.min(floor, ...values) < floor ? lo : floor, hi];
  }
  // Two to five round numbers between the ends.
  function ticksOf([lo, hi], most = 4) {
    for (let parts = most; ; parts += 1) {
      const raw = (hi - lo) / parts, power = 10 ** Math.floor(Math.log10(raw)), ticks = [];
      const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= raw * (1 - 1e-9));
      for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + step * 1e-9; k += 1) ticks.push(+(k * step).toPrecision(10));
      if (ticks.length > 1 || parts > 20) return ticks;
    }
  }
  const scaled = ([lo, hi], from, to) => (v) => from + ((v - lo) / (hi - lo)) * (to - from);
  function roundsAxis(left, right) {
    const [first, last] = [rounds[0], rounds[rounds.length - 1]], f = log ? Math.log : (v) => v;
    return (number) => left + (first === last ? 0.5 : (f(number) - f(first)) / (f(last) - f(first))) * (right - left);
  }
  function roundMarks(node, x, y, [left, right]) {
    const [first, last] = [rounds[0], rounds[rounds.length - 1]], wide = 7.2 * String(last).length + 6;
    const decades = [1, 2, 5].flatMap((k) => [1, 10, 100, 1e3, 1e4, 1e5].map((p) => k * p)).sort((a, b) => a - b).filter((v) => v >= first && v <= last);
    const every = Math.ceil((rounds.length * wide) / (right - left)), ticks = log ? decades : rounds.filter((_, j) => j % every === 0);
    let end = -Infinity;
    for (const tick of ticks) {
      const half = 3.6 * String(tick).length;
      if (x(tick) - half < end + 6) continue;
      put(node, "text", { x: x(tick), y, "text-anchor": "middle", class: "soft" }, { text: tick });
      end = x(tick) + half;
    }
  }
  const at = () => { let found = -1; rounds.forEach((number, j) => { if (number <= round()) found = j; }); return found; };

  // Values over rounds. series: [name, values, colour, hollow(j)]
  function strip(node, { left, right, top, height, range, ticks, zero = false, series }) {
    const x = roundsAxis(left + 5, right - 5), y = scaled(range, top + height, top);
    for (const v of ticks) {
      put(node, "line", { x1: left, x2: right, y1: y(v), y2: y(v), ...(zero && v === 0 ? { stroke: "var(--chance)" } : { class: "axis" }) });
      put(node, "text", { x: left - 6, y: y(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text: v });
    }
    if (at() >= 0) put(node, "line", { x1: x(rounds[at()]), x2: x(rounds[at()]), y1: top - 3, y2: top + height, class: "now" });
    for (const [name, values, colour, hollow] of series) {
      if (values.every(undefinedNumber)) continue;
      let path = "", pen = "M";
      values.forEach((v, j) => {
        if (undefinedNumber(v)) { pen = "M"; return; }
        path += `${pen}${x(rounds[j]).toFixed(1)} ${y(v).toFixed(1)}`;
        pen = "L";
      });
      if (path) put(node, "path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.8 });
      const few = rounds.length <= 45;
      values.forEach((v, j) => {
        if (undefinedNumber(v)) {
          put(node, "rect", { x: x(rounds[j]) - 4, y: top + height - 9, width: 8, height: 9, fill: "url(#hatch)" }, { tip: `${name}\nround ${rounds[j]}: not defined` });
          return;
        }
        const empty = hollow && hollow(j);
        put(node, "circle", { cx: x(rounds[j]), cy: y(v), r: few ? 2.6 : 4, fill: few ? (empty ? "var(--paper)" : colour) : "transparent", stroke: few ? colour : "none", "stroke-width": 1.3 }, { tip: `${name}\nround ${rounds[j]}: ${digits(v)}${empty ? "\nfrom saturated values" : ""}` });
      });
    }
    return x;
  }

  function tipOf(i, j, who, name, ex, ey) {
    const lines = [`${called(layers[i][0], layers[i][2])}, round ${rounds[j]}: ${name}`];
    for (const e of [ex, ey]) {
      if (!e) continue;
      const chance = extra(e, who, "null", i, j), unique = extra(e, who, "unique", i, j);
      lines.push(`${e.quantity} ${digits(value(e, who, i, j))} ${unit}${flag(e, who, i, j) ? ", saturated" : ""}`);
      if (!undefinedNumber(chance)) lines.push(`   with shuffled labels ${digits(chance)}`);
      if (e === ex && !undefinedNumber(unique)) lines.push(`   distinct rows: ${Math.round(100 * unique)}\u00a0%`);
    }
    lines.push(`accuracy ${digits(accuracy[who][j])}`);
    return lines.join("\n");
  }
  function plane(node, i, { left, right, top, bottom, xr, yr, ex, ey }) {
    const x = scaled(xr, left, right), y = scaled(yr, bottom, top);
    for (const v of ticksOf(yr)) {
      put(node, "line", { x1: left, x2: right, y1: y(v), y2: y(v), class: "axis" });
      put(node, "text", { x: left - 6, y: y(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text: v });
    }
    for (const v of ticksOf(xr)) {
      put(node, "line", { x1: x(v), x2: x(v), y1: bottom, y2: bottom + 4, class: "axis" });
      put(node, "text", { x: x(v), y: bottom + 16, "text-anchor": "middle", class: "soft" }, { text: v });
    }
    put(node, "text", { x: (left + right) / 2, y: bottom + 31, "text-anchor": "middle", class: "soft" }, { text: `I(X;T), ${unit}` });
    if (ceiling !== null && ceiling >= xr[0] && ceiling <= xr[1]) put(node, "line", { x1: x(ceiling), x2: x(ceiling), y1: top, y2: bottom, stroke: "var(--chance)", "stroke-dasharray": "5 4", "stroke-width": 1.5 }, { tip: `logarithm of ${n} samples: ${ceiling} ${unit}\nno estimate can be higher` });
    const place = (who, j) => [value(ex, who, i, j), value(ey, who, i, j)];
    const here = at();
    if (here >= 0) {
      const [a, b] = WHO.map(([who]) => place(who, here));
      if (![...a, ...b].some(undefinedNumber)) put(node, "line", { x1: x(a[0]), y1: y(a[1]), x2: x(b[0]), y2: y(b[1]), stroke: "var(--ink)", "stroke-width": 1.1 });
    }
    const few = rounds.length <= 45, spots = [];
    for (const [who, name, colour] of WHO) {
      rounds.forEach((_, j) => {
        const [v, w] = place(who, j);
        if (undefinedNumber(v) || undefinedNumber(w)) return;
        const [before, beside] = j ? place(who, j - 1) : [null, null];
        if (!undefinedNumber(before) && !undefinedNumber(beside)) put(node, "line", { x1: x(before), y1: y(beside), x2: x(v), y2: y(w), stroke: strength(colour, j), "stroke-width": 1.3 });
        spots.push([j, who, name, colour, x(v), y(w)]);
      });
    }
    // late rounds above early ones, the chosen one above all
    spots.sort((a, b) => (a[0] === here) - (b[0] === here) || a[0] - b[0]);
    for (const [j, who, name, colour, cx, cy] of spots) {
      const hollow = flag(ex, who, i, j) || flag(ey, who, i, j), paint = strength(colour, j);
      if (j === here) put(node, "circle", { cx, cy, r: 6.5, fill: "none", stroke: "var(--ink)", "stroke-width": 1.3 });
      put(node, "circle", { cx, cy, r: few ? 3.6 : 2.8, fill: hollow ? "var(--paper)" : paint, stroke: paint, "stroke-width": 1.5, class: "spot" }, { tip: tipOf(i, j, who, name, ex, ey) });
    }
  }

  function panels() {
    const ex = chosen("x"), ey = chosen("y"), own = $("information-axes").value === "own";
    const room = roomIn("information-planes", 1112), columns = Math.max(1, Math.min(layers.length, Math.floor((room + 20) / 270)));
    const width = Math.min(400, (room - 20 * (columns - 1)) / columns), left = 44, right = width - 8;
    const valuesOf = (e, i) => (e ? some(WHO.map(([who]) => (e[who].value ? (i === null ? e[who].value.flat() : e[who].value[i]) : []))) : []);
    const gapsOf = (e, i) => (e ? some(i === null ? e.gap : [e.gap[i]]) : []);
    const hasGaps = gapsOf(ex, null).length + gapsOf(ey, null).length > 0;
    replace("information-planes", ...layers.map(([name, d, path], i) => {
      const which = own ? i : null, top = 44, bottom = 220, gap = 50;
      const gapTops = [bottom + 66, bottom + 66 + gap + 38], height = hasGaps ? gapTops[1] + gap + 40 : bottom + 40;
      const node = canvas(width, height, `information plane of ${name}`);
      put(node, "text", { x: 0, y: 13, style: "font-weight:600;font-size:13px" }, { text: name.length > 26 ? `…${name.slice(-25)}` : called(name), tip: called(name, path) });
      put(node, "text", { x: right, y: 13, "text-anchor": "end", class: "soft" }, { text: `${d} ${d === 1 ? "number" : "numbers"} a sample` });
      put(node, "text", { x: 0, y: 33, class: "soft" }, { text: `I(T;Y), ${unit}` });
      const xs = valuesOf(ex, which), ys = valuesOf(ey, which);
      plane(node, i, { left, right, top, bottom, ex, ey, xr: rangeOf(xs, { floor: 0, most: ceiling, least: 0.1 * (ceiling || 10) }), yr: rangeOf(ys, { floor: 0, least: 0.2 }) });
      if (!valuesOf(ex, i).length || !valuesOf(ey, i).length) put(node, "text", { x: (left + right) / 2, y: (top + bottom) / 2, "text-anchor": "middle", class: "soft" }, { text: "not defined" });
      if (hasGaps) [[ex, "ΔI(X;T): the average minus the clients"], [ey, "ΔI(T;Y)"]].forEach(([e, title], k) => {
        put(node, "text", { x: 0, y: gapTops[k] - 11, class: "soft" }, { text: title });
        const range = rangeOf([0, ...gapsOf(e, which)], { least: 0.05 }), hollow = (j) => WHO.some(([who]) => flag(e, who, i, j));
        const x = strip(node, { left, right, top: gapTops[k], height: gap, range, ticks: ticksOf(range, 2), zero: true, series: e ? [[`${name}, ${title}`, e.gap[i], "var(--accent-3)", hollow]] : [] });
        if (k === 1) {
          roundMarks(node, x, gapTops[1] + gap + 17, [left, right]);
          put(node, "text", { x: (left + right) / 2, y: gapTops[1] + gap + 33, "text-anchor": "middle", class: "soft" }, { text: `round${log ? ", logarithmic" : ""}` });
        }
      });
      return node;
    }));
  }
  function accuracies() {
    const width = roomIn("information-accuracy", 560), left = 44, top = 28, height = 110, node = canvas(width, top + height + 40, "accuracy of clients and average on the same samples");
    put(node, "text", { x: 0, y: 13, style: "font-weight:600;font-size:13px" }, { text: "Accuracy on the same samples" });
    const x = strip(node, { left, right: width - 8, top, height, range: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1], series: WHO.map(([who, name, colour]) => [`accuracy, ${name}`, accuracy[who], colour]) });
    roundMarks(node, x, top + height + 17, [left, width - 8]);
    put(node, "text", { x: (left + width - 8) / 2, y: top + height + 33, "text-anchor": "middle", class: "soft" }, { text: `round${log ? ", logarithmic" : ""}` });
    replace("information-accuracy", node);
  }
  function words() {
    const ex = chosen("x"), ey = chosen("y"), ramp = (colour) => `border-radius:2px;width:80px;height:14px;background:linear-gradient(in oklab to right,color-mix(in oklab, ${colour} 22%, var(--paper)),${colour})`;
    const entries = WHO.filter(([who]) => accuracy[who].some((v) => !undefinedNumber(v))).map(([, name, colour]) => ({ style: ramp(colour), text: `${name}, first to last round` }));
    entries.push({ style: "border-radius:50%;border:2px solid var(--accent);width:12px;height:12px;background:var(--paper)", text: "saturated" });
    entries.push({ style: "border-radius:50%;border:1.5px solid var(--ink);width:14px;height:14px;background:none", text: "the chosen round" });
    if (ceiling !== null) entries.push({ style: "border:0;border-left:2px dashed var(--chance);border-radius:0;width:2px;height:16px", text: `logarithm of the ${n} samples: ${ceiling} ${unit}` });
    legend("information-legend", entries);
    const told = (e) => (e ? `${e.quantity}: ${e.estimator}${e.setting ? ` (${e.setting})` : ""}` : null);
    $("information-setting").textContent = `${[ex, ey].map(told).filter(Boolean).join(". ")}. In ${unit}, from ${n} samples.`;
    const j = at(), sentences = [];
    if (j >= 0 && !undefinedNumber(accuracy.global[j])) {
      const other = accuracy.clients[j];
      sentences.push(`In round ${rounds[j]} the average labels ${(100 * accuracy.global[j]).toFixed(1)}\u00a0% of the samples rightly${undefinedNumber(other) ? "" : `, the clients ${(100 * other).toFixed(1)}\u00a0% on average`}.`);
      if (ey && !undefinedNumber(other)) {
        const rises = layers.filter((_, i) => ey.gap[i][j] > 0).map(([name]) => name);
        if (rises.length && accuracy.global[j] < other) sentences.push(`Averaging raised the measured I(T;Y) of ${rises.length === layers.length ? "every layer" : rises.join(", ")} and lowered the accuracy: here I(T;Y) does not measure what helps.`);
      }
    }
    if (ex && ex.saturated_share) sentences.push(`${Math.round(100 * ex.saturated_share)}\u00a0% of the average's values of I(X;T) are saturated${ex.saturated_share > 0.5 ? ": there are too few samples, or too little noise, to tell what the layers forget" : ""}.`);
    $("information-words").textContent = sentences.join(" ");
    const notes = [];
    if (left_out) notes.push(`To keep the page small, ${rounds.length} of ${rounds.length + left_out} measured rounds are shown; the run folder has all.`);
    if (other_layers) notes.push(`${layers.length} of ${layers.length + other_layers} layers are shown, evenly spaced.`);
    if (clients) notes.push(`Up to ${clients} ${clients === 1 ? "client was" : "clients were"} measured in a round.`);
    else notes.push("The clients' weights are not known here, so only the average is drawn and there are no gaps.");
    $("information-note").textContent = notes.join(" ");
  }
  for (const id of ["x", "y", "axes"]) $(`information-${id}`).addEventListener("change", () => { panels(); words(); });
  return () => { accuracies(); panels(); words(); };
})());

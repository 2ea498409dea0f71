"use strict";
// The units of two circuits of one class: a client's and the global model's.
section("circuits", (() => {
  const bits = new Map();
  function unpacked(text) {
    if (!bits.has(text)) bits.set(text, Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
    return bits.get(text);
  }
  const total = D.circuits ? D.circuits.sites.reduce((sum, site) => sum + site.n_units, 0) : 0;
  const bytes = Math.ceil(total / 8);
  const at = (data, start) => (u) => (data[start + (u >> 3)] >> (7 - (u & 7))) & 1;
  // Whether a unit is in the circuit; null where no circuit was found.
  function circuitOf(here, model, index) {
    const row = here.models.indexOf(model);
    if (row < 0 || !here.found[row][index]) return null;
    return at(unpacked(here.masks), (row * D.classes.length + index) * bytes);
  }
  const liveOf = (here, model) => at(unpacked(here.live), here.models.indexOf(model) * bytes);

  const KINDS = [["unused", "in neither", ""], ["local", "client only", "c"], ["global", "global only", "g"], ["both", "in both", "●"]];
  const ink = { local: "#1b1a18", global: "var(--ink)", both: "var(--on-high)" };

  function layer(site, first, local, average, isLive) {
    const columns = site.n_units <= 8 ? 2 : 2 ** Math.ceil(Math.log2(Math.sqrt(site.n_units) / 1.2));
    const s = site.n_units > 256 ? 9 : site.n_units > 64 ? 15 : 19;
    const node = canvas(columns * s, Math.ceil(site.n_units / columns) * s, `${site.unit}s of ${called(site.name, site.path)}`);
    const seen = [0, 0, 0, 0];
    for (let u = 0; u < site.n_units; u++) {
      const kind = (local && local(first + u) ? 1 : 0) + (average && average(first + u) ? 2 : 0);
      const x = (u % columns) * s, y = Math.floor(u / columns) * s, dead = !kind && !isLive(first + u);
      seen[kind]++;
      const tip = `${called(site.name, site.path)}, ${site.unit} ${u}\n${dead ? "dead in both models: carries nothing" : KINDS[kind][1]}`;
      if (dead) put(node, "circle", { cx: x + s / 2, cy: y + s / 2, r: s / 9, fill: "var(--hatch)" }, { tip });
      else put(node, "rect", { x: x + 1, y: y + 1, width: s - 2, height: s - 2, rx: s / 5, fill: `var(--${KINDS[kind][0]})` }, { tip });
      if (kind && s > 12) put(node, "text", { x: x + s / 2, y: y + s / 2, class: "glyph", style: `font-size:${s * 0.55}px;fill:${ink[KINDS[kind][0]]}` }, { text: KINDS[kind][2] });
    }
    return [node, seen];
  }
  function numbers(name, client, index, n) {
    const grid = D.overlap && D.overlap.cells[name];
    const c = grid && grid[n] && grid[n].find((row) => row[0] === client && row[1] === index);
    return c ? `IoU ${show(c[2], 2)}, chance ${show(c[4], 2)}` : "";
  }
  function draw() {
    const n = D.circuits ? observed(D.circuits.rounds) : null;
    if (!n) { $("draw-note").textContent = ""; return replace("circuit-drawing", missing(D.circuits.rounds, "circuits")); }
    const here = D.circuits.rounds[n], names = here.models.filter((m) => m !== "global"), select = $("draw-client");
    if ([...select.options].map((o) => o.value).join() !== names.join()) {
      const kept = select.value;
      select.replaceChildren(...names.map((m) => new Option(m, m)));
      if (names.includes(kept)) select.value = kept;
    }
    const client = select.value, index = +$("draw-class").value;
    const local = circuitOf(here, client, index), average = circuitOf(here, "global", index);
    const line = (D.verdicts.letters[n] || []).find(([c]) => c === client), word = line && D.words[line[1][index]];
    const lacking = [local ? "" : ` Client ${client} has no circuit of it.`, average ? "" : " The global model has no circuit of it."].join("");
    $("draw-note").textContent = `Round ${n}, class ${D.classes[index]}, client ${client}: ${word ? word.text : "not judged"}.${lacking}`;
    if (!local && !average) return replace("circuit-drawing");
    const lives = [client, "global"].filter((m) => here.models.includes(m)).map((m) => liveOf(here, m));
    let first = 0;
    replace("circuit-drawing", ...D.circuits.sites.map((site) => {
      const [node, seen] = layer(site, first, local, average, (u) => lives.some((live) => live(u)));
      first += site.n_units;
      return element("figure", {}, element("figcaption", {}, element("b", {}, called(site.name)), site.path === site.name ? null : ` module ${site.path}`, element("br"),
        `${seen[3]} in both, ${seen[1]} client, ${seen[2]} global`, element("br"), `of ${site.n_units} ${site.unit}s`, element("br"), numbers(site.name, client, index, n) || "\u00a0"), node);
    }));
  }

  legend("draw-legend", [...[3, 1, 2, 0].map((k) => ({ symbol: KINDS[k][2], style: `background:var(--${KINDS[k][0]});--on:${ink[KINDS[k][0]] || ""}`, text: KINDS[k][1] })),
    { symbol: "·", style: "border-color:transparent", text: "dead: carries nothing in either model" }]);
  if ($("draw-class")) D.classes.forEach((name, i) => $("draw-class").add(new Option(name, i)));
  for (const id of ["draw-client", "draw-class"]) if ($(id)) $(id).addEventListener("change", draw);
  // a click on a cell of any grid draws its circuits
  document.addEventListener("click", (e) => {
    const target = e.target.closest ? e.target.closest("[data-client]") : null;
    if (!target || !$("draw-client")) return;
    $("draw-client").value = target.dataset.client;
    $("draw-class").value = target.dataset.index;
    draw();
    $("circuits").scrollIntoView({ behavior: "smooth" });
  });
  return () => {
    // start with what is most worth a look: the first broken pair
    const n = observed(D.verdicts.letters);
    if (!$("draw-client").options.length && n) {
      const pairs = D.verdicts.letters[n].flatMap(([client, text]) => [...text].map((letter, i) => [client, i, letter]));
      const first = ["c", "d", "r", "p"].map((letter) => pairs.find((p) => p[2] === letter)).find(Boolean);
      draw();
      if (first) { $("draw-client").value = first[0]; $("draw-class").value = first[1]; }
    }
    draw();
  };
})());

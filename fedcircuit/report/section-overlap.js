"use strict";
// Overlap of local and global circuits, against chance.
section("overlap", (() => {
  const { mean, cells } = D.overlap;
  const layers = [...new Set(mean.map((row) => row.layer))];
  const named = (layer) => (layer === "all" ? "all layers" : `layer ${layer}`);
  const sample = (colour, kind) => `background:${kind === "area" ? `color-mix(in srgb, ${colour} 25%, transparent)` : kind === "hollow" ? "var(--paper)" : colour};border:${kind === "hollow" ? 2.5 : 1}px solid ${colour};width:14px;height:14px;border-radius:${kind === "area" ? 2 : 7}px`;
  legend("overlap-legend", [
    { style: sample("var(--accent)"), text: "mean IoU" },
    { style: sample("var(--accent-2)", "hollow"), text: "mean adjusted IoU" },
    { style: sample("var(--chance)", "area"), text: "what chance gives" },
    { style: "background:repeating-linear-gradient(45deg,var(--hatch) 0 1.5px,var(--panel) 1.5px 5px);width:14px;height:14px", text: "not defined" },
  ]);
  if ($("overlap-layer")) layers.forEach((layer) => $("overlap-layer").add(new Option(named(layer), layer, layer === "all", layer === "all")));

  function means() {
    const width = Math.min(520, $("overlap-lines").firstElementChild ? $("overlap-lines").firstElementChild.clientWidth : 0) || 260;
    replace("overlap-lines", ...layers.map((layer) => {
      const rows = mean.filter((row) => row.layer === layer), points = (key) => rows.map((row) => [row.round, row[key]]);
      const why = "no pair with a valid client circuit and a global one";
      const series = [
        { name: "chance level", points: points("chance"), colour: "var(--chance)", dash: "5 4", area: true },
        { name: "mean IoU", points: points("iou"), colour: "var(--accent)", why },
        { name: "mean adjusted IoU", points: points("adjusted"), colour: "var(--accent-2)", hollow: true, why },
      ];
      const here = rows.filter((row) => row.round <= round()).pop();
      const note = here && here.n ? `${Math.round(here.significant * here.n)} of ${here.n} pairs above chance (p\u00a0<\u00a0.05)` : "no pair to compare";
      return element("div", {}, lines({ series, title: named(layer), label: `overlap by round, ${named(layer)}`, width, height: 190 }),
        element("p", { class: "muted" }, `Round ${here ? here.round : round()}: ${note}${here && here.n_undefined ? `, ${here.n_undefined} without an IoU` : ""}.`));
    }));
  }
  function map() {
    const grid = cells[$("overlap-layer").value] || {}, n = observed(grid), measure = +$("overlap-measure").value;
    const looked = observed(D.verdicts.letters);
    if (!n || (looked && n !== looked)) return replace("overlap-map", n ? nothing("No client circuit passed the checks in this round.") : missing(grid, "overlaps"));
    const lookup = new Map(grid[n].map((c) => [`${c[0]}/${c[1]}`, c]));
    const rows = looked ? D.verdicts.letters[n].map(([c]) => c) : [...new Set(grid[n].map((c) => c[0]))];
    replace("overlap-map", matrix({
      rows, columns: D.classes, rowWord: "client ", columnWord: "class", room: roomIn("overlap-map", 1100), widest: 46, label: `overlap in round ${n}`,
      cell: (i, j) => {
        const c = lookup.get(`${rows[i]}/${j}`), whose = `client ${rows[i]}, class ${D.classes[j]}, round ${n}`;
        if (!c) return { ...shade(null), tip: `${whose}\nnot defined: no valid client circuit, or none of the global model` };
        const p = undefinedNumber(c[5]) ? "not defined" : c[5] < 0.00001 ? "below 0.00001" : c[5].toPrecision(2);
        return { ...shade(c[measure]), mark: brief(c[measure]), data: { client: rows[i], index: j }, tip: `${whose}\nIoU ${show(c[2])}, chance ${show(c[4])}\nadjusted ${show(c[3])}, p ${p}` };
      },
    }));
  }
  for (const id of ["overlap-layer", "overlap-measure"]) if ($(id)) $(id).addEventListener("change", map);
  return () => { if (!$("overlap-lines").firstElementChild) replace("overlap-lines", ...layers.map(() => element("div"))); means(); map(); };
})());

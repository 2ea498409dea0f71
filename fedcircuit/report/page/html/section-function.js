"use strict";
// Client circuits at home and in the average: pairs of the round, and means over rounds.
{
  const { cells, mean } = D.function;
  const letterOf = (verdict) => Object.keys(D.words).find((key) => D.words[key].name === verdict) || "v";

  function plot() {
    const n = observed(cells), rows = n ? cells[n].filter((c) => !undefinedNumber(c[2]) && !undefinedNumber(c[3])) : [];
    if (!rows.length) return replace("function-plot", nothing("No client circuit was valid up to this round, so none can be followed into the average."));
    const S = roomIn("function-plot", 420), l = 46, t = 26, r = 14, b = 44;
    const lo = Math.min(0.4, ...rows.map((c) => Math.floor(Math.min(c[2], c[3]) * 10) / 10));
    const node = canvas(S, S, `client circuits in their own and in the global weights, round ${n}`);
    const x = (v) => l + ((v - lo) / (1 - lo)) * (S - l - r), y = (v) => S - b - ((v - lo) / (1 - lo)) * (S - t - b);
    put(node, "text", { x: 0, y: 13, style: "font-weight:600;font-size:13px" }, { text: `Each valid circuit, round ${n}` });
    for (let v = lo; v <= 1.001; v += lo < 0.2 ? 0.2 : 0.1) {
      put(node, "line", { x1: x(lo), x2: x(1), y1: y(v), y2: y(v), class: "axis" });
      put(node, "text", { x: l - 7, y: y(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text: +v.toFixed(1) });
      put(node, "text", { x: x(v), y: S - b + 17, "text-anchor": "middle", class: "soft" }, { text: +v.toFixed(1) });
    }
    put(node, "line", { x1: x(lo), x2: x(1), y1: y(0.5), y2: y(0.5), stroke: "var(--chance)", "stroke-dasharray": "5 4" }, { tip: "guessing" });
    put(node, "line", { x1: x(lo), y1: y(lo), x2: x(1), y2: y(1), class: "now" });
    put(node, "text", { x: (x(lo) + x(1)) / 2, y: S - 6, "text-anchor": "middle" }, { text: "in the client's own weights" });
    put(node, "text", { x: 0, y: 0, transform: `translate(12 ${(y(lo) + y(1)) / 2}) rotate(-90)`, "text-anchor": "middle" }, { text: "inside the averaged weights" });
    const radius = rows.length > 60 ? 5 : 8.5;
    for (const [client, index, own, average, verdict] of rows) {
      const letter = letterOf(verdict), word = D.words[letter];
      const tip = `client ${client}, class ${D.classes[index]}, round ${n}\n${verdict || "not judged"}: ${show(own)} at home, ${show(average)} in the average`;
      put(node, "circle", { cx: x(own), cy: y(average), r: radius, class: `cell w-${letter}`, style: "stroke:var(--ink)", opacity: 0.93 }, { tip, data: { client, index } });
      if (radius > 6) put(node, "text", { x: x(own), y: y(average), class: `mark w-${letter}`, style: "fill:var(--on);background:none;font-size:10px" }, { text: word.symbol });
    }
    replace("function-plot", node);
  }
  function means() {
    const points = (key) => mean.map((row) => [row.round, row[key]]);
    replace("function-lines", lines({
      series: [
        { name: "in the client's own weights", points: points("own"), colour: "var(--accent)" },
        { name: "inside the averaged weights", points: points("in_global"), colour: "var(--accent-2)", hollow: true },
      ],
      title: "Mean balanced accuracy over rounds", label: "mean balanced accuracy by round", width: roomIn("function-lines", 520), height: 260, lowest: 0.4, guess: 0.5,
    }), element("div", { class: "legend", id: "function-legend" }));
    const dot = (colour, hollow) => `background:${hollow ? "var(--paper)" : colour};border:2.5px solid ${colour};width:14px;height:14px;border-radius:7px`;
    legend("function-legend", [
      { style: dot("var(--accent)"), text: "in the client's own weights" },
      { style: dot("var(--accent-2)", true), text: "inside the averaged weights" },
      { style: "border:0;border-top:2px dashed var(--chance);height:0;border-radius:0", text: "guessing" },
    ]);
  }
  section("function", () => { plot(); means(); });
}

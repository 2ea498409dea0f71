"use strict";
// Verdicts of all clients and classes: a grid, in words, and since when.
{
  const { letters, reasons } = D.verdicts;
  const JUDGED = ["p", "r", "d", "c"], BROKEN = ["c", "d", "r"];
  const clientsIn = (n) => letters[n].map(([client]) => client);
  const counted = (n, letter) => letters[n].reduce((sum, [, text]) => sum + text.split(letter).length - 1, 0);
  const looked = Object.keys(letters).map(Number);

  const lookups = Object.fromEntries(looked.map((n) => [n, new Map(letters[n])]));

  // Verdicts of one pair by observed round, oldest first: [[round, letter]].
  function history(client, index) {
    return looked.map((n) => [n, (lookups[n].get(client) || "")[index]]).filter(([, letter]) => letter && letter !== " ");
  }
  function sinceOf(client, index, upTo) {
    const past = history(client, index).filter(([n]) => n <= upTo);
    let i = past.length - 1;
    while (i > 0 && past[i - 1][1] === past[past.length - 1][1]) i--;
    return past[i][0];
  }
  function reasonsIn(n) {
    return new Map((reasons[n] || []).map(([client, index, text]) => [`${client}/${index}`, text]));
  }
  function holds(client, index) {
    const counts = D.setting.partition && D.setting.partition.counts && D.setting.partition.counts[+client];
    return counts ? counts[index] : null;
  }

  function tiles() {
    const n = observed(letters), entries = [];
    const measured = D.accuracy.accuracy.filter((row) => row.round <= round()).pop();
    if (measured) entries.push([show(measured.accuracy), "", "global accuracy"]);
    if (n) {
      const total = letters[n].length * D.classes.length;
      const valid = [...JUDGED, "v"].reduce((sum, letter) => sum + counted(n, letter), 0);
      entries.push([`${valid} of ${total}`, "", "client circuits valid"]);
      for (const letter of JUDGED) entries.push([counted(n, letter), letter, D.words[letter].text]);
    }
    replace("tiles", ...entries.map(([value, letter, text]) => element("div", { class: "tile" }, element("b", {}, value),
      element("span", {}, letter ? element("i", { class: `w-${letter}` }, D.words[letter].symbol) : "", text))));
  }

  function grid(n) {
    const known = reasonsIn(n), rows = clientsIn(n), lookup = lookups[n];
    replace("verdict-grid", matrix({
      rows, columns: D.classes, rowWord: "client ", columnWord: "class", room: roomIn("verdict-grid", 1100), widest: 46, highest: 30,
      label: `verdict for every client and class in round ${n}`,
      cell: (i, j) => {
        const client = rows[i], letter = lookup.get(client)[j], word = D.words[letter], held = holds(client, j);
        if (!word) return { fill: "url(#hatch)", tip: `client ${client}, class ${D.classes[j]}\nnot looked at in round ${n}` };
        const why = known.get(`${client}/${j}`), owns = held === null ? "" : `\nholds ${held} training samples of it`;
        return {
          className: `w-${letter}${held ? " held" : ""}`, mark: word.symbol, data: { client, index: j },
          tip: `client ${client}, class ${D.classes[j]}, round ${n}\n${word.text}, since round ${sinceOf(client, j, +n)}${owns}${why ? `\n${why}` : ""}`,
        };
      },
    }));
  }

  // All broken pairs of a round, the worst first.
  function broken(n) {
    const pairs = letters[n].flatMap(([client, text]) => [...text].map((letter, index) => ({ client, index, letter })));
    const since = (p) => sinceOf(p.client, p.index, +n);
    return pairs.filter((p) => BROKEN.includes(p.letter)).map((p) => ({ ...p, since: since(p) }))
      .sort((a, b) => BROKEN.indexOf(a.letter) - BROKEN.indexOf(b.letter) || a.since - b.since);
  }
  function inWords(n) {
    const all = broken(n), most = 30, known = reasonsIn(n);
    if (!all.length) return replace("verdict-words", nothing(`Nothing that could be judged is broken in round ${n}.`));
    table("verdict-words", ["client", "class", "verdict", "since round", "because"], all.slice(0, most).map((p) => [
      p.client, D.classes[p.index],
      element("span", { class: `chip w-${p.letter}` }, `${D.words[p.letter].symbol} ${D.words[p.letter].text}`),
      p.since, known.get(`${p.client}/${p.index}`) || "the reason is in the run folder",
    ]), [2, 4]);
    if (all.length > most) $("verdict-words").append(nothing(`${all.length - most} more are in the grid.`));
  }

  function bars() {
    const W = roomIn("verdict-bars", 540), H = 210, l = 34, t = 10, b = 36;
    const node = canvas(W, H, "verdicts by round");
    const most = Math.max(1, ...looked.map((n) => JUDGED.reduce((sum, letter) => sum + counted(n, letter), 0)));
    const w = Math.min(64, (W - l) / looked.length), floor = H - b;
    const scale = (v) => (v / most) * (floor - t);
    put(node, "line", { x1: l, x2: l + w * looked.length, y1: floor, y2: floor, class: "axis" });
    for (const v of [0, most]) put(node, "text", { x: l - 6, y: floor - scale(v), "text-anchor": "end", "dominant-baseline": "central", class: "soft" }, { text: v });
    const every = Math.max(1, Math.ceil(22 / w));
    looked.forEach((n, i) => {
      let base = floor;
      for (const letter of JUDGED) {
        const count = counted(n, letter), h = scale(count), word = D.words[letter], gap = w > 12 ? 3 : 0.5;
        if (!count) continue;
        put(node, "rect", { x: l + w * i + gap, y: base - h, width: w - 2 * gap, height: Math.max(0.5, h - 1), class: `cell w-${letter}` }, { tip: `round ${n}: ${count} ${word.text}` });
        if (h > 15 && w > 30) put(node, "text", { x: l + w * (i + 0.5), y: base - h / 2, class: `mark w-${letter}`, style: "fill:var(--on);background:none;font-size:11px" }, { text: `${word.symbol} ${count}` });
        base -= h;
      }
      if (i % every === 0) put(node, "text", { x: l + w * (i + 0.5), y: floor + 15, "text-anchor": "middle", class: "soft", style: n === round() ? "font-weight:700;fill:var(--ink)" : "" }, { text: n });
    });
    put(node, "text", { x: l + (w * looked.length) / 2, y: H - 3, "text-anchor": "middle", class: "soft" }, { text: "round" });
    replace("verdict-bars", node);
  }

  function histories(n) {
    const now = broken(n), known = new Set(now.map((p) => `${p.client}/${p.index}`)), most = 20;
    const before = looked.filter((m) => m < +n).reverse().flatMap((m) => broken(m));
    for (const p of before) {
      const key = `${p.client}/${p.index}`;
      if (!known.has(key)) { known.add(key); now.push(p); }
    }
    if (!now.length) return replace("verdict-histories", nothing("No pair was ever broken up to this round."));
    const rows = now.slice(0, most), past = rows.map((p) => new Map(history(p.client, p.index)));
    replace("verdict-histories", matrix({
      rows: rows.map((p) => `client ${p.client}, class ${D.classes[p.index]}`), columns: looked.map(String), columnWord: "round",
      room: roomIn("verdict-histories", 540), widest: 30, highest: 22, label: "verdicts of broken pairs by round",
      cell: (i, j) => {
        const letter = past[i].get(looked[j]), word = D.words[letter], p = rows[i];
        const whose = `client ${p.client}, class ${D.classes[p.index]}, round ${looked[j]}`;
        if (!word) return { fill: "url(#hatch)", tip: `${whose}\nnot looked at` };
        return { className: `w-${letter}${looked[j] === +n ? " held" : ""}`, mark: word.symbol, tip: `${whose}\n${word.text}`, data: { client: p.client, index: p.index } };
      },
    }));
    if (now.length > most) $("verdict-histories").append(nothing(`${now.length - most} more pairs are not shown.`));
  }

  const order = ["p", "r", "d", "c", "v", "u", "n", "a"];
  legend("verdict-legend", order.map((letter) => ({ letter, symbol: D.words[letter].symbol, text: letter === "v" ? "valid, not judged" : D.words[letter].text, tip: D.words[letter].meaning })));
  section("verdicts", () => {
    tiles();
    const n = observed(letters);
    if (!n) {
      for (const id of ["verdict-words", "verdict-bars", "verdict-histories"]) replace(id, nothing("–"));
      return replace("verdict-grid", nothing("There are no verdicts up to this round: no circuits were compared."));
    }
    grid(n); inWords(n); bars(); histories(n);
  });
}

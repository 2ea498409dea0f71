"use strict";
// Accuracy of the global model, recall of every class, and what clients recognise themselves.
{
  const { accuracy, recall, clients } = D.accuracy;

  function line() {
    if (!accuracy.length) return replace("accuracy-line", nothing("Accuracy was not measured."));
    const points = accuracy.map((row) => [row.round, row.accuracy]);
    const title = `Accuracy of the global model (${accuracy[0].source})`;
    replace("accuracy-line", lines({ series: [{ name: "accuracy", points, colour: "var(--accent)" }], title, label: title, width: roomIn("accuracy-line", 520), height: 230 }));
  }
  function recallMap() {
    const rounds = Object.keys(recall);
    if (!rounds.length) return replace("recall-map", nothing("Recall was not measured."));
    const lookup = new Map(rounds.map((n) => [n, new Map(recall[n])]));
    replace("recall-map", matrix({
      rows: D.classes, columns: rounds, columnWord: "round", room: roomIn("recall-map", 540), widest: 40, highest: 24,
      label: "recall of the global model by class and round",
      cell: (i, j) => {
        const v = lookup.get(rounds[j]).get(i);
        return { ...shade(v), className: +rounds[j] === round() ? "held" : "", mark: brief(v), tip: `class ${D.classes[i]}, round ${rounds[j]}\nrecall ${show(v)}` };
      },
    }));
  }
  function clientRecall() {
    if (!$("client-recall")) return;
    const n = observed(clients);
    if (!n) return replace("client-recall", missing(clients, "what clients recognise"));
    const mine = new Map(clients[n].map(([client, index, v]) => [`${client}/${index}`, v]));
    const names = [...new Set(clients[n].map(([client]) => client))].filter((c) => c !== "global");
    replace("client-recall", matrix({
      rows: ["the average", ...names.map((c) => `client ${c}`)], columns: D.classes, columnWord: "class",
      room: roomIn("client-recall", 1100), widest: 46, highest: 26, label: `recall of every model in round ${n}`,
      cell: (i, j) => {
        const v = mine.get(`${i ? names[i - 1] : "global"}/${j}`);
        return { ...shade(v), className: i ? "" : "held", mark: brief(v), tip: `${i ? `client ${names[i - 1]}` : "global model"}, class ${D.classes[j]}, round ${n}\nrecall ${show(v)}` };
      },
    }));
  }
  section("accuracy", () => { line(); recallMap(); clientRecall(); });
}

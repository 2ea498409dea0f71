"use strict";
// Who holds what, and how long each stage took.
section("setting", () => {
  const { partition, seconds } = D.setting;
  if (partition && partition.counts) {
    const counts = partition.counts, most = Math.max(1, ...counts.flat());
    replace("partition", matrix({
      rows: counts.map((_, i) => String(i)), columns: D.classes, rowWord: "client ", columnWord: "class", room: roomIn("partition", 540), widest: 44, highest: 24, label: "training samples by client and class",
      cell: (i, j) => ({ ...(counts[i][j] ? shade(Math.sqrt(counts[i][j] / most)) : { fill: "transparent" }), mark: counts[i][j] ? String(counts[i][j]) : "", tip: `client ${i}, class ${D.classes[j]}\n${counts[i][j]} training samples` }),
    }), nothing(`${partition.kind}; ${counts.flat().reduce((a, b) => a + b, 0)} samples in all. ${(partition.notes || []).join(" ")}`));
  } else replace("partition", nothing("Not recorded: the server of this run does not know its clients' data."));
  if (!seconds.length) return replace("seconds", nothing("Not recorded."));
  const stages = [...new Set(seconds.flatMap((row) => Object.keys(row)))].filter((key) => key !== "round");
  const values = (stage) => seconds.map((row) => row[stage]).filter((v) => !undefinedNumber(v));
  const sum = (list) => list.reduce((a, b) => a + b, 0), all = sum(stages.flatMap(values));
  table("seconds", ["stage", "in all", "a round", "slowest round", "share"], stages.map((stage) => {
    const list = values(stage);
    return [stage.replace("observe:", "observer "), sum(list).toFixed(2), (sum(list) / Math.max(1, list.length)).toFixed(3), Math.max(0, ...list).toFixed(3), all ? `${Math.round((100 * sum(list)) / all)} %` : "–"];
  }), [0]);
});

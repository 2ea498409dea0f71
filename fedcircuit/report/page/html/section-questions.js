"use strict";
// The answers to the four questions: the same for all rounds of the slider.
{
  function bar(row) {
    const W = 130, H = 15, node = canvas(W, H, `IoU ${show(row.mean_iou)}, chance ${show(row.chance)}`);
    put(node, "rect", { x: 0, y: 3, width: W, height: H - 6, fill: "var(--unused)" });
    if (undefinedNumber(row.mean_iou)) put(node, "rect", { x: 0, y: 3, width: W, height: H - 6, fill: "url(#hatch)" });
    else put(node, "rect", { x: 0, y: 3, width: W * row.mean_iou, height: H - 6, fill: "var(--accent)" });
    if (!undefinedNumber(row.chance)) put(node, "rect", { x: W * row.chance - 1, y: 0, width: 2.5, height: H, fill: "var(--accent-2)" });
    return node;
  }
  let isDrawn = false;
  section("questions", () => {
    if (isDrawn) return;
    isDrawn = true;
    let before = "";
    table("question-table", ["question", "pairs of circuits", "layer", "IoU | chance", "IoU", "chance", "adjusted", "p < .05", "pairs", "undefined"], D.questions.map((row) => {
      const isNew = row.text !== before;
      before = row.text;
      const share = undefinedNumber(row.significant) ? "not defined" : `${Math.round(100 * row.significant)} %`;
      const name = row.question === "RQ2" ? `RQ2, ${row.scope}, from round ${row.round}` : `${row.question}, ${row.scope}`;
      return [isNew ? name : "", isNew ? row.text : "", row.layer === "all" ? "all" : called(row.layer, row.path), bar(row), show(row.mean_iou), show(row.chance), show(row.adjusted), share, row.n, row.n_undefined];
    }), [0, 1]);
  });
}

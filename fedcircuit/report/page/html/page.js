"use strict";
// Draws the sections the page has, again whenever the round or the width changes.
{
  function drawAll() {
    if (D.rounds.length) $("round-label").textContent = `${round()}${D.rounds.length > 1 ? ` of ${D.rounds[D.rounds.length - 1]}` : ""}`;
    for (const [key, draw] of SECTIONS) if ($(key)) draw();
  }
  tooltips();
  if (D.rounds.length) {
    $("round").addEventListener("input", (e) => { state.at = +e.target.value; drawAll(); });
    let width = innerWidth, waiting = 0;
    addEventListener("resize", () => {
      if (innerWidth === width) return;
      width = innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(drawAll, 120);
    });
    drawAll();
  }
}

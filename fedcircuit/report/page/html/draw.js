"use strict";
// Ground of all pictures: the data, the chosen round, elements, numbers in words.
const D = JSON.parse(document.getElementById("data").textContent);
const state = { at: Math.max(0, D.rounds.length - 1) };
const SECTIONS = [];
// A section's script names its element and how it is drawn, again for every round.
const section = (key, draw) => SECTIONS.push([key, draw]);
const $ = (id) => document.getElementById(id);
const NS = "http://www.w3.org/2000/svg";

const undefinedNumber = (v) => v === null || v === undefined;
const show = (v, digits = 3) => (undefinedNumber(v) ? "not defined" : v.toFixed(digits));
// As it stands in a small cell: .53, 1.0, -.12
function brief(v) {
  if (undefinedNumber(v)) return "";
  const text = v.toFixed(2);
  return Math.abs(v) >= 0.995 ? v.toFixed(1) : text.replace("0.", ".");
}
// A layer as people call it; the module path stands beside where it says more.
const called = (name, path) => (/^\d+$/.test(name) ? `layer ${name}` : path && path !== name ? `${name} (module ${path})` : name);
const round = () => D.rounds[state.at];

// The observer may look at every n-th round only: the latest one looked at, as text, or null.
function observed(grid) {
  for (let i = state.at; i >= 0; i--) if (grid[String(D.rounds[i])]) return String(D.rounds[i]);
  return null;
}
// Whether a round was measured but is too old to be embedded in the page.
const isLeftOut = (grid) => Object.keys(grid).length > 0 && observed(grid) === null;
function missing(grid, what) {
  if (!isLeftOut(grid)) return nothing(`${what} in this round: not defined.`);
  return nothing(`To keep the page small, ${what} are embedded from round ${Object.keys(grid)[0]} on; the run folder has all.`);
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "tip") node.dataset.tip = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.map((c) => (undefinedNumber(c) ? "" : c)));
  return node;
}
function nothing(text) { return element("p", { class: "muted" }, text); }
function replace(id, ...nodes) { if ($(id)) $(id).replaceChildren(...nodes); }
function roomIn(id, most) { return Math.min(most, $(id).clientWidth || most); }

function canvas(width, height, label) {
  const node = document.createElementNS(NS, "svg");
  node.setAttribute("viewBox", `0 0 ${width} ${height}`);
  node.setAttribute("width", width);
  node.setAttribute("height", height);
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", label);
  return node;
}
// options: text, tip, and data-* values
function put(parent, tag, attributes, { text, tip, data } = {}) {
  const node = document.createElementNS(NS, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (!undefinedNumber(text)) node.textContent = text;
  if (tip) node.dataset.tip = tip;
  if (data) Object.assign(node.dataset, data);
  parent.appendChild(node);
  return node;
}

// One hue from light to dark: reads the same in grey. Undefined is hatched, never 0.
function shade(v) {
  if (undefinedNumber(v)) return { fill: "url(#hatch)", ink: "var(--soft)" };
  const share = Math.round(100 * Math.max(0, Math.min(1, v)));
  return { fill: `color-mix(in oklab, var(--high) ${share}%, var(--low))`, ink: share > 48 ? "var(--on-high)" : "var(--on-low)" };
}

function legend(id, entries) {
  replace(id, ...entries.map(({ symbol = "", letter, style = "", text, tip = "" }) =>
    element("span", { tip }, element("i", { class: letter ? `w-${letter}` : "", style }, symbol), text)));
}

function table(id, head, rows, wordColumns = []) {
  const cell = (tag, content, j) => element(tag, wordColumns.includes(j) ? { class: "words" } : {}, content);
  const line = (tag, cells) => element("tr", {}, ...cells.map((c, j) => cell(tag, c, j)));
  replace(id, element("table", {}, element("thead", {}, line("th", head)), element("tbody", {}, ...rows.map((r) => line("td", r)))));
}

function tooltips() {
  const tip = $("tip");
  const move = (e) => {
    const target = e.target.closest ? e.target.closest("[data-tip]") : null;
    tip.hidden = !target || !target.dataset.tip;
    if (tip.hidden) return;
    tip.textContent = target.dataset.tip;
    tip.style.left = `${Math.max(4, Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(e.clientY + 16, innerHeight - tip.offsetHeight - 8))}px`;
  };
  document.addEventListener("pointermove", move);
  document.addEventListener("pointerdown", move);
}

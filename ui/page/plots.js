/** The waterfall of a turn and the plot of the last turns. */

import { make } from "./dom.js";

/** What lies between one mark of a turn and the next, in the order in which they come. */
const STAGES = [
  ["turnEnded", "Sure that you had finished"],
  ["transcribed", "Understanding the words"],
  ["responseCreated", "Beginning the answer"],
  ["firstText", "Writing its first word"],
  ["firstSound", "Making its first sound"],
  ["firstPlayed", "Bringing it to your ear"],
];

/** [stage, begin, end] in ms, by the order of time: a mark may come before one that it follows. */
export function stagesOf({ marks }) {
  const known = STAGES.filter(([name]) => marks[name] !== undefined).sort(
    ([a], [b]) => marks[a] - marks[b],
  );
  let from = 0;
  return known.map(([name, label]) => {
    const stage = [label, from, Math.max(from, marks[name])];
    from = stage[2];
    return stage;
  });
}

/** One row for each stage of a turn; a table, so that it can be read as well as seen. */
export function drawWaterfall(place, figure, turn) {
  const stages = stagesOf(turn);
  if (!stages.length) return;
  const total = Math.max(1, ...stages.map(([, , end]) => end));
  const rows = stages.map(([label, begin, end]) => {
    const bar = make("i");
    bar.style.marginInlineStart = `${(100 * begin) / total}%`;
    bar.style.width = `${Math.max(0.6, (100 * (end - begin)) / total)}%`;
    return make("tr", {}, make("th", { scope: "row" }, label), make("td", { class: "vs-lane" }, bar),
      make("td", { class: "vs-ms" }, `${end - begin} ms`));
  });
  const head = make("thead", { class: "vs-hidden" }, make("tr", {}, ...["Stage", "When", "Took"].map((name) => make("th", { scope: "col" }, name))));
  place.replaceChildren(make("table", {}, head, make("tbody", {}, ...rows)));
  const from = turn.source === "speech" ? "after you stopped speaking" : "after you sent it";
  const played = turn.marks.firstPlayed;
  figure.textContent = played === undefined ? "" : `${played} ms ${from}`;
}

const [HEIGHT, LEFT, BOTTOM] = [170, 44, 20];

/** A bar for each turn that was heard, with the median. */
export function drawTurns(place, figure, turns) {
  const waits = turns.map(({ marks }) => marks.firstPlayed).filter((wait) => wait !== undefined);
  const ordered = [...waits].sort((a, b) => a - b);
  const middle = ordered.length / 2;
  const median = Math.round((ordered[Math.ceil(middle) - 1] + ordered[Math.floor(middle)]) / 2);
  const step = [100, 250, 500, 1000, 2500, 5000, 10_000].find((s) => s * 4 >= ordered.at(-1)) ?? 20_000;
  const top = step * Math.ceil(ordered.at(-1) / step);
  const width = place.clientWidth || 520;
  const y = (ms) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - 10) * ms) / top;
  const slot = (width - LEFT) / Math.max(12, waits.length);
  const words = `Waits of the last ${waits.length} turns in milliseconds: median ${median}, longest ${ordered.at(-1)}.`;
  const svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": words });
  for (let ms = 0; ms <= top; ms += step) {
    svg.append(make("line", { class: "vs-rule", x1: LEFT, x2: width, y1: y(ms), y2: y(ms) }),
      make("text", { x: LEFT - 6, y: y(ms) + 4, "text-anchor": "end" }, ms < 1000 ? `${ms}` : `${ms / 1000} s`));
  }
  waits.forEach((wait, number) => {
    const bar = make("rect", { x: LEFT + slot * number + slot * 0.15, y: y(wait), width: slot * 0.7, height: y(0) - y(wait), rx: 2 });
    bar.append(make("title", {}, `${wait} ms`));
    svg.append(bar);
  });
  svg.append(make("line", { class: "vs-median", x1: LEFT, x2: width, y1: y(median), y2: y(median) }));
  place.replaceChildren(svg);
  figure.textContent = `median ${median} ms`;
}

/** The Models tab: what is loaded, what it takes, and how it is exchanged. */

import { bytes, fill, find, make, tell } from "./dom.js";

const TITLES = { recogniser: "Speech recognition", language_model: "Language model", voice: "Voice", image_encoder: "Eyes" };
const STORE = { ready: "on this machine", absent: "to be downloaded", incomplete: "download to be finished", damaged: "damaged, will be downloaded again", unverified: "on this machine, compared with its checksum at next use" };

/** Codes with their names in the reader's own language. */
export function languageOptions(codes) {
  let name = (code) => code;
  if (typeof Intl.DisplayNames === "function") {
    const names = new Intl.DisplayNames(undefined, { type: "language", fallback: "code" });
    name = (code) => {
      try {
        return names.of(code);
      } catch {
        return code;
      }
    };
  }
  const named = codes.map((code) => [code, name(code)]).sort(([, a], [, b]) => a.localeCompare(b));
  return codes.length === 1 ? named : [["", "Found out by itself"], ...named];
}

/** Steps of an exchange in words and on a bar. */
function shower(note, bar) {
  return ({ type, stage, model, done, total }) => {
    if (type !== "voxsight.models.progress") return;
    bar.hidden = false;
    if (stage === "fetching") {
      bar.max = total;
      bar.value = done;
      tell(note, `Fetching ${model}: ${bytes(done)} of ${bytes(total)}`);
    } else {
      bar.removeAttribute("value");
      tell(note, `Loading ${model} …`);
    }
  };
}

/** The choices of models in another tab: to choose is to exchange. */
export function chooseModels(root, loaded, problem) {
  const selects = [...root.querySelectorAll("[data-model]")];
  const note = find(root, "[data-model-note]");
  const bar = find(root, "[data-model-progress]");
  loaded.addEventListener("change", () => {
    for (const select of selects) {
      const role = loaded.value.roles.find(({ role: name }) => name === select.dataset.model);
      const names = new Set([role.loaded, ...role.choices.map(({ name }) => name)]);
      fill(select, [...names].map((name) => [name, name]), role.loaded);
      select.disabled = loaded.value.exchange !== null || names.size < 2;
    }
  });
  for (const select of selects) {
    select.addEventListener("change", async () => {
      for (const each of selects) each.disabled = true;
      try {
        await loaded.exchange({ [select.dataset.model]: select.value }, shower(note, bar));
        tell(note, "Loaded. It is used from the next conversation on.");
      } catch (error) {
        tell(note, null);
        problem(error.message);
        await loaded.refresh();
      }
      bar.hidden = true;
    });
  }
}

/** @param {HTMLElement} root @param {import("./api.js").Loaded} loaded */
export function startModels(root, loaded) {
  const problem = find(root, ".vs-problem");
  const work = find(root, ".vs-work");
  const draw = () => {
    drawMemory(find(root, ".vs-memory"), loaded.value);
    const cards = loaded.value.roles.map((role) => card(role, loaded.value.exchange === null, exchange));
    find(root, ".vs-roles").replaceChildren(...cards);
    tell(find(root, "[data-why]"), loaded.value.exchange);
  };
  async function exchange(role, name) {
    tell(problem, null);
    work.hidden = false;
    for (const button of root.querySelectorAll(".vs-roles button")) button.disabled = true;
    try {
      await loaded.exchange({ [role]: name }, shower(find(work, "[data-note]"), find(work, "progress")));
    } catch (error) {
      tell(problem, error.message);
      await loaded.refresh();
    }
    work.hidden = true;
  }
  loaded.addEventListener("change", draw);
  find(root, '[data-do="refresh"]').addEventListener("click", () => loaded.refresh());
}

function drawMemory(place, { memory, sessions }) {
  const meters = [["This server", memory.process_bytes, memory.machine_bytes],
    ...memory.devices.map(({ name, used_bytes, total_bytes }) => [name, used_bytes, total_bytes])];
  const rows = meters.map(([name, used, total]) => {
    const label = total ? `${bytes(used)} of ${bytes(total)}` : bytes(used);
    const bar = make("div", { class: "vs-bar vs-thick", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": total ? Math.round((100 * used) / total) : 0, "aria-valuetext": label }, make("i"));
    bar.style.setProperty("--level", total ? used / total : 0);
    return make("div", { class: "vs-memory-row" }, make("span", {}, name), bar, make("span", { class: "vs-ms" }, label));
  });
  place.replaceChildren(...rows, make("p", { class: "vs-note" }, `${sessions.running} of ${sessions.limit} sessions are running.`));
}

function card({ role, loaded, choices }, allowed, exchange) {
  const own = choices.find(({ name }) => name === loaded);
  const others = choices.filter(({ name }) => name !== loaded);
  const lines = others.map(({ name, summary, bytes: size, state }) => {
    const button = make("button", { type: "button", class: "vs-button", onclick: () => exchange(role, name), disabled: !allowed,
      "aria-label": `Load ${name}` }, "Load");
    return make("li", {}, make("div", {}, make("strong", {}, name), make("p", {}, summary),
      make("p", { class: "vs-note" }, `${bytes(size)}, ${STORE[state]}`)), button);
  });
  const facts = own ? [own.summary, `${bytes(own.bytes)} of files, licence ${own.licence}`] : ["Chosen by the server's settings."];
  return make("article", { class: "vs-role" }, make("h3", {}, TITLES[role] ?? role),
    make("div", { class: "vs-role-loaded" }, make("strong", {}, loaded), make("span", { class: "vs-chip" }, "loaded"),
      make("p", {}, facts[0]), ...facts.slice(1).map((fact) => make("p", { class: "vs-note" }, fact))),
    ...(lines.length ? [make("ul", { class: "vs-others", "aria-label": `Others for ${TITLES[role]}` }, ...lines)] : []));
}

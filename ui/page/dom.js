/** Small helpers of the page: elements, notes that last, files to save, sounds in files. */

/** The first element within `root`; a missing one is a mistake of the page's own HTML. */
export function find(root, selector) {
  const found = root.querySelector(selector);
  if (!found) throw new Error(`The page has no ${selector}.`);
  return found;
}

/** An element with attributes and children; text is never read as HTML. */
export function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "text", "path", "g", "title"].includes(tag);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Shows a sentence in an element, and hides the element when there is none. */
export function tell(element, sentence) {
  element.hidden = !sentence;
  element.textContent = sentence ?? "";
}

/** A file that is chosen in a tab, or dropped on its field, goes to `take`. */
export function takeFiles(root, take) {
  const input = find(root, "[data-file]");
  const drop = find(root, "[data-drop]");
  find(root, '[data-do="choose"]').addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = "";
  });
  const over = (on) => (event) => {
    event.preventDefault();
    drop.toggleAttribute("data-over", on);
  };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}

/** Fills a `<select>`; `options` are [value, label]. */
export function fill(select, options, chosen) {
  select.replaceChildren(
    ...options.map(([value, label]) => make("option", { value, selected: value === chosen }, label)),
  );
}

/** What a person chose lasts, if the browser lets us keep it. */
export const kept = {
  get(name, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(`voxsight.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`voxsight.${name}`, JSON.stringify(value));
    } catch {
      // Private windows of some browsers keep nothing.
    }
  },
};

/** Gives the person a file. */
export function save(name, type, ...parts) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** "1.2 GB" */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count < 10 && unit ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** "1:05.2" */
export function clock(seconds) {
  const rest = seconds % 60;
  return `${Math.floor(seconds / 60)}:${rest < 10 ? "0" : ""}${rest.toFixed(1)}`;
}

/** The header of a WAV file (mono, 16 bit) for so many bytes of samples. */
export function wavHeader(size, rate) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, size, true);
  return view.buffer;
}

/** The loudest sample of each of `columns` stretches. */
export function peaks(samples, columns) {
  const found = new Float32Array(columns);
  const step = samples.length / columns;
  for (let column = 0; column < columns; column += 1) {
    const end = Math.min(samples.length, Math.ceil((column + 1) * step));
    for (let i = Math.floor(column * step); i < end; i += 1) {
      found[column] = Math.max(found[column], Math.abs(samples[i]));
    }
  }
  return found;
}

/** A canvas ready to be drawn on in CSS pixels: its context, width and height. */
export function canvas(element, width = element.clientWidth) {
  const scale = window.devicePixelRatio || 1;
  const height = Number(element.getAttribute("data-height") ?? element.height);
  element.setAttribute("data-height", height);
  element.width = Math.round(width * scale);
  element.height = Math.round(height * scale);
  element.style.height = `${height}px`;
  const context = element.getContext("2d");
  context.scale(scale, scale);
  return { context, width, height };
}

/** A colour of the page's style. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--vs-${name}`).trim();
}

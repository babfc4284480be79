/** What was said, as it is being said: sure words, those that may change, and the spoken one. */

import { find, make } from "./dom.js";

export class Log {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.list = find(root, ".vs-log");
    this.scroll = find(root, ".vs-scroll");
    this.empty = find(root, ".vs-empty");
    this.announce = find(root, "[data-announce]");
    /** Lines by the ids of their items. @type {Map<string, HTMLElement>} */
    this.lines = new Map();
  }

  /** An item came, changed or went; `items` are all, in order. */
  item(item, items, gone) {
    if (gone) {
      this.lines.get(item.id)?.remove();
      this.lines.delete(item.id);
      return;
    }
    if (item.type !== "message" || item.role === "system") return;
    const line = this.lines.get(item.id) ?? this.add(item);
    this.place(line, item, items);
    if (item.images.length && !line.querySelector("img")) {
      find(line, ".vs-line").before(make("img", { src: item.images[0], alt: "A picture that you showed" }));
    }
    this.write(line, item.text, item.tentative);
  }

  add({ id, role }) {
    const who = role === "user" ? "You" : "Voxsight";
    const line = make("li", { class: `vs-said vs-${role}`, "data-item": id },
      make("span", { class: "vs-who" }, who), make("p", { class: "vs-line" }));
    this.lines.set(id, line);
    this.empty.hidden = true;
    return line;
  }

  /** Where the item stands among those that are shown. */
  place(line, item, items) {
    const before = items.slice(0, items.indexOf(item)).findLast(({ id }) => this.lines.has(id));
    const previous = before ? this.lines.get(before.id) : null;
    const following = previous ? previous.nextSibling : this.list.firstChild;
    if (line.parentNode === this.list && (following === line || line.previousSibling === previous)) return;
    this.following(() => this.list.insertBefore(line, following));
  }

  write(line, sure, tentative = "") {
    const words = find(line, ".vs-line");
    line.toggleAttribute("data-empty", !sure && !tentative && !line.querySelector("img"));
    if (words.dataset.text === sure + tentative && !tentative) return;
    words.dataset.text = sure;
    this.following(() => {
      words.replaceChildren(sure);
      if (tentative) words.append(make("span", { class: "vs-maybe" }, `${sure ? " " : ""}${tentative.trim()}`));
    });
  }

  transcript({ itemId, text, tentative, final }) {
    const line = this.lines.get(itemId);
    if (!line) return;
    this.write(line, text, tentative);
    if (final && text) this.announce.textContent = `You said: ${text}`;
  }

  /** Marks the word that is being spoken; `index` -1 when none is. */
  word({ itemId, index, start, end }) {
    const words = this.lines.get(itemId)?.querySelector(".vs-line");
    if (!words) return;
    const text = words.dataset.text ?? "";
    if (index < 0) words.replaceChildren(text);
    else words.replaceChildren(text.slice(0, start), make("mark", {}, text.slice(start, end)), text.slice(end));
  }

  /** An answer was heard to its end, or cut to `text`. */
  heard({ itemId, text, interrupted }) {
    const line = this.lines.get(itemId);
    if (!line) return;
    if (!interrupted) {
      this.word({ itemId, index: -1 });
      return;
    }
    delete find(line, ".vs-line").dataset.text;
    this.write(line, text);
    if (!line.querySelector(".vs-cut")) line.append(make("span", { class: "vs-cut" }, text ? "interrupted here" : "not heard"));
    line.toggleAttribute("data-empty", false);
  }

  /** Changes the list and keeps its end in view, if it was. */
  following(change) {
    const { scroll } = this;
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
    change();
    if (atEnd) scroll.scrollTop = scroll.scrollHeight;
  }
}

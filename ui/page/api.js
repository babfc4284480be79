/** The server's HTTP interface, as the page uses it. */

import { make } from "./dom.js";

const KEY = "voxsight.key";

/** A refusal of the server, in its own words. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The key that the person gave for this tab of the browser; none is needed on one's own machine. */
export function key() {
  return sessionStorage.getItem(KEY) ?? undefined;
}

function headers(more = {}) {
  return key() ? { ...more, Authorization: `Bearer ${key()}` } : more;
}

/** Asks the person for a key; resolves when one was given, rejects when none was. */
export function askForKey(message) {
  return new Promise((resolve, reject) => {
    const field = make("input", { type: "password", id: "vs-key", autocomplete: "off", required: true });
    const form = make("form", { method: "dialog" },
      make("h2", {}, "This server needs a key"),
      make("p", {}, message),
      make("label", { for: "vs-key" }, "Key"), field,
      make("div", { class: "vs-controls" }, make("button", { class: "vs-button vs-primary" }, "Use it")));
    const dialog = make("dialog", { class: "vs-dialog", "aria-label": "Key" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (!field.value) return reject(new Refusal(401, message));
      sessionStorage.setItem(KEY, field.value.trim());
      return resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

async function refusal(response) {
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not from the server itself: a proxy's page has no sentence for us.
  }
  return new Refusal(response.status, message);
}

async function reached(asking) {
  try {
    return await asking;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server cannot be reached; is it still running?");
  }
}

/** JSON of a resource. */
export async function read(path) {
  const response = await reached(fetch(path, { headers: headers() }));
  if (response.ok) return response.json();
  throw await refusal(response);
}

/** A stream of bytes: an async iterator of Uint8Array. */
export async function* stream(path, body, signal) {
  const options = { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body), signal };
  const response = await reached(fetch(path, options));
  if (!response.ok) throw await refusal(response);
  const reader = response.body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
}

/**
 * Posts and reads the answer's events as they come.
 *
 * XMLHttpRequest, because fetch does not tell how much of an upload has gone out.
 * @param {string} path
 * @param {FormData | object} body
 * @param {{ event: (event: any) => void, upload?: (share: number) => void, signal?: AbortSignal }} told
 */
export function events(path, body, { event, upload, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let read = 0;
    let failed = null;
    const take = () => {
      const text = request.responseText;
      for (let end = text.indexOf("\n\n", read); end >= 0; end = text.indexOf("\n\n", read)) {
        const line = text.slice(read, end);
        read = end + 2;
        if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
        const data = JSON.parse(line.slice(6));
        if (data.error) failed = new Refusal(500, data.error.message);
        else event(data);
      }
    };
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => upload?.(total ? loaded / total : 0);
    request.onprogress = () => request.status === 200 && take();
    request.onerror = () => reject(new Refusal(0, "The connection to the server broke off; try again."));
    request.onabort = () => reject(new DOMException("Cancelled.", "AbortError"));
    request.onload = () => {
      if (request.status !== 200) {
        refusal(new Response(request.responseText, { status: request.status })).then(reject);
        return;
      }
      take();
      if (failed) reject(failed);
      else resolve();
    };
    signal?.addEventListener("abort", () => request.abort());
    if (body instanceof FormData) request.send(body);
    else {
      request.setRequestHeader("Content-Type", "application/json");
      request.send(JSON.stringify(body));
    }
  });
}

/** What the server has loaded, shared by the tabs: the value, and who wants to hear of a new one. */
export class Loaded extends EventTarget {
  /** @type {any} */
  value = null;

  /** Ask again, until the server is ready; a person is asked for a key if one is needed. */
  async refresh() {
    for (;;) {
      try {
        this.value = await read("/v1/voxsight/models");
        this.dispatchEvent(new Event("change"));
        return;
      } catch (error) {
        this.dispatchEvent(new CustomEvent("problem", { detail: error }));
        if (error.status === 401) await askForKey(error.message);
        else await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    }
  }

  /** Change models; `told` gets each step. */
  async exchange(chosen, told) {
    await events("/v1/voxsight/models", chosen, { event: told });
    await this.refresh();
  }
}

/** The stage of the Talk tab: how loud it is, the camera, and pictures that are shown. */

import { find, tell } from "./dom.js";

/** A meter is told so often to those who cannot see it. */
const TOLD_MS = 500;
/** Loudness in dB that fills nothing, and all of a meter. */
const [FAINT_DB, LOUD_DB] = [-55, -12];

export class Stage {
  /** @param {HTMLElement} root @param {any} client @param {(sentence: string | null) => void} problem */
  constructor(root, client, problem) {
    this.root = root;
    this.client = client;
    this.problem = problem;
    this.meters();
    this.camera();
    this.pictures();
  }

  meters() {
    const place = find(this.root, ".vs-orb-place");
    const told = { in: 0, out: 0 };
    this.client.addEventListener("level", ({ detail: { direction, rms } }) => {
      const db = 20 * Math.log10(Math.max(rms, 1e-6));
      const level = Math.min(1, Math.max(0, (db - FAINT_DB) / (LOUD_DB - FAINT_DB)));
      const bar = find(this.root, `[data-level="${direction}"]`);
      bar.style.setProperty("--level", level.toFixed(3));
      place.style.setProperty(`--${direction}`, level.toFixed(3));
      const now = performance.now();
      if (now - told[direction] < TOLD_MS) return;
      told[direction] = now;
      bar.setAttribute("aria-valuenow", Math.round(level * 100));
    });
  }

  camera() {
    const button = find(this.root, '[data-do="camera"]');
    const other = find(this.root, '[data-do="switch"]');
    const preview = find(this.root, ".vs-preview");
    const seen = find(this.root, ".vs-seen");
    button.addEventListener("click", async () => {
      this.problem(null);
      if (this.client.cameraStream) this.client.cameraOff();
      else await Promise.resolve(this.client.cameraOn()).catch(() => {}); // told as a problem
    });
    other.addEventListener("click", () => Promise.resolve(this.client.cameraSwitch()).catch(() => {}));
    this.client.addEventListener("camera", async ({ detail: { stream } }) => {
      preview.srcObject = stream;
      preview.hidden = !stream;
      button.setAttribute("aria-pressed", Boolean(stream));
      button.textContent = stream ? "Camera off" : "Camera";
      if (!stream) tell(seen, null);
      else this.shown(null);
      this.note();
      other.hidden = !stream || (await this.client.cameras()).length < 2;
    });
    this.client.addEventListener("seen", ({ detail: { sightings, recognised } }) => {
      const best = sightings.slice(0, 2).map(({ name, probability }) => `${name} ${Math.round(probability * 100)} %`);
      tell(seen, recognised ? `Sees ${best.join(", ")}` : "Sees nothing it knows");
    });
  }

  pictures() {
    const place = find(this.root, ".vs-camera");
    const input = find(this.root, "[data-picture]");
    find(this.root, '[data-do="picture"]').addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (input.files[0]) this.picture(input.files[0]);
      input.value = "";
    });
    const over = (on) => (event) => {
      event.preventDefault();
      place.toggleAttribute("data-over", on);
    };
    place.addEventListener("dragover", over(true));
    place.addEventListener("dragleave", over(false));
    place.addEventListener("drop", (event) => {
      over(false)(event);
      const file = event.dataTransfer.files[0];
      if (file) this.picture(file);
    });
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      if (file && this.root.offsetParent !== null) this.picture(file);
    });
  }

  async picture(file) {
    this.problem(null);
    if (this.client.state !== "live") {
      this.problem("Connect first; then show the picture again and ask about it.");
      return;
    }
    try {
      await this.client.sendImage(file);
      this.shown(URL.createObjectURL(file));
    } catch (error) {
      this.problem(error.message);
    }
  }

  /** The picture that was shown last, in place of the camera's. */
  shown(url) {
    const image = find(this.root, ".vs-shown");
    if (image.src) URL.revokeObjectURL(image.src);
    image.hidden = !url;
    if (url) image.src = url;
    else image.removeAttribute("src");
    this.note();
  }

  note() {
    const nothing = find(this.root, ".vs-preview").hidden && find(this.root, ".vs-shown").hidden;
    find(this.root, ".vs-dropnote").hidden = !nothing;
  }
}

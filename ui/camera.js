/** Pictures for the server: frames of a camera as JPEG, and files made small enough. */

import { VoxsightError, deviceError } from "./faults.js";

/** A camera that shows a frame every `everyMs` until it is off. */
export class Camera {
  /**
   * @param {(dataUrl: string) => void} onFrame
   * @param {(stream: MediaStream | null) => void} onStream it went on, changed or off
   * @param {(error: VoxsightError) => void} onLost
   * @param {{ everyMs?: number, longestSide?: number, quality?: number }} [options]
   */
  constructor(onFrame, onStream, onLost, options = {}) {
    this._onFrame = onFrame;
    this._onStream = onStream;
    this._onLost = onLost;
    this._options = { everyMs: 700, longestSide: 640, quality: 0.75, ...options };
    /** @type {MediaStream | null} */
    this.stream = null;
    this._turn = 0;
  }

  /**
   * Switches it on, or to another one.
   *
   * @param {{ deviceId?: string, facing?: "user" | "environment" }} [which]
   */
  async on({ deviceId, facing } = {}) {
    if (!navigator.mediaDevices) throw new VoxsightError("insecure_context");
    this._turn += 1;
    const turn = this._turn;
    // Many phones cannot open a second camera while the first one runs.
    this._release();
    const side = { width: { ideal: 1280 }, height: { ideal: 720 } };
    const which = deviceId ? { deviceId: { exact: deviceId } } : facing ? { facingMode: facing } : {};
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { ...side, ...which } });
    } catch (error) {
      this._onStream(null);
      throw deviceError("camera", error);
    }
    if (turn !== this._turn) {
      stopAll(stream); // switched off or over meanwhile
      return;
    }
    this.stream = stream;
    stream.getVideoTracks()[0].onended = () => {
      this.off();
      this._onLost(new VoxsightError("camera_lost"));
    };
    this._onStream(stream);
    await this._watch(stream);
  }

  /** @param {string} [deviceId] the one to switch to; else the other side, or the next one */
  async switch(deviceId) {
    if (deviceId) return this.on({ deviceId });
    const now = this.stream?.getVideoTracks()[0]?.getSettings() ?? {};
    if (now.facingMode) {
      return this.on({ facing: now.facingMode === "user" ? "environment" : "user" });
    }
    const all = await this.list();
    const place = all.findIndex((camera) => camera.deviceId === now.deviceId);
    return this.on({ deviceId: all[(place + 1) % Math.max(1, all.length)]?.deviceId });
  }

  /** @returns {Promise<{ deviceId: string, label: string }[]>} names only once one was allowed */
  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const cameras = devices.filter(({ kind }) => kind === "videoinput");
    return cameras.map(({ deviceId, label }, k) => ({
      deviceId,
      label: label || `Camera ${k + 1}`,
    }));
  }

  /** Lets the camera go. */
  off() {
    this._turn += 1;
    const was = this.stream;
    this._release();
    if (was) this._onStream(null);
  }

  _release() {
    clearInterval(this._timer);
    if (this.stream) stopAll(this.stream);
    if (this._video) this._video.srcObject = null;
    this.stream = this._video = null;
  }

  async _watch(stream) {
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = stream;
    this._video = video;
    await video.play().catch(() => {}); // it was switched meanwhile
    if (this.stream !== stream) return;
    this._show(video);
    this._timer = setInterval(() => this._show(video), this._options.everyMs);
  }

  _show(video) {
    if (video.videoWidth === 0) return;
    const { longestSide, quality } = this._options;
    this._onFrame(asJpeg(video, video.videoWidth, video.videoHeight, longestSide, quality));
  }
}

/** @param {MediaStream} stream */
function stopAll(stream) {
  for (const track of stream.getTracks()) {
    track.onended = null;
    track.stop();
  }
}

/**
 * @param {CanvasImageSource} source
 * @param {number} width @param {number} height of the source
 * @param {number} longestSide @param {number} quality 0..1
 * @returns {string} data URL
 */
function asJpeg(source, width, height, longestSide, quality) {
  const scale = Math.min(1, longestSide / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white"; // under what is transparent
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", quality);
}

/**
 * A picture as the server takes it: upright, JPEG, small.
 *
 * @param {Blob | string} picture a file, or a data: or blob: URL
 * @param {number} [longestSide]
 * @returns {Promise<string>} data URL; VoxsightError if it is no picture
 */
export async function pictureUrl(picture, longestSide = 1024) {
  const own = typeof picture !== "string";
  const image = new Image();
  image.src = own ? URL.createObjectURL(picture) : picture;
  try {
    await image.decode();
    return asJpeg(image, image.naturalWidth, image.naturalHeight, longestSide, 0.9);
  } catch (cause) {
    throw new VoxsightError("picture_unreadable", { cause });
  } finally {
    if (own) URL.revokeObjectURL(image.src);
  }
}

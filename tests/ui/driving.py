"""A page with one client, driven from a test."""

from typing import Any

from playwright.sync_api import Page

from tests.ui.site import Site

#: Makes ``window.client``; keeps its events, sounds it played, and connects on a click.
_SETUP = """async (options) => {
  const { VoxsightClient } = await import("/client.js");
  const client = new VoxsightClient(options);
  const told = [];
  const kinds = ["state", "problem", "session", "item", "transcript", "answer", "word", "heard",
    "level", "playback", "seen", "camera", "timing", "event"];
  for (const kind of kinds) {
    client.addEventListener(kind, ({ detail }) => {
      const plain = kind === "camera" ? { on: detail.stream !== null } : detail;
      told.push({ kind, at: performance.now(), ...structuredClone(plain) });
    });
  }
  Object.assign(window, { client, told });
  document.querySelector("button").onclick = () => {
    window.connected = client.connect().then(() => null, (error) => error.code);
  };
}"""
#: Keeps all that the client lets be heard, with the time on the page's clock.
_RECORD = """async () => {
  const source = `registerProcessor("test-recorder", class extends AudioWorkletProcessor {
    process([channels]) {
      if (channels.length) this.port.postMessage({ block: channels[0].slice(), time: currentTime });
      return true;
    }
  });`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { audioContext, output } = client;
  await audioContext.audioWorklet.addModule(url);
  const recorder = new AudioWorkletNode(audioContext, "test-recorder");
  window.recorded = [];
  recorder.port.onmessage = ({ data }) => {
    const zero = performance.now() - audioContext.currentTime * 1000;
    recorded.push({ ...data, at: zero + data.time * 1000 });
  };
  output.connect(recorder);
  recorder.connect(audioContext.destination);
}"""
_PLAYED = """(until) => {
  const heard = recorded.filter(({ at }) => until === null || at < until);
  const whole = Int16Array.from(heard.flatMap(({ block }) => Array.from(block)),
    (sample) => Math.max(-1, Math.min(1, sample)) * 32767);
  let text = "";
  for (const byte of new Uint8Array(whole.buffer)) text += String.fromCharCode(byte);
  return { rate: client.audioContext.sampleRate, pcm: btoa(text) };
}"""


class Driver:
    """What a test does with the page's client."""

    def __init__(self, page: Page, site: Site, url: str, **options: Any) -> None:
        self.page = page
        page.goto(site.origin)
        page.evaluate(_SETUP, {"url": url, **options})

    def press_connect(self) -> None:
        """Click, without waiting for what comes of it."""
        self.page.click("button")

    def connect(self) -> str | None:
        """Click and wait; the code of the error if it failed."""
        self.press_connect()
        code: str | None = self.page.evaluate("() => connected")
        return code

    def record(self) -> None:
        """Keep what is heard from now on."""
        self.page.evaluate(_RECORD)

    def played(self, until: float | None = None) -> dict[str, Any]:
        """``rate`` and base64 ``pcm`` of what was recorded ``until`` a time of the page's clock."""
        told: dict[str, Any] = self.page.evaluate(_PLAYED, until)
        return told

    def do(self, script: str, value: Any = None) -> Any:
        """Evaluate an expression; ``client`` and ``told`` are there, and the argument is ``x``."""
        return self.page.evaluate(f"async (x) => {script}", value)

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        self.page.wait_for_function(f"() => {condition}")

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind that the client has told."""
        events: list[dict[str, Any]] = self.page.evaluate(
            "(kind) => told.filter((event) => event.kind === kind)", kind
        )
        return events

    def wait_told(self, kind: str, condition: str = "true") -> dict[str, Any]:
        """The first event ``e`` of a kind for which the condition holds, now or later."""
        found = f"told.find((e) => e.kind === '{kind}' && ({condition}))"
        self.wait(f"{found} !== undefined")
        event: dict[str, Any] = self.page.evaluate(f"() => {found}")
        return event

    @property
    def problems(self) -> list[str]:
        return [event["code"] for event in self.told("problem")]

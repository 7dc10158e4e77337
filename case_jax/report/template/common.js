"use strict";
/** What the scripts of several pages use. */
const common = (() => {
  /** An element of SVG, or of HTML. */
  const make = (space) => (name, attributes = {}, ...children) => {
    const element = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const svg = make("http://www.w3.org/2000/svg");
  const html = make(null);
  const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

  /** How the times of recordings of up to `longest` seconds are written: as seconds, or as h:mm:ss. */
  const clock = (longest) => (value) => {
    if (longest < 600) return `${number(value, longest < 60 ? 2 : 1)} s`;
    const whole = Math.round(value);
    const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    return (parts[0] ? parts : parts.slice(1)).map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
  };

  /** Round values that divide a range into about `count` parts. */
  function ticks(low, high, count, units = [1, 2, 5, 10]) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * units.find((unit) => unit * power >= rough);
    const values = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) values.push(i * step);
    return values;
  }

  const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const short = (text, length = 40) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

  const line = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");

  /** Puts detections in rows, the surest first, so that none covers another. */
  function inRows(detections) {
    const rows = [];
    for (const one of detections) {
      let row = rows.find((others) => others.every(([, start, end]) => one[1] >= end || one[2] <= start));
      if (!row) rows.push((row = []));
      row.push(one);
    }
    return rows;
  }

  /** The position of the video that the page's address names, or -1. */
  function addressed(videos) {
    const text = location.hash.replace(/^#video=/, "");
    let name = text;
    try {
      name = decodeURIComponent(text);
    } catch {
      // No encoded name: taken as it is.
    }
    return videos.findIndex((entry) => entry.name === name);
  }

  /** Makes the page's address name a video, or none. */
  function nameInAddress(entry) {
    try {
      history.replaceState(null, "", entry ? `#video=${encodeURIComponent(entry.name)}` : "#");
    } catch {
      // A page inside another may not have an address of its own.
    }
  }

  /**
   * Lists the videos and shows the one that the address names, now and whenever the address changes. `list` fills
   * the list with what matches the text in `search`; `listed` says whether a video is in it.
   */
  function followAddress({ videos, search, list, listed, show }) {
    const asked = addressed(videos);
    list(false);
    if (asked >= 0) show(asked);
    window.addEventListener("hashchange", () => {
      const wanted = addressed(videos);
      if (wanted < 0) return;
      if (!listed(wanted)) {
        search.value = "";
        list(false);
      }
      show(wanted);
    });
  }

  /** Calls `redraw` whenever the page's width has changed. */
  function followWidth(redraw) {
    let width = document.body.clientWidth;
    window.addEventListener("resize", () => {
      if (document.body.clientWidth === width) return;
      width = document.body.clientWidth;
      redraw();
    });
  }

  return { clock, counted, followAddress, followWidth, html, inRows, line, nameInAddress, number, short, svg, ticks };
})();

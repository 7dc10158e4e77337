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

  return { clock, counted, html, inRows, line, number, short, svg, ticks };
})();

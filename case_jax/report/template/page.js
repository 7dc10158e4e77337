"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const LEFT = 36, RIGHT = 12; // margins of every chart, pixels
  const { counted, followAddress, followWidth, html, inRows, line, nameInAddress, number, short, svg, ticks } = common;
  const seconds = common.clock(page.longest);

  const percent = (value) => (value === null ? "–" : `${number(100 * value, 1)} %`);

  /** 1, 2 and 5 times the powers of ten between two powers, or the powers alone where these are many. */
  function decades(low, high) {
    const values = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const unit of high - low > 2 ? [1] : [1, 2, 5]) values.push(unit * 10 ** power);
    }
    return values.filter((value) => value >= 10 ** low && value <= 10 ** high);
  }

  // ---------------------------------------------------------------- tables

  function makeSortable(table) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = html("button", { type: "button" }, heading.textContent);
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = heading.getAttribute("aria-sort");
        const falling = before ? before === "ascending" : column > 0; // figures: the highest first
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const key = (row) => row.cells[column].textContent;
        const compare = (a, b) =>
          column ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b), "en", { numeric: true });
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort((a, b) => (falling ? -1 : 1) * compare(a, b)));
      });
    });
  }

  // ---------------------------------------------------------------- curves of the training

  function curve(chart) {
    const values = chart.series.flatMap((series) => series.points.map((point) => point[1]));
    const steps = [...new Set(chart.series.flatMap((series) => series.points.map((point) => point[0])))].sort((a, b) => a - b);
    const logarithmic = chart.title === "Losses" && Math.min(...values) > 0;
    const scale = logarithmic ? Math.log10 : (value) => value;
    const drawn = html("div");
    const said = html("output", { "aria-live": "off" });
    const named = (step) =>
      chart.series.flatMap(({ name, points }) => {
        const point = points.find(([x]) => x === step);
        return point ? [`${name} ${Number(point[1].toPrecision(4))}${chart.unit && ` ${chart.unit}`}`] : [];
      });
    const figure = html("figure", { class: "curve" }, html("figcaption", {}, chart.title), drawn, said);

    function draw() {
      const width = Math.max(260, figure.clientWidth), height = 210, top = 8, bottom = 34;
      let low = Math.min(...values.map(scale)), high = Math.max(...values.map(scale));
      if (!logarithmic) low = Math.min(low, 0);
      if (high - low < 1e-9) high = low + 1;
      const first = steps[0], last = steps[steps.length - 1];
      const x = (step) => LEFT + 8 + ((step - first) / (last - first || 1)) * (width - LEFT - 8 - RIGHT);
      const y = (value) => top + ((high - scale(value)) / (high - low)) * (height - top - bottom);
      const picture = svg("svg", { width, height, role: "img", "aria-label": `${chart.title}; the text below tells first and last values` });
      const levels = logarithmic ? decades(low, high) : ticks(low, high, 4);
      for (const level of levels) {
        picture.append(
          svg("path", { class: "axis", d: `M${LEFT + 8} ${y(level)}H${width - RIGHT}` }),
          svg("text", { x: LEFT + 4, y: y(level) + 4, "text-anchor": "end", class: "quiet" }, String(Number(level.toPrecision(2)))),
        );
      }
      for (const step of ticks(first, last, width / 110)) {
        picture.append(svg("text", { x: x(step), y: height - bottom + 16, "text-anchor": "middle", class: "quiet" }, step.toLocaleString("en")));
      }
      picture.append(svg("text", { x: width - RIGHT, y: height - 4, "text-anchor": "end", class: "quiet" }, "step"));
      const dashes = ["", "7 4", "2 3", "9 3 2 3", "4 2"];
      chart.series.forEach(({ points }, i) => {
        const styled = { class: `s${i % 5}`, "stroke-dasharray": dashes[i % 5] };
        picture.append(svg("path", { ...styled, d: line(points.map(([step, value]) => [x(step), y(value)])) }));
        if (points.length < 60) {
          for (const [step, value] of points) picture.append(svg("circle", { class: `s${i % 5}`, cx: x(step), cy: y(value), r: 2 }));
        }
      });
      const cursor = svg("path", { class: "cursor", visibility: "hidden" });
      picture.append(cursor);
      picture.addEventListener("pointermove", (event) => {
        const place = event.clientX - picture.getBoundingClientRect().left;
        const step = steps.reduce((best, one) => (Math.abs(x(one) - place) < Math.abs(x(best) - place) ? one : best));
        cursor.setAttribute("d", `M${x(step)} ${top}V${height - bottom}`);
        cursor.setAttribute("visibility", "visible");
        said.textContent = `step ${step.toLocaleString("en")}: ${named(step).join(", ")}`;
      });
      const legend = html("div", { class: "small" });
      if (chart.series.length > 1) {
        chart.series.forEach(({ name }, i) => {
          const sample = svg("svg", { width: 34, height: 10, "aria-hidden": "true", style: "display:inline" });
          sample.append(svg("path", { class: `s${i % 5}`, "stroke-dasharray": dashes[i % 5], d: "M2 5H32" }));
          legend.append(html("span", { style: "white-space:nowrap;margin-right:1em" }, sample, ` ${name}`));
        });
      }
      drawn.replaceChildren(picture, legend);
    }
    return { figure, draw };
  }

  // ---------------------------------------------------------------- the timeline browser

  const browser = {
    shown: [], // positions in page.videos, in order
    current: -1, // position in page.videos; -1 where none matches
    before: -1, // the one on display before none matched
    score: page.score,
    label: -1, // class whose T-CAS is drawn
    cursor: null, // seconds
    tracks: null,
  };
  const video = () => page.videos[browser.current];

  /** The tracks of a video by name; values in [0, 1], clusters as numbers. */
  function unpack(entry) {
    const bytes = Uint8Array.from(atob(entry.tracks), (letter) => letter.charCodeAt(0));
    const size = page.samples;
    let next = 0;
    const row = () => bytes.subarray(next * size, ++next * size);
    const tracks = { attention: row(), transformed: null, mixed: null, cluster: null, cas: {} };
    if (page.clusters.length) {
      tracks.transformed = row();
      tracks.mixed = row();
      const high = row(), low = row();
      tracks.cluster = Uint16Array.from(low, (value, i) => 256 * high[i] + value);
    }
    for (const label of entry.classes) tracks.cas[label] = row();
    return tracks;
  }

  const foregroundOf = new Map(page.clusters.map(({ number, foreground }) => [number, foreground]));
  const above = (entry) => entry.found.filter(([, , , score]) => score >= browser.score);

  function overlap([, start, end], [, otherStart, otherEnd]) {
    const shared = Math.max(0, Math.min(end, otherEnd) - Math.max(start, otherStart));
    const union = end - start + otherEnd - otherStart - shared;
    return union > 0 ? shared / union : 0;
  }

  /** The best tIoU of a detection with a true action of its class. */
  const bestOverlap = (found, entry) =>
    Math.max(0, ...entry.truth.filter(([label]) => label === found[0]).map((truth) => overlap(found, truth)));

  function drawTimeline() {
    const entry = video(), box = at("timeline");
    if (!entry) return box.replaceChildren();
    const tracks = browser.tracks, size = page.samples;
    const width = Math.max(300, box.clientWidth) * Number(at("zoom").value);
    const x = (second) => LEFT + (second / entry.seconds) * (width - LEFT - RIGHT);
    const middle = (i) => x(((i + 0.5) * entry.seconds) / size);
    const picture = svg("svg", { width, role: "img" });
    const titles = svg("g");
    picture.append(
      svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        svg("path", { class: "hatch", d: "M0 0V6" }))),
    );
    let y = 4;
    const title = (text, extra = []) => {
      titles.append(svg("text", { x: 6, y: y + 12 }, text));
      let place = 6 + 7 * text.length + 14;
      for (const [style, name] of extra) {
        titles.append(svg("path", { class: style, d: `M${place} ${y + 8}h26` }), svg("text", { x: place + 30, y: y + 12 }, name));
        place += 30 + 7 * name.length + 14;
      }
      y += 20;
    };
    const chart = (height, curves) => {
      for (const level of [0, 0.5, 1]) {
        const place = y + (1 - level) * height;
        picture.append(svg("path", { class: "axis", d: `M${LEFT} ${place}H${width - RIGHT}` }));
        titles.append(svg("text", { x: LEFT - 5, y: place + 4, "text-anchor": "end", class: "quiet" }, String(level)));
      }
      for (const [style, values] of curves) {
        picture.append(svg("path", { class: style, d: line(Array.from(values, (value, i) => [middle(i), y + (1 - value / 255) * height])) }));
      }
      y += height + 8;
    };

    const narrow = box.clientWidth < 560;
    title("Foreground", [
      ["attention", narrow ? "P^A" : "P^A attention"],
      ...(tracks.mixed ? [["clusters", narrow ? "P^T" : "P^T clusters"], ["both", narrow ? "P^M" : "P^M both"]] : []),
    ]);
    chart(110, [["attention", tracks.attention], ...(tracks.mixed ? [["clusters", tracks.transformed], ["both", tracks.mixed]] : [])]);
    if (tracks.cas[browser.label]) {
      title(`T-CAS of ${short(page.classes[browser.label])}`);
      chart(64, [["cas", tracks.cas[browser.label]]]);
    }
    if (tracks.cluster) {
      title(narrow ? "Clusters (tall: foreground)" : "Most likely cluster, as tall as it is foreground");
      const height = 26;
      picture.append(svg("path", { class: "axis", d: `M${LEFT} ${y + height}H${width - RIGHT}` }));
      for (let begin = 0, end; begin < size; begin = end) {
        const cluster = tracks.cluster[begin];
        for (end = begin + 1; end < size && tracks.cluster[end] === cluster; ) end++;
        const from = x((begin * entry.seconds) / size), to = x((end * entry.seconds) / size);
        const tall = Math.max(2, height * foregroundOf.get(cluster));
        picture.append(svg("rect", { class: "cluster", x: from, y: y + height - tall, width: Math.max(0.5, to - from - 0.5), height: tall }));
        if (to - from > 18) picture.append(svg("text", { x: (from + to) / 2, y: y + height - 4, "text-anchor": "middle" }, String(cluster)));
      }
      y += height + 8;
    }
    const visible = above(entry);
    const labels = [...new Set([...entry.truth.map(([label]) => label), ...visible.map(([label]) => label)])];
    for (const label of labels) {
      title(`${short(page.classes[label])}: true (hatched), found`);
      for (const one of entry.truth.filter(([own]) => own === label)) {
        picture.append(svg("rect", { class: "truth", x: x(one[1]), y, width: Math.max(1.5, x(one[2]) - x(one[1])), height: 13 },
          svg("title", {}, `true ${page.classes[label]}, ${seconds(one[1])} to ${seconds(one[2])}`)));
      }
      y += 16;
      for (const row of inRows(visible.filter(([own]) => own === label))) {
        for (const one of row) {
          const strength = Math.min(1, Math.max(0.25, (one[3] - page.lowest) / (page.highest - page.lowest || 1)));
          picture.append(svg("rect", { class: "found", x: x(one[1]), y, width: Math.max(1.5, x(one[2]) - x(one[1])), height: 7, "fill-opacity": strength.toFixed(2) },
            svg("title", {}, `found ${page.classes[label]} ${number(one[3])}, ${seconds(one[1])} to ${seconds(one[2])}, tIoU ${number(bestOverlap(one, entry))}`)));
        }
        y += 9;
      }
      y += 6;
    }
    picture.append(svg("path", { class: "axis", d: `M${LEFT} ${y}H${width - RIGHT}` }));
    const units = entry.seconds > 120 ? [1, 1.2, 3, 6, 12] : undefined; // whole minutes and their parts
    for (const second of ticks(0, entry.seconds, (width - LEFT) / 90, units)) {
      picture.append(svg("path", { class: "axis", d: `M${x(second)} ${y}v5` }),
        svg("text", { x: x(second), y: y + 18, "text-anchor": "middle", class: "quiet" }, page.longest < 600 ? `${Number(second.toPrecision(6))} s` : seconds(second)));
    }
    const cursor = svg("path", { class: "cursor", visibility: "hidden", d: "" });
    picture.append(titles, cursor);
    picture.setAttribute("height", y + 24);
    picture.setAttribute("aria-label",
      `${entry.name}: foreground probabilities, activation of ${page.classes[browser.label]}, ${counted(entry.truth.length, "true action")} and ` +
      `${counted(visible.length, "detection")} over ${seconds(entry.seconds)}; the list below tells the segments`);
    const bottom = y;
    browser.moveCursor = () => {
      const there = browser.cursor !== null;
      cursor.setAttribute("visibility", there ? "visible" : "hidden");
      if (there) cursor.setAttribute("d", `M${x(browser.cursor)} 2V${bottom}`);
    };
    const pointed = (event) => {
      const place = event.clientX - picture.getBoundingClientRect().left;
      pointAt(((place - LEFT) / (width - LEFT - RIGHT)) * entry.seconds, false);
    };
    picture.addEventListener("pointermove", pointed);
    picture.addEventListener("pointerdown", pointed); // a finger's tap
    const scrolled = box.scrollLeft;
    box.replaceChildren(picture);
    box.scrollLeft = scrolled;
    browser.keepTitles = () => titles.setAttribute("transform", `translate(${box.scrollLeft} 0)`);
    browser.keepTitles();
    browser.moveCursor();
    browser.reveal = () => {
      const place = x(browser.cursor);
      if (place < box.scrollLeft + LEFT || place > box.scrollLeft + box.clientWidth - RIGHT) box.scrollLeft = place - box.clientWidth / 2;
    };
  }

  /** Says what is known of a moment; to screen readers, too, if it is asked for by a key. */
  function pointAt(second, aloud) {
    at("readout").setAttribute("aria-live", aloud ? "polite" : "off");
    const entry = video(), tracks = browser.tracks, size = page.samples;
    browser.cursor = Math.min(entry.seconds, Math.max(0, second));
    const i = Math.min(size - 1, Math.floor((browser.cursor / entry.seconds) * size));
    const value = (row) => number(row[i] / 255);
    const parts = [`P^A ${value(tracks.attention)}`];
    if (tracks.mixed) parts.push(`P^T ${value(tracks.transformed)}`, `P^M ${value(tracks.mixed)}`);
    if (tracks.cas[browser.label]) parts.push(`T-CAS of ${page.classes[browser.label]} ${value(tracks.cas[browser.label])}`);
    if (tracks.cluster) parts.push(`cluster ${tracks.cluster[i]} (foreground ${number(foregroundOf.get(tracks.cluster[i]))})`);
    const on = ([, start, end]) => start <= browser.cursor && browser.cursor < end;
    const truth = entry.truth.filter(on).map(([label]) => page.classes[label]);
    const found = above(entry).filter(on).map(([label, , , score]) => `${page.classes[label]} ${number(score)}`);
    at("readout").textContent =
      `${seconds(browser.cursor)}: ${parts.join(", ")}; true: ${truth.join(", ") || "nothing"}; found: ` +
      `${found.slice(0, 6).join(", ") || "nothing"}${found.length > 6 ? ` and ${found.length - 6} more` : ""}`;
    browser.moveCursor();
  }

  function drawList() {
    const entry = video();
    const visible = entry ? above(entry) : [];
    at("listed").querySelector("summary").textContent = `The ${counted(visible.length, "detection")} and ${counted(entry ? entry.truth.length : 0, "true action")} as a table`;
    const rows = [
      ...(entry ? entry.truth.map(([label, start, end]) => [start, ["true", page.classes[label], start, end, "", ""]]) : []),
      ...visible.map((one) => [one[1], ["found", page.classes[one[0]], one[1], one[2], number(one[3]), number(bestOverlap(one, entry))]]),
    ].sort((a, b) => a[0] - b[0]);
    const cells = (kind, values) =>
      html("tr", {}, ...values.map((value, i) => (i && kind === "td" ? html("td", {}, value) : html("th", { scope: kind === "th" ? "col" : "row" }, value))));
    at("listed").querySelector("div").replaceChildren(
      html("table", {}, html("caption", {}, entry ? `Segments of ${entry.name}` : "No video"),
        html("thead", {}, cells("th", ["kind", "class", "from (s)", "to (s)", "score", "best tIoU with its class"])),
        html("tbody", {}, ...rows.map(([, row]) => cells("td", row.map((value) => (typeof value === "number" ? number(value) : value)))))),
    );
  }

  function drawSummary() {
    const entry = video();
    at("score-value").textContent = number(browser.score);
    if (!entry) {
      at("summary").textContent = "No video matches.";
      return;
    }
    const place = browser.shown.indexOf(browser.current);
    at("summary").textContent =
      `${entry.name}, ${place + 1} of ${browser.shown.length}: ${seconds(entry.seconds)}, quality ${percent(entry.quality)}, ` +
      `${counted(entry.truth.length, "true action")}, ${above(entry).length} of ${counted(entry.found.length, "detection")} from score ${number(browser.score)}`;
  }

  function show(position) {
    browser.current = position;
    if (position >= 0) browser.before = position;
    at("timeline").scrollLeft = 0;
    browser.cursor = null;
    at("readout").textContent = "";
    const entry = video();
    at("previous").disabled = at("next").disabled = browser.shown.length < 2;
    if (entry) {
      browser.tracks = unpack(entry);
      at("video").value = String(position);
      const annotated = new Set(entry.truth.map(([label]) => label));
      at("class").replaceChildren(
        ...entry.classes.map((label) => html("option", { value: label }, page.classes[label] + (annotated.has(label) ? " (true)" : ""))),
      );
      if (!entry.classes.includes(browser.label)) browser.label = entry.classes[0];
      if (!annotated.has(browser.label)) browser.label = entry.classes[0];
      at("class").value = String(browser.label);
    } else {
      at("class").replaceChildren();
    }
    nameInAddress(entry);
    drawTimeline();
    drawSummary();
    drawList();
  }

  const ORDERS = {
    worst: (a, b) => (a.quality ?? 2) - (b.quality ?? 2),
    best: (a, b) => (b.quality ?? -1) - (a.quality ?? -1),
    instances: (a, b) => b.truth.length - a.truth.length,
    longest: (a, b) => b.seconds - a.seconds,
    name: () => 0,
  };

  /** Lists the videos that match the search, in the order asked for. */
  function list(keep) {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (entry) => [entry.name, ...entry.truth.map(([label]) => page.classes[label])].join(" ").toLowerCase();
    browser.shown = page.videos
      .map((entry, position) => position)
      .filter((position) => words.every((word) => text(page.videos[position]).includes(word)));
    const order = ORDERS[at("order").value];
    browser.shown.sort((a, b) => order(page.videos[a], page.videos[b]) || page.videos[a].name.localeCompare(page.videos[b].name, "en", { numeric: true }));
    at("video").replaceChildren(
      ...browser.shown.map((position) => {
        const { name, quality, truth } = page.videos[position];
        return html("option", { value: position }, `${name} – ${percent(quality)}, ${counted(truth.length, "action")}`);
      }),
    );
    show(keep && browser.shown.includes(browser.before) ? browser.before : (browser.shown[0] ?? -1));
  }

  function go(by) {
    if (!browser.shown.length) return;
    const place = browser.shown.indexOf(browser.current) + by;
    show(browser.shown[(place + browser.shown.length) % browser.shown.length]);
  }

  function onKey(event) {
    if (!at("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target !== document.body && !at("browser").contains(target)) return;
    const arrow = event.key.startsWith("Arrow");
    if (target.closest("input:not([type=checkbox]), select, summary") || (target.closest("button, input") && !arrow)) return;
    // What can be scrolled keeps the arrows.
    const box = target.closest(".wide, #timeline");
    if (box && arrow && !event.shiftKey && box.scrollWidth > box.clientWidth) return;
    const move = { ArrowLeft: -1, k: -1, ArrowRight: 1, j: 1 }[event.key];
    if (event.key === "/") at("search").focus();
    else if (move && event.shiftKey && arrow) {
      if (!video()) return;
      const step = video().seconds / page.samples;
      pointAt((browser.cursor ?? -step / 2) + move * step, true);
      browser.reveal();
    } else if (move) go(move);
    else return;
    event.preventDefault();
  }

  function start() {
    document.querySelectorAll("table.sortable").forEach(makeSortable);
    const curves = page.charts.map(curve);
    if (curves.length) at("charts").append(...curves.map(({ figure }) => figure));
    curves.forEach(({ draw }) => draw());

    at("browser").hidden = false;
    const slider = at("score");
    Object.assign(slider, { min: Math.floor(100 * page.lowest) / 100, max: Math.ceil(100 * page.highest) / 100, step: 0.01, value: page.score });
    browser.score = Number(slider.value);
    const summary = at("summary");
    slider.addEventListener("change", () => summary.setAttribute("aria-live", "polite"));
    slider.addEventListener("input", () => {
      summary.setAttribute("aria-live", "off"); // the slider says its value itself
      browser.score = Number(slider.value);
      drawTimeline();
      drawSummary();
      drawList();
    });
    at("order").value = "instances";
    at("search").addEventListener("input", () => list(true));
    at("order").addEventListener("change", () => list(false));
    at("video").addEventListener("change", () => show(Number(at("video").value)));
    at("previous").addEventListener("click", () => go(-1));
    at("next").addEventListener("click", () => go(1));
    at("zoom").addEventListener("change", drawTimeline);
    at("class").addEventListener("change", () => {
      browser.label = Number(at("class").value);
      drawTimeline();
    });
    at("timeline").addEventListener("scroll", () => browser.keepTitles?.());
    document.addEventListener("keydown", onKey);
    followAddress({
      videos: page.videos,
      search: at("search"),
      list,
      listed: (position) => browser.shown.includes(position),
      show,
    });
    followWidth(() => {
      curves.forEach(({ draw }) => draw());
      drawTimeline();
    });
  }

  start();
})();

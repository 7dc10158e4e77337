"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const LEFT = 36, RIGHT = 12; // margins of the timeline, pixels
  const MOST = 1000; // detections that are drawn and listed at once
  const FAR = 10; // snippets that Shift moves by
  const { counted, followAddress, followWidth, html, inRows, line, nameInAddress, number, short, svg, ticks } = common;
  const player = at("player");

  const state = {
    shown: [], // positions in page.videos, in order
    current: -1, // position in page.videos; -1 where none matches
    before: -1, // the one on display before none matched
    tracks: null,
    score: page.score,
    label: -1, // class whose T-CAS is drawn
    cursor: 0, // seconds of the video
    chosen: null, // a detection
    playable: false, // false: the cursor moves without a player
    marked: new Map(), // detection -> its elements
  };
  const video = () => page.videos[state.current];
  const seconds = (value) => common.clock(video().seconds)(value);
  const above = () => (video() ? video().found.filter(([, , , score]) => score >= state.score) : []);
  const visible = () => above().slice(0, MOST);
  const inTime = () => visible().sort((a, b) => a[1] - b[1] || a[2] - b[2] || b[3] - a[3]);
  const during = ([, start, end]) => start <= state.cursor + 1e-3 && state.cursor + 1e-3 < end; // players round times
  const told = ([label, start, end, score]) => `${page.classes[label]} ${number(score)}, ${seconds(start)} to ${seconds(end)}`;

  /** The tracks of a video by name, one byte for each point. */
  function unpack(entry) {
    const bytes = Uint8Array.from(atob(entry.tracks), (letter) => letter.charCodeAt(0));
    const size = entry.starts.length;
    let next = 0;
    const row = () => bytes.subarray(next * size, ++next * size);
    const tracks = { attention: row(), transformed: null, mixed: null, cas: {} };
    if (entry.clusters) [tracks.transformed, tracks.mixed] = [row(), row()];
    for (const label of entry.classes) tracks.cas[label] = row();
    return tracks;
  }

  /** The point of the curves that a time belongs to. */
  function pointAt(second) {
    const { starts } = video();
    let low = 0, high = starts.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (starts[middle] <= second + 1e-6) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // ---------------------------------------------------------------- the player

  function whyNot(entry) {
    if (entry.coding === "images") return "is a folder of images, which has no player.";
    if (!entry.address) return "is a GIF, in which browsers cannot go to a chosen time.";
    if (entry.copied) return `cannot be played: its copy is not found at ${entry.address}.`;
    return `cannot be played by this browser: either the file is not there, or the browser does not know ${entry.coding}.`;
  }

  function load(entry) {
    state.playable = Boolean(entry?.address);
    player.pause();
    at("unplayable").hidden = true;
    player.hidden = !state.playable;
    if (state.playable) player.src = entry.address;
    else {
      player.removeAttribute("src");
      player.load();
      if (entry) giveUp();
    }
  }

  function giveUp() {
    const entry = video();
    state.playable = false;
    player.hidden = true;
    at("unplayable").hidden = false;
    at("unplayable").textContent = `${entry.file} ${whyNot(entry)} The timeline and its cursor work without it.`;
  }

  /** Moves to a time, to be told to screen readers if a key asked for it. */
  function seek(second, aloud = false) {
    if (!video()) return;
    const to = Math.min(video().seconds, Math.max(0, second));
    if (state.playable) player.currentTime = to + video().begin;
    moveTo(to, aloud);
    state.reveal();
  }

  function play() {
    if (state.playable) player.play().catch(() => {}); // not allowed here, or another video was chosen meanwhile
  }

  function toggle() {
    if (player.paused) play();
    else player.pause();
  }

  /** The cursor follows the player. */
  function follow() {
    if (state.playable && !player.seeking) moveTo(Math.max(0, player.currentTime - video().begin), player.paused ? null : false);
  }

  function followWhilePlaying() {
    follow();
    if (player.paused || player.ended) return;
    state.reveal?.();
    requestAnimationFrame(followWhilePlaying);
  }

  // ---------------------------------------------------------------- detections

  /** Goes to a detection; `aloud` as for `seek`. */
  function choose(one, { playing = false, aloud = false } = {}) {
    if (state.label !== one[0] && video().classes.includes(one[0])) {
      state.label = one[0];
      at("class").value = String(one[0]);
      drawTimeline();
    }
    state.chosen = one;
    seek(one[1], aloud);
    if (playing) {
      play();
      player.scrollIntoView({ block: "nearest" });
    }
    const row = state.marked.get(one)?.find((element) => element.tagName === "TR");
    const box = at("listed");
    if (row) {
      const top = row.offsetTop - box.querySelector("thead").offsetHeight;
      if (top < box.scrollTop || row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = top;
    }
  }

  /** The detection after the chosen one, or before it; from the cursor where none is chosen or it has gone on. */
  function step(by) {
    const order = inTime();
    const place = state.chosen && during(state.chosen) ? order.indexOf(state.chosen) : -1;
    let next = order[place + by];
    if (place < 0) next = by > 0 ? order.find(([, start]) => start > state.cursor) : order.findLast(([, start]) => start < state.cursor);
    if (next) choose(next, { aloud: true });
  }

  const mark = (one, element) => {
    if (!state.marked.has(one)) state.marked.set(one, []);
    state.marked.get(one).push(element);
    return element;
  };

  /** Shows which detections the cursor is in, and which one is chosen. */
  function highlight() {
    for (const [one, elements] of state.marked) {
      const now = during(one), chosen = one === state.chosen;
      for (const element of elements) {
        if (element.classList.contains("now") !== now) element.classList.toggle("now", now);
        if (element.hasAttribute("aria-current") === chosen) continue;
        if (chosen) element.setAttribute("aria-current", "true");
        else element.removeAttribute("aria-current");
      }
    }
  }

  /** Puts the cursor at a time; `aloud` says whether screen readers tell, null leaves that as it is. */
  function moveTo(second, aloud) {
    state.cursor = second;
    const entry = video(), tracks = state.tracks, i = pointAt(second);
    const value = (row) => number(row[i] / 255);
    const parts = [`P^A ${value(tracks.attention)}`];
    if (tracks.mixed) parts.push(`P^T ${value(tracks.transformed)}`, `P^M ${value(tracks.mixed)}`);
    if (tracks.cas[state.label]) parts.push(`T-CAS of ${page.classes[state.label]} ${value(tracks.cas[state.label])}`);
    const found = above().filter(during).map(([label, , , score]) => `${page.classes[label]} ${number(score)}`);
    if (aloud !== null) at("readout").setAttribute("aria-live", aloud ? "polite" : "off");
    const text =
      `${seconds(second)} of ${seconds(entry.seconds)}: ${parts.join(", ")}; found: ${found.slice(0, 6).join(", ") || "nothing"}` +
      (found.length > 6 ? ` and ${found.length - 6} more` : "");
    if (at("readout").textContent !== text) at("readout").textContent = text;
    state.moveCursor();
    highlight();
  }

  // ---------------------------------------------------------------- the timeline

  function drawTimeline() {
    const entry = video(), box = at("timeline");
    state.moveCursor = state.reveal = () => {};
    if (!entry) return box.replaceChildren();
    const tracks = state.tracks, zoom = Number(at("zoom").value);
    const width = Math.max(300, box.clientWidth) * zoom;
    const x = (second) => LEFT + (Math.min(second, entry.seconds) / entry.seconds) * (width - LEFT - RIGHT);
    const picture = svg("svg", { width, role: "img" });
    const titles = svg("g");
    let y = 4;
    const title = (text, extra = []) => {
      titles.append(svg("text", { x: 6, y: y + 12 }, text));
      let place = 6 + 7 * text.length + 14;
      for (const [style, name] of extra) {
        titles.append(svg("path", { class: style, d: `M${place} ${y + 8}h26` }), svg("text", { x: place + 30, y: y + 12 }, name));
        place += 30 + 7 * name.length + 14;
      }
      y += 18;
    };

    // Detections by class, the class of the surest one first.
    for (const elements of state.marked.values()) elements.splice(0, elements.length, ...elements.filter((e) => e.tagName !== "rect"));
    const drawn = visible();
    const span = page.highest - page.lowest || 1;
    for (const label of new Set(drawn.map(([own]) => own))) {
      title(short(page.classes[label]));
      for (const row of inRows(drawn.filter(([own]) => own === label))) {
        for (const one of row) {
          const strength = Math.min(1, Math.max(0, (one[3] - page.lowest) / span));
          const tall = 6 + 8 * strength;
          const bar = svg("rect", {
            class: "found", x: x(one[1]), y: y + 14 - tall, width: Math.max(2, x(one[2]) - x(one[1])), height: tall,
            "fill-opacity": (0.25 + 0.75 * strength).toFixed(2),
          }, svg("title", {}, `${told(one)}. A click plays from its start.`));
          bar.addEventListener("click", (event) => {
            event.stopPropagation();
            choose(one, { playing: true });
          });
          picture.append(mark(one, bar));
        }
        y += 17;
      }
      y += 3;
    }
    if (!drawn.length) title(entry.found.length ? "No detection reaches the score." : "Nothing was found.");

    const chart = (height, curves) => {
      y += 5; // the level "1" stands below the title
      for (const level of [0, 0.5, 1]) {
        const place = y + (1 - level) * height;
        picture.append(svg("path", { class: "axis", d: `M${LEFT} ${place}H${width - RIGHT}` }));
        titles.append(svg("text", { x: LEFT - 5, y: place + 4, "text-anchor": "end", class: "quiet" }, String(level)));
      }
      for (const [style, values] of curves) {
        const points = Array.from(values, (value, i) => {
          const end = Math.min(entry.seconds, entry.starts[i + 1] ?? entry.starts[i] + (i ? entry.starts[i] - entry.starts[i - 1] : entry.seconds));
          return [x((entry.starts[i] + end) / 2), y + (1 - value / 255) * height];
        });
        // From edge to edge, as the first and last snippets are.
        const all = [[LEFT, points[0][1]], ...points, [width - RIGHT, points[points.length - 1][1]]];
        picture.append(svg("path", { class: style, d: line(all) }));
      }
      y += height + 8;
    };
    const narrow = box.clientWidth < 560;
    y += 4;
    title("Foreground", [
      ["attention", narrow ? "P^A" : "P^A attention"],
      ...(tracks.mixed ? [["clusters", narrow ? "P^T" : "P^T clusters"], ["both", narrow ? "P^M" : "P^M both"]] : []),
    ]);
    chart(88, [["attention", tracks.attention], ...(tracks.mixed ? [["clusters", tracks.transformed], ["both", tracks.mixed]] : [])]);
    if (tracks.cas[state.label]) {
      title(`T-CAS of ${short(page.classes[state.label])}`);
      chart(56, [["cas", tracks.cas[state.label]]]);
    }
    picture.append(svg("path", { class: "axis", d: `M${LEFT} ${y}H${width - RIGHT}` }));
    const units = entry.seconds > 120 ? [1, 1.2, 3, 6, 12] : undefined; // whole minutes and their parts
    for (const second of ticks(0, entry.seconds, (width - LEFT) / 90, units)) {
      const anchor = x(second) > width - 34 ? "end" : "middle";
      picture.append(svg("path", { class: "axis", d: `M${x(second)} ${y}v5` }),
        svg("text", { x: x(second) + (anchor === "end" ? 8 : 0), y: y + 18, "text-anchor": anchor, class: "quiet" }, entry.seconds < 600 ? `${Number(second.toPrecision(6))} s` : seconds(second)));
    }
    const cursor = svg("path", { class: "cursor" });
    picture.append(cursor, titles);
    picture.setAttribute("height", y + 24);
    picture.setAttribute("aria-label",
      `${entry.name}: ${counted(drawn.length, "detection")}, foreground probabilities and the activation of ` +
      `${page.classes[state.label]} over ${seconds(entry.seconds)}; the table tells the segments`);
    picture.addEventListener("click", (event) => {
      const place = event.clientX - picture.getBoundingClientRect().left;
      state.chosen = null;
      seek(((place - LEFT) / (width - LEFT - RIGHT)) * entry.seconds);
    });
    const scrolled = box.scrollLeft;
    box.replaceChildren(picture);
    box.scrollLeft = scrolled;
    state.keepTitles = () => titles.setAttribute("transform", `translate(${box.scrollLeft} 0)`);
    state.keepTitles();
    const bottom = y;
    state.moveCursor = () => cursor.setAttribute("d", `M${x(state.cursor).toFixed(2)} 2V${bottom}`);
    state.moveCursor();
    state.reveal = () => {
      if (zoom === 1) return;
      const place = x(state.cursor);
      if (place < box.scrollLeft + LEFT || place > box.scrollLeft + box.clientWidth - RIGHT) box.scrollLeft = place - 0.2 * box.clientWidth;
    };
  }

  // ---------------------------------------------------------------- table and pictures

  function drawLists() {
    const entry = video();
    state.marked.clear();
    const shown = visible(), left = above().length - shown.length;
    const rows = shown.map((one) => {
      const [label, start, end, score] = one;
      const button = html("button", { type: "button", title: "plays from its start" }, page.classes[label]);
      const row = html("tr", {}, html("th", { scope: "row" }, button), ...[start, end, score].map((value) => html("td", {}, number(value))));
      row.addEventListener("click", () => choose(one, { playing: true }));
      return mark(one, row);
    });
    at("listed").replaceChildren(
      html("table", {},
        html("caption", {}, entry ? `Detections in ${entry.name}, the surest first${left ? `; ${left} less sure ones are left out` : ""}` : "No video"),
        html("thead", {}, html("tr", {}, ...["class", "from (s)", "to (s)", "score"].map((name) => html("th", { scope: "col" }, name)))),
        html("tbody", {}, ...rows)),
    );
    at("listed").scrollTop = 0;
    const pictured = inTime().filter((one) => entry.pictures[entry.found.indexOf(one)]);
    at("pictures").hidden = !pictured.length;
    at("pictures").replaceChildren(...pictured.map((one) => {
      const source = `data:image/jpeg;base64,${entry.pictures[entry.found.indexOf(one)]}`;
      const button = html("button", { type: "button", class: "picture", title: `${told(one)}. A click plays from its start.` },
        html("img", { src: source, alt: "" }), html("span", {}, short(page.classes[one[0]], 24)), html("span", { class: "quiet" }, `${seconds(one[1])}, score ${number(one[3])}`));
      button.addEventListener("click", () => choose(one, { playing: true }));
      return mark(one, button);
    }));
  }

  function drawSummary() {
    const entry = video();
    at("score-value").textContent = number(state.score);
    at("earlier").disabled = at("later").disabled = !above().length;
    if (!entry) {
      at("summary").textContent = "No video matches.";
      return;
    }
    const place = page.videos.length > 1 ? `, ${state.shown.indexOf(state.current) + 1} of ${state.shown.length}` : "";
    at("summary").textContent =
      `${entry.name}${place}: ${seconds(entry.seconds)}, ${above().length} of ${counted(entry.found.length, "detection")} from score ${number(state.score)}`;
  }

  function draw() {
    drawLists();
    drawTimeline();
    drawSummary();
    highlight();
  }

  // ---------------------------------------------------------------- the list of videos

  function show(position) {
    state.current = position;
    if (position >= 0) state.before = position;
    at("timeline").scrollLeft = at("pictures").scrollLeft = 0;
    state.cursor = 0;
    state.chosen = null;
    const entry = video();
    at("previous").disabled = at("next").disabled = state.shown.length < 2;
    at("class").replaceChildren();
    at("readout").textContent = "";
    document.querySelector(".stage").hidden = !entry;
    if (entry) {
      state.tracks = unpack(entry);
      at("video").value = String(position);
      const found = new Set(entry.found.map(([label]) => label));
      at("class").append(...entry.classes.map((label) => html("option", { value: label }, page.classes[label] + (found.has(label) ? " (found)" : ""))));
      state.label = entry.classes[0] ?? -1;
      at("class").value = String(state.label);
      draw();
    } else drawSummary();
    load(entry);
    if (entry) moveTo(0, false);
    nameInAddress(entry);
  }

  /** Lists the videos whose names or detected classes match the search. */
  function list(keep) {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (entry) => [entry.name, ...new Set(entry.found.map(([label]) => page.classes[label]))].join(" ").toLowerCase();
    const before = state.current;
    state.shown = page.videos.flatMap((entry, position) => (words.every((word) => text(entry).includes(word)) ? [position] : []));
    at("video").replaceChildren(...state.shown.map((position) => {
      const { name, found } = page.videos[position];
      return html("option", { value: position }, `${name} – ${counted(found.length, "detection")}`);
    }));
    const next = keep && state.shown.includes(state.before) ? state.before : (state.shown[0] ?? -1);
    if (next >= 0 && next === before) { // goes on playing
      at("video").value = String(next);
      at("previous").disabled = at("next").disabled = state.shown.length < 2;
      drawSummary();
    } else show(next);
  }

  function go(by) {
    if (state.shown.length < 2) return;
    const place = state.shown.indexOf(state.current) + by;
    show(state.shown[(place + state.shown.length) % state.shown.length]);
  }

  // ---------------------------------------------------------------- keys

  /** Moves by snippets, from one start to another. */
  function bySnippets(count) {
    const [first] = video().starts, place = (state.cursor - first) / video().step;
    const from = count > 0 ? Math.floor(place + 1e-3) : Math.ceil(place - 1e-3);
    state.chosen = null;
    seek(first + (from + count) * video().step, true);
  }

  function actionOf(event) {
    const far = event.shiftKey ? FAR : 1;
    const actions = {
      " ": toggle,
      ArrowLeft: () => bySnippets(-far),
      ArrowRight: () => bySnippets(far),
      Home: () => seek(0, true),
      End: () => seek(video().seconds, true),
      "[": () => step(-1),
      "]": () => step(1),
      j: () => go(1),
      k: () => go(-1),
    };
    if (event.target.closest("#timeline, #player")) Object.assign(actions, { ArrowUp: actions["["], ArrowDown: actions["]"] });
    return video() ? actions[event.key] : undefined;
  }

  function onKey(event) {
    if (!at("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target !== document.body && !at("browser").contains(target)) return;
    if (target.closest("input:not([type=checkbox]), select, summary")) return;
    if (event.key === " " && target.closest("button, input")) return;
    // What can be scrolled keeps its keys.
    const box = target.closest(".wide");
    const wide = box && box.scrollWidth > box.clientWidth, tall = box && box.scrollHeight > box.clientHeight;
    if ((wide && event.key.startsWith("Arrow")) || (tall && [" ", "Home", "End"].includes(event.key))) return;
    const action = event.key === "/" && page.videos.length > 1 ? () => at("search").focus() : actionOf(event);
    if (!action) return;
    action();
    event.preventDefault();
    event.stopPropagation(); // the player has keys of its own
  }

  function start() {
    at("browser").hidden = false;
    const slider = at("score"), summary = at("summary");
    Object.assign(slider, { min: page.lowest, max: page.highest, step: 0.01, value: page.score });
    state.score = Number(slider.value);
    slider.addEventListener("change", () => summary.setAttribute("aria-live", "polite"));
    slider.addEventListener("input", () => {
      summary.setAttribute("aria-live", "off"); // the slider says its value itself
      state.score = Number(slider.value);
      if (video()) draw();
      else drawSummary();
    });
    at("search").addEventListener("input", () => list(true));
    at("video").addEventListener("change", () => show(Number(at("video").value)));
    at("previous").addEventListener("click", () => go(-1));
    at("next").addEventListener("click", () => go(1));
    at("earlier").addEventListener("click", () => step(-1));
    at("later").addEventListener("click", () => step(1));
    const redraw = () => {
      drawTimeline();
      highlight();
    };
    at("zoom").addEventListener("change", () => {
      redraw();
      state.reveal();
    });
    at("class").addEventListener("change", () => {
      state.label = Number(at("class").value);
      redraw();
      moveTo(state.cursor, false);
    });
    at("timeline").addEventListener("scroll", () => state.keepTitles?.());
    document.addEventListener("keydown", onKey, true);
    player.addEventListener("play", followWhilePlaying);
    for (const name of ["timeupdate", "seeked"]) player.addEventListener(name, follow);
    player.addEventListener("error", () => state.playable && giveUp());
    // A codec that is not known may leave the sound alone.
    player.addEventListener("loadedmetadata", () => state.playable && !player.videoWidth && giveUp());

    followAddress({
      videos: page.videos,
      search: at("search"),
      list,
      listed: (position) => state.shown.includes(position),
      show,
    });
    followWidth(redraw);
  }

  start();
})();

"use strict";
(function () {
  const embedded = document.getElementById("map-data");  // absent when no run has a map
  const data = embedded ? JSON.parse(embedded.textContent) : { names: [], sprite: null };
  const tip = document.getElementById("tip");
  const canvas = tip.querySelector("canvas");
  const words = tip.querySelector("span");
  const charts = Array.from(document.querySelectorAll("svg.map"));
  const sheet = new Image();
  if (data.sprite) sheet.src = data.sprite.uri;

  // The place of each mark in its drawing, measured once, when a map is first touched.
  const places = new Map();
  function placesOf(chart) {
    if (!places.has(chart)) {
      places.set(chart, Array.from(chart.querySelectorAll("[data-i]")).map(function (mark) {
        const box = mark.getBBox();
        return { mark: mark, item: Number(mark.dataset.i), x: box.x + box.width / 2, y: box.y + box.height / 2 };
      }).sort(function (a, b) { return a.x - b.x || a.y - b.y; }));
    }
    return places.get(chart);
  }

  function nearest(chart, clientX, clientY) {
    const point = new DOMPoint(clientX, clientY).matrixTransform(chart.getScreenCTM().inverse());
    let best = null, bestDistance = 196;
    for (const place of placesOf(chart)) {
      const distance = (place.x - point.x) ** 2 + (place.y - point.y) ** 2;
      if (distance < bestDistance) { best = place; bestDistance = distance; }
    }
    return best;
  }

  function hide() {
    tip.hidden = true;
    for (const mark of document.querySelectorAll("svg .hot")) mark.classList.remove("hot");
  }

  function show(chart, place) {
    hide();
    for (const other of charts) {
      for (const mark of other.querySelectorAll('[data-i="' + place.item + '"]')) mark.classList.add("hot");
    }
    words.textContent = data.names[place.item];
    canvas.hidden = !data.sprite;
    if (data.sprite) {
      const side = data.sprite.side;
      canvas.width = side; canvas.height = side;
      tip.classList.toggle("smooth", side > 40);
      canvas.getContext("2d").drawImage(sheet, place.item % data.sprite.columns * side, Math.floor(place.item / data.sprite.columns) * side, side, side, 0, 0, side, side);
    }
    moveTo(place.mark);
  }

  function moveTo(mark) {
    tip.hidden = false;
    const box = mark.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const left = box.right + 10 + size.width > window.innerWidth ? box.left - size.width - 10 : box.right + 10;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, Math.min(box.top - 10, window.innerHeight - size.height - 4)) + "px";
  }

  for (const chart of charts) {
    const pane = chart.closest(".pane");
    let current = -1;
    pane.addEventListener("pointermove", function (event) {
      const found = nearest(chart, event.clientX, event.clientY);
      if (found) show(chart, found); else hide();
    });
    pane.addEventListener("pointerleave", hide);
    pane.addEventListener("blur", hide);
    pane.addEventListener("keydown", function (event) {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 }[event.key];
      const all = placesOf(chart);
      if (event.key === "Escape") hide();
      if (!step || !all.length) return;
      event.preventDefault();
      current = (current < 0 ? (step > 0 ? 0 : all.length - 1) : current + step + all.length) % all.length;
      show(chart, all[current]);
    });
  }
  document.addEventListener("scroll", hide, { passive: true });

  // Marks of other charts bring their values in a <title>, which shows only under a pointer at rest. Here they show at
  // once, and by keyboard where a chart has marks of their own besides lines.
  for (const chart of document.querySelectorAll("svg.chart:not(.map)")) {
    const values = new Map();
    for (const title of chart.querySelectorAll("title")) values.set(title.parentElement, title.textContent);
    const marks = Array.from(values.keys());
    if (!marks.length) continue;
    for (const mark of marks) mark.querySelector("title").remove();  // or it would show a second time
    const showValue = function (mark) {
      hide();
      canvas.hidden = true;
      words.textContent = values.get(mark);
      moveTo(mark);
    };
    chart.addEventListener("pointermove", function (event) {
      const mark = marks.find(function (each) { return each.contains(event.target); });
      if (mark) showValue(mark); else hide();
    });
    chart.addEventListener("pointerleave", hide);
    if (!marks.some(function (mark) { return mark.localName === "g"; })) continue;
    let current = -1;
    chart.tabIndex = 0;
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", function (event) {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      current = (current < 0 ? (step > 0 ? 0 : marks.length - 1) : current + step + marks.length) % marks.length;
      showValue(marks[current]);
    });
  }

  const buttons = Array.from(document.querySelectorAll(".legend button"));
  for (const button of buttons) {
    button.addEventListener("click", function () {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      const kept = new Set(buttons.filter(function (b) { return b.getAttribute("aria-pressed") === "true"; }).map(function (b) { return b.dataset.m; }));
      for (const chart of charts) {
        chart.classList.toggle("dimmed", kept.size > 0);
        for (const mark of chart.querySelectorAll("[data-m]")) mark.classList.toggle("kept", kept.has(mark.dataset.m));
      }
    });
  }

  // Facts that differ from run to run are in provenance.js beside the page; without it the page says so.
  const records = Array.isArray(window.REPRISE_PROVENANCE) ? window.REPRISE_PROVENANCE : [];
  if (!records.length) return;
  function unique(name, text) {
    return Array.from(new Set(records.map(function (r) { return r[name] === undefined || r[name] === null ? null : text(r[name]); }).filter(Boolean))).sort();
  }
  function packages(found) {
    return Object.keys(found).sort().map(function (name) { return name + " " + found[name]; }).join(", ");
  }
  const facts = [
    ["Machine", unique("machine", String)],
    ["Python", unique("python", String)],
    ["Packages", unique("packages", packages)],
    ["Revision", unique("revision", String)],
  ];
  const list = document.getElementById("provenance-facts");
  list.textContent = "";
  for (const [title, values] of facts) {
    const row = list.insertRow();
    const head = document.createElement("th");
    head.scope = "row"; head.textContent = title;
    row.append(head);
    row.insertCell().textContent = values.join("; ") || "not recorded";
  }
  const body = document.getElementById("provenance-rows");
  const rate = function (r) {
    const name = Object.keys(r).find(function (key) { return /(images|samples).*(second|_s$)/.test(key); });
    return name && typeof r[name] === "number" ? r[name].toLocaleString("en", { maximumFractionDigits: 0 }) : "–";
  };
  for (const record of records) {
    const row = body.insertRow();
    const head = document.createElement("th");
    head.scope = "row"; head.textContent = record.record;
    row.append(head);
    row.insertCell().textContent = typeof record.began === "string" ? record.began : "–";
    row.insertCell().textContent = typeof record.seconds === "number" ? record.seconds.toFixed(1) : "–";
    row.insertCell().textContent = rate(record);
  }
  document.getElementById("provenance-table").hidden = false;
  const total = records.reduce(function (sum, r) { return sum + (typeof r.seconds === "number" ? r.seconds : 0); }, 0);
  document.getElementById("provenance-total").textContent = "All recorded stages together: " + total.toFixed(0) + " s.";
})();

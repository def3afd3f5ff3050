"use strict";
// Fetches the page every tick and updates only what changed, so that focus, scroll position and
// typed text are kept. Pauses while the page is hidden or text is selected. If the exporter does
// not respond, shows a notice and retries.

const RETRY_SECONDS = 2;
const COPY_SECONDS = 5; // enough to copy the selected text
const waiting = document.getElementById("waiting");
let failingSince = null;
let selectedSince = null;

function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.id !== fresh.id || key(old) !== key(fresh)) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else if (old.id !== "words") {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const [ours, theirs] = [[...old.childNodes], [...fresh.childNodes]];
    theirs.forEach((node, index) => (ours[index] ? morph(ours[index], node) : old.append(node)));
    ours.slice(theirs.length).forEach((node) => node.remove());
  }
}

function key(node) {
  return node.dataset?.key;
}

// Hides the runs that lack one of the words. Without scripts the exporter filters them.
function filter() {
  const field = document.getElementById("words");
  const rows = [...document.querySelectorAll("tr[data-words]")];
  if (!field || !isLive() || !rows.length) return;
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) row.hidden = !words.every((word) => row.dataset.words.includes(word));
  const left = rows.filter((row) => !row.hidden).length;
  const found = words.length ? `${left} of ${rows.length} on this page` : `${rows.length} on this page`;
  const output = document.getElementById("found");
  if (output.textContent !== found) output.textContent = found;
}

function isLive() {
  return Boolean(document.querySelector("main").dataset.seconds);
}

function search() {
  const url = new URL(location.href);
  const text = document.getElementById("words").value;
  if (text) url.searchParams.set("q", text);
  else url.searchParams.delete("q");
  history.replaceState(null, "", url);
  filter();
}

async function refresh() {
  const url = new URL(location.href);
  url.searchParams.delete("q"); // fetch all runs: they are filtered here
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(10000) });
    if (response.status >= 500) throw new Error(response.statusText);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    morph(document.querySelector("main"), page.querySelector("main"));
    document.title = page.title;
    filter();
    failingSince = null;
  } catch {
    failingSince ??= new Date();
  }
}

function outdated() {
  if (selectedSince && Date.now() - selectedSince >= 1000 * COPY_SECONDS) {
    return [selectedSince, "Text is selected", "updates resume when the selection is cleared"];
  }
  return failingSince && [failingSince, "No response", "updates resume automatically"];
}

function showStatus() {
  const [since, reason, remedy] = outdated() ?? [];
  const text = since
    ? `${reason} since ${since.toISOString().slice(11, 19)} UTC. The values are outdated; ${remedy}.`
    : "";
  document.body.classList.toggle("stale", text !== "");
  if (waiting.textContent !== text) waiting.textContent = text;
}

async function update() {
  const selected = String(getSelection()) !== "";
  selectedSince = selected ? (selectedSince ?? new Date()) : null;
  if (!document.hidden && !selected) await refresh();
  showStatus();
  schedule();
}

function schedule() {
  const seconds = Number(document.querySelector("main").dataset.seconds);
  if (seconds) setTimeout(update, 1000 * (failingSince ? Math.min(seconds, RETRY_SECONDS) : seconds));
}

document.addEventListener("input", (event) => {
  if (event.target.id === "words" && isLive()) search();
});
filter();
schedule();

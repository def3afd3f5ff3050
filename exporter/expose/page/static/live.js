"use strict";
// Fetches the page anew every tick and changes what is other on it, so that focus, scrolling and
// what is typed stay. Waits while the page is hidden or text on it is marked; where the exporter
// does not answer it says so, and goes on when it does.

const RETRY_SECONDS = 2;
const COPY_SECONDS = 5; // enough to copy what is marked
const waiting = document.getElementById("waiting");
let silentSince = null;
let markedSince = null;

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

// Hides the runs that lack one of the words. The exporter does the same where no script runs.
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

function searched() {
  const url = new URL(location.href);
  const text = document.getElementById("words").value;
  if (text) url.searchParams.set("q", text);
  else url.searchParams.delete("q");
  history.replaceState(null, "", url);
  filter();
}

async function refresh() {
  const url = new URL(location.href);
  url.searchParams.delete("q"); // all runs: the words are looked for here
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(10000) });
    if (answer.status >= 500) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    morph(document.querySelector("main"), page.querySelector("main"));
    document.title = page.title;
    filter();
    silentSince = null;
  } catch {
    silentSince ??= new Date();
  }
}

function old() {
  if (markedSince && Date.now() - markedSince >= 1000 * COPY_SECONDS) {
    return [markedSince, "Text is marked", "this page goes on when it is not"];
  }
  return silentSince && [silentSince, "No answer", "this page goes on by itself"];
}

function tell() {
  const [since, why, what] = old() ?? [];
  const said = since
    ? `${why} since ${since.toISOString().slice(11, 19)} UTC. The numbers are old; ${what}.`
    : "";
  document.body.classList.toggle("stale", said !== "");
  if (waiting.textContent !== said) waiting.textContent = said;
}

async function turn() {
  const marked = String(getSelection()) !== "";
  markedSince = marked ? (markedSince ?? new Date()) : null;
  if (!document.hidden && !marked) await refresh();
  tell();
  wait();
}

function wait() {
  const seconds = Number(document.querySelector("main").dataset.seconds);
  if (seconds) setTimeout(turn, 1000 * (silentSince ? Math.min(seconds, RETRY_SECONDS) : seconds));
}

document.addEventListener("input", (event) => {
  if (event.target.id === "words" && isLive()) searched();
});
filter();
wait();

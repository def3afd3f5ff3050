"use strict";
// Fetches the page anew every tick and swaps its main part. Waits while it is hidden or while
// somebody has marked text in it; greys out when the exporter does not answer.

async function refresh() {
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.title = page.title;
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
  }
}

async function turn() {
  const marked = String(getSelection()) !== "";
  if (!document.hidden && !marked) await refresh();
  wait();
}

function wait() {
  setTimeout(turn, Number(document.querySelector("main").dataset.intervalMs));
}

wait();

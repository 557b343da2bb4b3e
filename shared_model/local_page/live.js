"use strict";
// Looks again every few seconds and renews the sections that changed, without a reload. The server
// makes every section; nothing is put together from data here.
(() => {
  const content = document.getElementById("content");
  const sections = document.getElementById("sections");
  const bar = document.getElementById("fresh");
  const word = document.getElementById("fresh-word");
  const time = document.getElementById("fresh-time");
  const every = 1000 * Number(content.dataset.every);
  const seen = new Map();
  let tag = "";
  let reached = new Date();
  let stale = false;

  for (const part of sections.children) seen.set(part.id, part.outerHTML);

  const clock = (date) => date.toISOString().slice(11, 19) + " UTC";
  const say = (text) => { if (word.textContent !== text) word.textContent = text; };

  const fresh = () => {
    reached = new Date();
    stale = false;
    bar.classList.remove("stale");
    say("up to date");
    time.textContent = clock(reached);
  };
  const lost = () => {
    if (stale) return;
    stale = true;
    bar.classList.add("stale");
    say("not up to date since");
    time.textContent = clock(reached);
  };

  // What the reader opened, scrolled and stands on stays as it was.
  const kept = (part) => ({
    open: [...part.querySelectorAll("details")].map((one) => one.open),
    scroll: [...part.querySelectorAll(".scroll, pre")].map((one) => [one.scrollLeft, one.scrollTop]),
    focus: part.contains(document.activeElement) ? place(part, document.activeElement) : -1,
  });
  const place = (part, element) => [...part.querySelectorAll("a, summary, button, pre")].indexOf(element);
  const restore = (part, was) => {
    part.querySelectorAll("details").forEach((one, i) => { if (i in was.open) one.open = was.open[i]; });
    part.querySelectorAll(".scroll, pre").forEach((one, i) => {
      if (i in was.scroll) [one.scrollLeft, one.scrollTop] = was.scroll[i];
    });
    if (was.focus >= 0) [...part.querySelectorAll("a, summary, button, pre")][was.focus]?.focus({ preventScroll: true });
  };

  const renew = (text) => {
    const made = new DOMParser().parseFromString(text, "text/html").getElementById("sections");
    if (!made) return false;
    const names = new Set();
    let before = null;
    for (const part of [...made.children]) {
      names.add(part.id);
      const old = document.getElementById(part.id);
      const html = part.outerHTML;
      if (old && seen.get(part.id) === html) { before = old; continue; }
      seen.set(part.id, html);
      const now = document.importNode(part, true);
      if (old) {
        const was = kept(old);
        old.replaceWith(now);
        restore(now, was);
      } else if (before) before.after(now);
      else sections.prepend(now);
      before = now;
    }
    for (const part of [...sections.children]) if (!names.has(part.id)) { seen.delete(part.id); part.remove(); }
    return true;
  };

  const look = async () => {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), 3 * every);
    try {
      const headers = { "X-Smrfed-Live": "1" };
      if (tag) headers["If-None-Match"] = tag;
      const answer = await fetch(location.pathname + location.search, {
        headers, cache: "no-store", credentials: "same-origin", signal: stop.signal,
      });
      if (answer.status === 401) { location.reload(); return; }
      if (answer.status === 200) {
        if (!renew(await answer.text())) throw new Error("no page");
        tag = answer.headers.get("ETag") || "";
      } else if (answer.status !== 304) throw new Error("status " + answer.status);
      fresh();
    } catch {
      lost();
    } finally {
      clearTimeout(timer);
    }
  };

  const again = async () => {
    if (!document.hidden) await look();
    setTimeout(again, every);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  fresh();
  setTimeout(again, every);
})();
